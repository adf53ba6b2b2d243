//! The shell around the ladder, made of fakes, and the schedule that drives it.

use std::collections::{BTreeMap, VecDeque};

use recording_bridge::delivery::ladder::{
    Alert, Answer, Attempt, Backoff, Command, Failure, FrameHead, Generation, Ladder, Lane, Outcome, Placement,
    Purpose, Sequence, Settings, SpoolFault, State, Time,
};

use recording_bridge::delivery::window::{self, Claim, Proof, Recalled, Stretch, Window};
use recording_bridge::message::Identity;

use super::dice::Dice;
use super::disk::Disk;
use super::kafka::{Kafka, LANES, Life, PARTITIONS, Record};

const STREAMS: usize = 6;
const LANE_FRAMES_MAX: usize = 4;
/// These streams wait for an answer before their next message.
const CLOSED_LOOP_STREAMS: usize = 2;
/// Below the number of lanes, lest all of them be blamed on the topic with nothing to acquit it.
const POISONED_MAX: usize = 3;
const STEP_MAX_MS: usize = 150;
const REST_TICKS_MAX: usize = 4_000;

fn settings() -> Settings {
    let ms = Time::from_millis;
    Settings {
        ack_deadline: ms(1_000),
        append_patience: ms(500),
        watchdog: ms(2_000),
        report_patience: ms(5_000),
        lane_patience: ms(300),
        fatal_grace: ms(200),
        backoff: Backoff { least: ms(50), most: ms(400) },
        unreachable_period: ms(1_000),
        handover_max: ms(500),
        handover_pause: ms(500),
        handover_frames_max: 6,
        parked_max: 4,
        waiting_max: 24,
        lanes: u16::try_from(LANES).expect("few"),
        lane_frames_max: LANE_FRAMES_MAX,
        lane_frames_unproven_max: LANE_FRAMES_MAX / 2,
        lane_bytes_max: 1_000,
        read_pause: ms(40),
        commit_pause: ms(60),
        convictions_max: 3,
    }
}

#[derive(Clone, Copy)]
struct Message {
    stream: usize,
    accepted_at: Time,
    process: usize,
    answer: Option<Answer>,
    dead_lettered: bool,
    lost_in_crash: bool,
    /// Its frame was found unreadable.
    lost_to_damage: bool,
    identity: Identity,
    claim: Option<Claim>,
    /// Repeats that wait for its outcome.
    joined: usize,
}

/// What a message rests on, and which message it is.
#[derive(Clone, Copy)]
enum Kept {
    Kafka(usize),
    Spool(Sequence, usize),
}

impl Proof for Kept {
    fn frame(&self) -> Option<u64> {
        match self {
            Self::Kafka(_) => None,
            Self::Spool(sequence, _) => Some(sequence.0),
        }
    }
}

/// Short and small, so that schedules reach its ends.
const REPEATS: window::Config = window::Config { period: Time::from_secs(4), entries_max: 12 };

/// What came of repeats.
#[derive(Clone, Copy)]
pub(crate) enum Repeat {
    Remembered,
    JoinedSafe,
    JoinedRefused,
    Conflict,
    Forgotten,
}

pub(crate) struct World {
    dice: Dice,
    now: Time,
    ladder: Ladder,
    commands: Vec<Command>,
    kafka: Kafka,
    disk: Disk,
    process: usize,
    spoolless: bool,
    messages: Vec<Message>,
    poisoned: usize,
    numbers: BTreeMap<Sequence, usize>,
    /// Frames whose bytes the shell holds for the drain.
    held: BTreeMap<Sequence, usize>,
    starting: VecDeque<(Generation, Purpose)>,
    read: Option<(Sequence, Sequence)>,
    commit: Option<Sequence>,
    dead_letters: VecDeque<(Sequence, Lane)>,
    blamed: bool,
    finished: bool,
    /// Drain producers that owe an acknowledgement, and since when.
    owing: Vec<(Generation, Time)>,
    handover_since: Option<Time>,
    /// Frames set aside since the drain was last acknowledged.
    convicted_in_a_row: u32,
    condemned: std::collections::BTreeSet<usize>,
    trace: bool,
    window: Window<Kept>,
    pub(crate) reached: [usize; 5],
    pub(crate) dead_lettered: usize,
    pub(crate) repeats: [usize; 5],
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let spoolless = dice.percent(8);
        let mut disk = Disk::default();
        let found = (!spoolless).then(|| disk.crash(&mut dice));
        Self {
            ladder: Ladder::new(settings(), found),
            dice,
            now: Time::ZERO,
            commands: Vec::new(),
            kafka: Kafka::new(),
            disk,
            process: 0,
            spoolless,
            messages: Vec::new(),
            poisoned: 0,
            numbers: BTreeMap::new(),
            held: BTreeMap::new(),
            starting: VecDeque::new(),
            read: None,
            commit: None,
            dead_letters: VecDeque::new(),
            blamed: false,
            finished: false,
            owing: Vec::new(),
            handover_since: None,
            convicted_in_a_row: 0,
            condemned: std::collections::BTreeSet::new(),
            trace,
            window: Window::new(REPEATS),
            reached: [0; 5],
            dead_lettered: 0,
            repeats: [0; 5],
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>6} ms {:?}: {}", self.now.as_millis(), self.ladder.state(), what());
        }
    }

    /// A whole schedule: faults, then rest, then the law.
    pub(crate) fn run(&mut self) {
        self.settle_in();
        let steps = 30 + self.dice.below(120);
        for _ in 0..steps {
            self.step();
        }
        self.heal();
        self.rest();
        self.check();
    }

    /// Half of the schedules begin in Direct.
    fn settle_in(&mut self) {
        self.tick(0);
        if self.dice.percent(50) {
            while let Some((generation, purpose)) = self.starting.pop_front() {
                self.create(generation, purpose, true);
            }
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=29 => self.arrive(false),
            30..=39 => {
                let by = self.dice.below(STEP_MAX_MS);
                self.tick(by);
            }
            40..=54 => self.progress_kafka(),
            55..=72 => self.progress_reports(),
            73..=90 => self.progress_shell(),
            91..=97 => self.fault(),
            98 if self.dice.percent(40) => self.crash(),
            99 if self.dice.percent(30) => self.stop(),
            _ => self.tick(STEP_MAX_MS),
        }
        self.pump(false);
    }

    fn arrive(&mut self, wholesome: bool) {
        let (stream, identity) = self.callback();
        if self.is_answered_as_repeat(identity) {
            return;
        }
        let waits = |message: &Message| message.stream == stream && message.answer.is_none() && !message.lost_in_crash;
        if stream < CLOSED_LOOP_STREAMS && self.messages.iter().any(waits) {
            return;
        }
        let poisoned = !wholesome && self.poisoned < POISONED_MAX && self.dice.percent(3);
        let placement = self.ladder.arrive(self.now, &mut self.commands);
        let message = self.messages.len();
        self.note(|| format!("message {message} of stream {stream}: {placement:?}"));
        let sequence = match placement {
            Placement::Send(attempt) => attempt.sequence,
            Placement::Hold(sequence) => sequence,
            Placement::Refused(_) => {
                self.obey();
                return;
            }
        };
        self.poisoned += usize::from(poisoned);
        let claim = self.window.claim(identity, sequence.0, self.now);
        self.messages.push(Message {
            stream,
            accepted_at: self.now,
            process: self.process,
            answer: None,
            dead_lettered: false,
            lost_in_crash: false,
            lost_to_damage: false,
            identity,
            claim,
            joined: 0,
        });
        self.kafka.records.push(Record { poisoned, first_copy: None });
        assert!(self.numbers.insert(sequence, message).is_none(), "number {sequence:?} was given twice");
        if let Placement::Send(attempt) = placement {
            self.send(attempt);
        }
        self.obey();
    }

    /// Stream and identity of the next callback: a new event, or one that was seen before, perhaps with other facts.
    fn callback(&mut self) -> (usize, Identity) {
        if self.messages.is_empty() || self.dice.percent(60) {
            let event_id = self.messages.len() as u128;
            return (self.dice.below(STREAMS), Identity { event_id: event_id + 1, facts: 0 });
        }
        // The sender repeats what is young.
        let back = self.dice.below(self.messages.len().min(12)) + 1;
        let Message { stream, mut identity, .. } = self.messages[self.messages.len() - back];
        if self.dice.percent(15) {
            identity.facts = self.dice.below(6) as u128;
        }
        (stream, identity)
    }

    /// Whether the window answers this callback, or makes it wait for the outcome of another.
    fn is_answered_as_repeat(&mut self, identity: Identity) -> bool {
        match self.window.recall(identity, self.now) {
            Recalled::Unknown => false,
            Recalled::Conflict(facts) => {
                assert_ne!(facts, identity.facts);
                self.repeats[Repeat::Conflict as usize] += 1;
                false
            }
            Recalled::InFlight(claim) => {
                let number = self.numbers[&Sequence(claim.sequence())];
                let message = &mut self.messages[number];
                assert!(message.answer.is_none() && message.identity == identity, "message {number} is in flight");
                message.joined += 1;
                self.note(|| format!("a repeat waits for message {number}"));
                true
            }
            Recalled::Safe(kept) => {
                let (Kept::Kafka(number) | Kept::Spool(_, number)) = kept;
                self.note(|| format!("a repeat of message {number} is answered with 200"));
                assert_eq!(self.messages[number].identity, identity, "message {number} is another one");
                self.check_durable(kept);
                self.repeats[Repeat::Remembered as usize] += 1;
                true
            }
        }
    }

    /// A repeat may be answered with 200 only if the event is safe, as far as anybody can know.
    fn check_durable(&self, kept: Kept) {
        let safe = match kept {
            Kept::Kafka(number) => self.kafka.records[number].first_copy.is_some(),
            Kept::Spool(sequence, number) => {
                let frame = self.disk.synced.get(&sequence).or(self.disk.damaged.get(&sequence)) == Some(&number);
                let done = self.messages[number].dead_lettered || self.kafka.records[number].first_copy.is_some();
                done || (frame && !self.disk.in_doubt)
            }
        };
        let (Kept::Kafka(number) | Kept::Spool(_, number)) = kept;
        assert!(safe, "a repeat of message {number} was answered with 200, but its event is not safe");
    }

    fn forget(&mut self, stretches: &[Stretch]) {
        self.repeats[Repeat::Forgotten as usize] += self.window.forget(stretches);
    }

    fn send(&mut self, attempt: Attempt) {
        let purpose = self.kafka.find(self.process, attempt.generation).expect("it was created").purpose;
        let message = if purpose == Purpose::Direct {
            let open = (0..self.messages.len()).find(|message| self.is_spooled_and_open(*message));
            assert_eq!(open, None, "a message was sent directly while that one is spooled");
            self.numbers[&attempt.sequence]
        } else {
            *self.held.get(&attempt.sequence).expect("the bytes of a frame that is sent are at hand")
        };
        let lane = self.messages[message].stream % LANES;
        let result = self.kafka.send(self.process, attempt, message, lane);
        self.note(|| format!("send {attempt:?} of message {message}: {result:?}"));
        if result.is_ok()
            && purpose == Purpose::Drain
            && !self.owing.iter().any(|(other, _)| *other == attempt.generation)
        {
            self.owing.push((attempt.generation, self.now));
        }
        if let Err(why) = result {
            self.ladder.send_refused(attempt, why, self.now, &mut self.commands);
            self.obey();
        }
    }

    fn is_spooled_and_open(&self, message: usize) -> bool {
        let found = &self.messages[message];
        let copied = self.kafka.records[message].first_copy.is_some();
        let safe = found.dead_lettered || found.lost_to_damage || copied;
        found.answer == Some(Answer::Spool) && !safe
    }

    /// Hands over what the ladder wants to send, all of it or some.
    fn pump(&mut self, all: bool) {
        let most = if all { usize::MAX } else { self.dice.below(8) };
        for _ in 0..most {
            let Some(attempt) = self.ladder.next_send(self.now) else { break };
            self.send(attempt);
        }
    }

    fn tick(&mut self, by_ms: usize) {
        self.now += Time::from_millis(by_ms as u64);
        self.ladder.tick(self.now, &mut self.commands);
        self.obey();
        if self.ladder.state() == State::Handover {
            let held = self.now - *self.handover_since.get_or_insert(self.now);
            assert!(held <= settings().handover_max, "the gate has been held for {held:?}");
        } else {
            self.handover_since = None;
        }
        let most = settings().watchdog + settings().fatal_grace + Time::from_millis(STEP_MAX_MS as u64);
        for (generation, since) in &self.owing {
            let owed = self.now - *since;
            assert!(owed <= most, "{generation:?} has owed an acknowledgement for {owed:?}");
        }
    }

    /// Carries out the ladder's commands.
    fn obey(&mut self) {
        let commands = std::mem::take(&mut self.commands);
        for command in &commands {
            self.note(|| format!("    {command:?}"));
            match *command {
                Command::Answer(sequence, answer) => self.answer(sequence, answer),
                Command::Append(sequence) => self.disk.queue.push_back((sequence, self.numbers[&sequence])),
                Command::StartProducer(generation, purpose, _) => {
                    self.starting.push_back((generation, purpose));
                }
                Command::RetireProducer(generation) => {
                    self.starting.retain(|(other, _)| *other != generation);
                    let process = self.process;
                    let found = |producer: &super::kafka::Producer| {
                        producer.process == process && producer.generation == generation
                    };
                    self.owing.retain(|(other, _)| *other != generation);
                    if let Some(index) = self.kafka.producers.iter().position(found) {
                        self.check_retirement(index);
                        self.kafka.purge(index, &mut self.dice);
                    }
                }
                Command::ReadSpool { after, through } => {
                    assert!(self.read.replace((after, through)).is_none(), "one read at a time");
                }
                Command::Release(sequence) => {
                    self.held.remove(&sequence);
                }
                Command::Commit(watermark) => {
                    assert!(self.commit.replace(watermark).is_none(), "one commit at a time");
                    self.check_commit(watermark);
                }
                Command::DeadLetter(sequence, lane) => {
                    assert!(self.held.contains_key(&sequence), "the bytes of a convicted frame are at hand");
                    self.convicted_in_a_row += u32::from(self.condemned.insert(self.held[&sequence]));
                    let most = settings().convictions_max;
                    assert!(self.convicted_in_a_row < most, "the topic is to blame, not {most} messages in a row");
                    self.dead_letters.push_back((sequence, lane));
                }
                Command::ProbeSpool => self.disk.probes += 1,
                Command::Alert(alert) => self.blamed |= alert == Alert::TopicRefuses,
                Command::Moved(state, _) => self.reached[state as usize] += 1,
                Command::Finished => self.finished = true,
            }
        }
        self.commands = commands;
        self.commands.clear();
    }

    /// The direct producer may be purged only when everything that it held is answered.
    fn check_retirement(&self, index: usize) {
        let producer = &self.kafka.producers[index];
        for given in producer.given.iter().filter(|_| producer.purpose == Purpose::Direct) {
            let answer = self.messages[given.message].answer;
            assert!(answer.is_some(), "the producer of message {} was purged before its answer", given.message);
        }
    }

    fn check_commit(&self, watermark: Sequence) {
        for message in self.disk.synced.range(..=watermark).map(|(_, message)| *message) {
            assert!(!self.is_spooled_and_open(message), "message {message} was committed, but is not in Kafka");
        }
    }

    fn answer(&mut self, sequence: Sequence, answer: Answer) {
        let number = self.numbers[&sequence];
        let message = &mut self.messages[number];
        assert_eq!(message.answer, None, "message {number} was answered twice");
        message.answer = Some(answer);
        let waited = self.now - message.accepted_at;
        let most = settings().ack_deadline + settings().append_patience + Time::from_millis(3 * STEP_MAX_MS as u64);
        assert!(waited <= most, "message {number} waited {waited:?}");
        let safe = match answer {
            Answer::Kafka => self.kafka.records[number].first_copy.is_some(),
            Answer::Spool => self.disk.synced.get(&sequence) == Some(&number),
            Answer::Denied(_) => true,
        };
        assert!(safe, "message {number} was answered with {answer:?}, but is not there");
        let (joined, kind, outcome) = match answer {
            Answer::Kafka => (message.joined, Repeat::JoinedSafe, Some(Kept::Kafka(number))),
            Answer::Spool => (message.joined, Repeat::JoinedSafe, Some(Kept::Spool(sequence, number))),
            Answer::Denied(_) => (message.joined, Repeat::JoinedRefused, None),
        };
        self.repeats[kind as usize] += joined;
        if let Some(claim) = message.claim {
            self.window.settle(claim, outcome, self.now);
        }
    }

    /// A random producer, the old ones included, makes some progress.
    fn progress_kafka(&mut self) {
        for _ in 0..4 {
            if self.kafka.producers.is_empty() {
                return;
            }
            let index = self.dice.below(self.kafka.producers.len());
            let partition = self.dice.below(PARTITIONS);
            if self.kafka.progress(index, partition, &mut self.dice) {
                self.note(|| format!("producer {index} made progress on partition {partition}"));
                return;
            }
        }
    }

    /// Some reports reach the ladder: of one producer and partition in order, otherwise in any order.
    fn progress_reports(&mut self) {
        for _ in 0..6 {
            if self.kafka.producers.is_empty() {
                return;
            }
            let index = self.dice.below(self.kafka.producers.len());
            let partition = self.dice.below(PARTITIONS);
            self.deliver_reports(index, partition, 3);
        }
    }

    fn deliver_reports(&mut self, index: usize, partition: usize, most: usize) {
        let producer = &mut self.kafka.producers[index];
        if producer.process != self.process {
            return;
        }
        let generation = producer.generation;
        if producer.fatal_untold && self.dice.percent(60) {
            self.kafka.producers[index].fatal_untold = false;
            self.note(|| format!("{generation:?} is dead"));
            self.ladder.producer_fatal(generation, self.now, &mut self.commands);
            self.obey();
        }
        for _ in 0..most {
            let Some(report) = self.kafka.take_report(index, partition) else { return };
            // A failure may go unheard only when the producer persists nothing more.
            let live = self.kafka.producers[index].life == Life::Ready;
            let failed = report.outcome != Outcome::Delivered && !live;
            if failed && self.dice.percent(self.kafka.reports_lost_percent) {
                continue;
            }
            self.note(|| format!("report {:?}: {:?}", report.attempt, report.outcome));
            self.settle_debt(index, report.attempt, report.outcome);
            self.ladder.report(report.attempt, report.outcome, self.now, &mut self.commands);
            self.obey();
        }
    }

    /// Keeps the books by which the watchdog and the convictions are checked.
    fn settle_debt(&mut self, index: usize, attempt: Attempt, outcome: Outcome) {
        let now = self.now;
        let producer = &mut self.kafka.producers[index];
        producer.owed.retain(|owed| *owed != attempt);
        let current = producer.life != Life::Purged;
        if outcome == Outcome::Delivered && current {
            let clear = producer.owed.is_empty();
            self.owing.retain_mut(|(generation, since)| {
                *since = if *generation == attempt.generation { now } else { *since };
                *generation != attempt.generation || !clear
            });
            if producer.purpose != Purpose::Direct {
                self.convicted_in_a_row = 0;
            }
        }
    }

    fn create(&mut self, generation: Generation, purpose: Purpose, success: bool) {
        if success {
            self.kafka.create(self.process, generation, purpose);
            self.ladder.producer_ready(generation, self.now, &mut self.commands);
        } else {
            self.ladder.producer_failed(generation, self.now, &mut self.commands);
        }
        self.obey();
    }

    /// The appender, the reader, the committer, the dead letters, or the one that creates producers.
    fn progress_shell(&mut self) {
        match self.dice.below(10) {
            0..=2 => self.progress_append(),
            3..=5 => self.progress_read(),
            6 => self.progress_commit(),
            7 => self.progress_dead_letters(),
            _ => {
                if let Some((generation, purpose)) = self.starting.pop_front() {
                    let success = self.dice.percent(90);
                    self.create(generation, purpose, success);
                }
            }
        }
    }

    fn progress_append(&mut self) {
        if let Some((through, result)) = self.disk.append(&mut self.dice) {
            self.note(|| format!("append through {through:?}: {result:?}"));
            match result {
                Ok(()) => self.ladder.appended(through, self.now, &mut self.commands),
                Err(fault) => {
                    if fault == SpoolFault::Unhealthy {
                        self.forget(&[Stretch { after: 0, before: None }]);
                    }
                    self.ladder.append_failed(through, fault, self.now, &mut self.commands);
                }
            }
            self.obey();
        } else if self.disk.probes > 0 && !self.disk.hanging {
            self.disk.probes -= 1;
            let result: Result<(), SpoolFault> = self.disk.fault().map_or(Ok(()), Err);
            self.disk.in_doubt &= result.is_err();
            self.ladder.spool_probed(result, self.now, &mut self.commands);
            self.obey();
        }
    }

    fn progress_read(&mut self) {
        let Some((after, through)) = self.read.take() else { return };
        if self.disk.unreadable {
            self.ladder.read_failed(after, self.now, &mut self.commands);
            self.obey();
            return;
        }
        let most = 1 + self.dice.below(6);
        let range = self.disk.synced.range(Sequence(after.0 + 1)..=through.max(Sequence(after.0 + 1)));
        let found: Vec<_> = range.map(|(sequence, message)| (*sequence, *message)).take(most).collect();
        let covered = if found.len() == most { found[most - 1].0 } else { through };
        for (message, stretch) in self.disk.find_damage(after, covered) {
            self.note(|| format!("the frame of message {message} is damaged: {stretch:?}"));
            self.messages[message].lost_to_damage = true;
            self.forget(&[stretch]);
        }
        let mut frames = Vec::new();
        for (sequence, message) in found {
            self.held.insert(sequence, message);
            let lane = Lane(u16::try_from(self.messages[message].stream % LANES).expect("few"));
            frames.push(FrameHead { sequence, lane, bytes: 100 });
        }
        self.note(|| format!("read after {after:?}: {frames:?} covering {covered:?}"));
        self.ladder.frames_read((after, covered), &frames, self.now, &mut self.commands);
        self.obey();
        assert!(self.held.len() <= LANES * LANE_FRAMES_MAX, "the frames in memory are bounded");
    }

    fn progress_commit(&mut self) {
        let Some(watermark) = self.commit.take() else { return };
        let success = !self.disk.broken && self.dice.percent(90);
        if success {
            self.disk.commit(watermark);
        }
        self.ladder.committed(success, self.now, &mut self.commands);
        self.obey();
    }

    fn progress_dead_letters(&mut self) {
        let Some((sequence, lane)) = self.dead_letters.pop_front() else { return };
        let success = !self.disk.dead_letters_full;
        if success {
            let message = self.held[&sequence];
            assert!(
                self.kafka.records[message].poisoned || self.kafka.topic_refuses || self.refused_of_late(),
                "message {message} was convicted, but is innocent"
            );
            self.messages[message].dead_lettered = true;
            self.dead_lettered += 1;
        }
        self.ladder.dead_lettered((sequence, lane), success, self.now, &mut self.commands);
        self.obey();
    }

    /// Whether the topic refused everything at any time: then even an innocent frame may be among the first that
    /// are set aside.
    fn refused_of_late(&self) -> bool {
        self.kafka.topic_refused
    }

    fn fault(&mut self) {
        let producers = self.kafka.producers.len();
        let chosen = self.dice.below(18);
        self.note(|| format!("fault {chosen}"));
        match chosen {
            0 => self.kafka.down = !self.kafka.down,
            1 => {
                let partition = self.dice.below(PARTITIONS);
                self.kafka.partition_down[partition] = !self.kafka.partition_down[partition];
            }
            2 => {
                self.kafka.topic_refuses = !self.kafka.topic_refuses && self.dice.percent(30);
                self.kafka.topic_refused |= self.kafka.topic_refuses;
            }
            3 => self.kafka.reports_lost_percent = if self.dice.percent(30) { 10 } else { 0 },
            4 | 5 if producers > 0 => {
                let index = self.dice.below(producers);
                self.kafka.kill(index);
            }
            6 | 7 if producers > 0 => {
                let (index, partition) = (self.dice.below(producers), self.dice.below(PARTITIONS));
                let failure = if self.dice.percent(70) { Failure::Transient } else { Failure::Ours };
                let persisted = self.dice.below(3);
                self.kafka.fail(index, partition, failure, persisted);
            }
            8 if producers > 0 => {
                let index = self.dice.below(producers);
                let producer = &self.kafka.producers[index];
                if producer.process == self.process && producer.life == Life::Ready {
                    let generation = producer.generation;
                    self.ladder.brokers_unreachable(generation, self.now, &mut self.commands);
                    self.obey();
                }
            }
            9 => self.disk.full = !self.disk.full && self.dice.percent(50),
            10 => self.disk.broken = !self.disk.broken && self.dice.percent(50),
            11 => self.disk.hanging = !self.disk.hanging,
            12 => self.disk.unreadable = !self.disk.unreadable && self.dice.percent(50),
            13 => self.disk.dead_letters_full = !self.disk.dead_letters_full,
            14 => self.ladder.brokers_probed(self.dice.percent(50), self.now, &mut self.commands),
            15 => self.disk.damage(&mut self.dice),
            16 => {
                let is_down = self.dice.percent(50);
                self.ladder.credentials_changed(is_down, self.now, &mut self.commands);
            }
            _ => self.kafka.down = true,
        }
        self.obey();
    }

    fn heal(&mut self) {
        self.note(|| "every fault ends".to_owned());
        self.kafka.down = false;
        self.kafka.partition_down = [false; PARTITIONS];
        self.kafka.topic_refuses = false;
        self.kafka.reports_lost_percent = 0;
        self.disk.full = false;
        self.disk.broken = false;
        self.disk.hanging = false;
        self.disk.unreadable = false;
        self.disk.dead_letters_full = false;
    }

    /// The process dies without a word, and comes back.
    fn crash(&mut self) {
        self.note(|| "crash".to_owned());
        for message in self.messages.iter_mut().filter(|message| message.answer.is_none()) {
            message.lost_in_crash = true;
        }
        self.restart();
    }

    fn restart(&mut self) {
        for index in 0..self.kafka.producers.len() {
            if self.kafka.producers[index].process == self.process && self.kafka.producers[index].life != Life::Purged {
                self.kafka.purge(index, &mut self.dice);
            }
        }
        self.process += 1;
        let found = (!self.spoolless).then(|| self.disk.crash(&mut self.dice));
        self.disk.queue.clear();
        // Whatever is still in the spool and in the topic too is published again: the watermark lags behind.
        for message in self.disk.synced.values() {
            let copied = self.kafka.records[*message].first_copy.is_some();
            self.kafka.duplicates_explained += usize::from(copied);
        }
        self.numbers.clear();
        self.held.clear();
        self.starting.clear();
        self.dead_letters.clear();
        self.owing.clear();
        (self.read, self.commit, self.finished, self.convicted_in_a_row) = (None, None, false, 0);
        self.note(|| format!("recovered {found:?}"));
        self.ladder = Ladder::new(settings(), found);
        self.window = Window::new(REPEATS);
        self.tick(0);
    }

    /// An orderly stop: everything is answered, whatever is wrong.
    fn stop(&mut self) {
        let began = self.now;
        let deadline = began + Time::from_millis(self.dice.below(800) as u64);
        self.note(|| format!("stop with deadline {deadline:?}"));
        self.ladder.stop(deadline, self.now, &mut self.commands);
        self.obey();
        for _ in 0..60 {
            if self.finished {
                break;
            }
            self.arrive(true);
            self.progress_kafka();
            self.progress_reports();
            self.progress_shell();
            self.pump(false);
            self.tick(STEP_MAX_MS / 2);
        }
        let most = deadline + settings().append_patience + Time::from_millis(3 * STEP_MAX_MS as u64);
        assert!(self.finished, "a stop ends");
        assert!(self.now <= most.max(began), "the stop lasted until {:?}, its deadline was {deadline:?}", self.now);
        let open = |message: &Message| message.answer.is_none() && message.process == self.process;
        assert!(!self.messages.iter().any(open), "a stop answers everything");
        self.restart();
    }

    /// Without faults, everything comes to rest in Direct with an empty spool.
    fn rest(&mut self) {
        for tick in 0..REST_TICKS_MAX {
            if self.is_at_rest() {
                return;
            }
            if self.blamed && tick % 8 == 0 {
                self.arrive(true);
            }
            for index in 0..self.kafka.producers.len() {
                for partition in 0..PARTITIONS {
                    self.kafka.progress(index, partition, &mut self.dice);
                    self.deliver_reports(index, partition, 8);
                }
            }
            self.progress_append();
            self.progress_read();
            self.progress_commit();
            self.progress_dead_letters();
            if let Some((generation, purpose)) = self.starting.pop_front() {
                self.create(generation, purpose, true);
            }
            self.pump(true);
            self.tick(20);
        }
        panic!("no exit from {:?}", self.ladder.state());
    }

    fn is_at_rest(&self) -> bool {
        let answered = |message: &Message| message.answer.is_some() || message.lost_in_crash;
        self.ladder.state() == State::Direct
            && self.commit.is_none()
            && self.disk.queue.is_empty()
            && self.disk.probes == 0
            && (self.spoolless || self.ladder.spool_takes_frames())
            && self.messages.iter().all(answered)
    }

    /// The law.
    fn check(&mut self) {
        let mut newest = [None; STREAMS];
        for (number, message) in self.messages.iter().enumerate() {
            let copy = self.kafka.records[number].first_copy;
            match message.answer {
                Some(Answer::Kafka | Answer::Spool) if message.dead_lettered => {}
                // The disk has lost what it had synced.
                Some(Answer::Spool) if message.lost_to_damage => {}
                Some(Answer::Kafka | Answer::Spool) => {
                    assert!(copy.is_some(), "message {number} is lost");
                    let before = newest[message.stream].replace(copy);
                    assert!(before.is_none_or(|before| before < copy), "message {number} is inverted");
                }
                Some(Answer::Denied(_)) => {}
                None => assert!(message.lost_in_crash, "message {number} has no answer"),
            }
        }
        let (found, explained) = (self.kafka.duplicates, self.kafka.duplicates_explained);
        assert!(found <= explained, "{found} duplicates, of which {explained} are explained");
    }
}
