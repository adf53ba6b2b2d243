//! The gate: the one lock under which the ladder is asked and its commands are carried out.
//!
//! Numbering, placing and sending a message happen in one hold of the lock, so no message can pass an earlier one.
//! Nothing here waits for a disk or the network: what may wait is queued for the threads of `workers`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::held::{Held, Holding};
use super::ladder::{
    Attempt, Command, FrameHead, Generation, Ladder, Lane, Placement, Purpose, Recovered, SendRefusal, Sequence,
    Settings, State,
};
use super::letters::Desk;
use super::repeats::{Arrival, Meeting};
use super::window::Window;
use super::{Config, DeliveryError, Proof};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::kafka::{Delivered, Failure, Producer, Producers, SendError, Trouble};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::spool::{Appended, Frame, Health, Monitor, Status, Storage};

/// How often the end of the process looks whether it has become urgent.
const FLUSH_SLICE: Duration = Duration::from_millis(100);
/// How long the last group commit may take.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);
/// Bits of a producer's token that carry the lane; the rest is the number of the message.
const LANE_BITS: u32 = 16;

/// What the threads of `workers` share with the gate.
pub(super) struct Shared {
    gate: Mutex<Gate>,
    /// One for each thread, so that a wake-up wakes nobody else.
    pub(super) appender: Condvar,
    pub(super) drainer: Condvar,
    pub(super) starter: Condvar,
    pub(super) finished: Condvar,
    pub(super) renewer: Condvar,
    pub(super) producers: Box<dyn Producers>,
    pub(super) metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    origin: Instant,
    /// Whether the last probe found that Kafka could take an event.
    pub(super) kafka_ready: AtomicBool,
    /// What the producers have complained of since a probe found Kafka well.
    pub(super) trouble: Mutex<Option<Trouble>>,
    /// What the last probe found, in words if Kafka was not well; nothing before the first.
    pub(super) probed: Mutex<Option<Result<(), String>>>,
    /// Where convicted frames go.
    pub(super) letters: Option<Arc<Desk>>,
    spool_status: Option<Box<dyn Fn() -> Status + Send + Sync>>,
    config: Config,
}

/// Everything under the lock.
pub(super) struct Gate {
    ladder: Ladder,
    commands: Vec<Command>,
    pub(super) holding: Holding,
    pub(super) window: Window<Proof>,
    /// Frames that were read back from the spool and are not published yet.
    pub(super) frames: HashMap<u64, Frame>,
    pub(super) producers: Vec<(Generation, Arc<dyn Producer>)>,
    pub(super) appends: VecDeque<Append>,
    pub(super) drains: VecDeque<DrainJob>,
    /// Why Kafka refused frames, of those that it refused.
    pub(super) refused: HashMap<u64, Failure>,
    pub(super) starts: VecDeque<(Generation, Purpose)>,
    /// Somebody wants the files of Kafka's login and TLS to be looked at now.
    pub(super) is_look_asked: bool,
    pub(super) is_finished: bool,
}

/// Work for the thread that appends, in its order.
pub(super) enum Append {
    Frame(u64, Timestamp, Arc<Message>),
    Probe,
}

/// Work for the thread that reads and commits.
#[derive(Clone, Copy)]
pub(super) enum DrainJob {
    Read { after: u64, through: u64 },
    Commit(u64),
}

/// What stands behind the answers that an input may bring.
#[derive(Clone, Copy)]
pub(super) enum Grounds {
    None,
    Delivered(Delivered),
    Appended(Appended),
}

impl Shared {
    pub(super) fn new<S: Storage>(
        producers: Box<dyn Producers>,
        recovered: Option<Recovered>,
        monitor: Option<Monitor<S>>,
        letters: Option<Arc<Desk>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Arc<Self> {
        let settings = Settings { ack_deadline: config.ack_deadline, watchdog: config.watchdog, ..Settings::default() };
        let gate = Gate {
            ladder: Ladder::new(settings, recovered),
            commands: Vec::new(),
            holding: Holding::default(),
            window: Window::new(config.repeats),
            frames: HashMap::new(),
            producers: Vec::new(),
            appends: VecDeque::new(),
            drains: VecDeque::new(),
            refused: HashMap::new(),
            starts: VecDeque::new(),
            is_look_asked: false,
            is_finished: false,
        };
        metrics.delivery_state(super::orders::state_label(gate.ladder.state()));
        metrics.repeats.entries_max.set(i64::try_from(gate.window.entries_max()).unwrap_or(i64::MAX));
        Arc::new(Self {
            gate: Mutex::new(gate),
            appender: Condvar::new(),
            drainer: Condvar::new(),
            starter: Condvar::new(),
            finished: Condvar::new(),
            renewer: Condvar::new(),
            producers,
            metrics,
            origin: clock.monotonic(),
            clock,
            kafka_ready: AtomicBool::new(false),
            trouble: Mutex::new(None),
            probed: Mutex::new(None),
            letters,
            spool_status: monitor.map(|monitor| Box::new(move || monitor.status()) as Box<_>),
            config,
        })
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        // A panic under the gate is a defect that leaves callbacks unanswered, which is counted; the rest goes on.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from(self.clock.wall())
    }

    pub(super) fn watchdog(&self) -> Duration {
        self.config.watchdog
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic().saturating_duration_since(self.origin)
    }

    /// A message that arrives: what becomes of it, or why it is refused at once.
    pub(super) fn arrive(&self, message: Message, accepted_at: Timestamp) -> Result<Arrival, DeliveryError> {
        let (waiter, outcome) = oneshot::channel();
        let identity = message.identity();
        let mut message = Arc::new(message);
        let now = self.now();
        let mut guard = self.gate();
        let gate = &mut *guard;
        let (waiter, conflict) = match gate.meet(identity, waiter, now) {
            Meeting::Fresh(waiter, conflict) => (waiter, conflict),
            Meeting::Joined => return Ok(Arrival::Waits(outcome)),
            Meeting::Settled(receipt) => return Ok(Arrival::Settled(receipt)),
        };
        let placement = gate.ladder.arrive(now, &mut gate.commands);
        let (sequence, attempt) = match placement {
            Placement::Send(attempt) => (attempt.sequence.0, Some(attempt)),
            Placement::Hold(sequence) => (sequence.0, None),
            Placement::Refused(denial) => {
                self.carry_out(gate, Grounds::None, now);
                return Err(denial.into());
            }
        };
        if let Some(facts) = conflict {
            Arc::make_mut(&mut message).contradict(facts);
            self.metrics.repeats.conflicts.inc();
        }
        let claim = identity.and_then(|identity| gate.window.claim(identity, sequence, now));
        gate.holding.put(sequence, Held { message, accepted_at, since: now, waiter, joined: Vec::new(), claim });
        self.metrics.outstanding.inc();
        if let Some(attempt) = attempt {
            Self::send(gate, attempt, now);
        }
        self.carry_out(gate, Grounds::None, now);
        Ok(Arrival::Waits(outcome))
    }

    /// Gives the ladder an input, and carries out what follows.
    pub(super) fn input(&self, grounds: Grounds, input: impl FnOnce(&mut Ladder, Duration, &mut Vec<Command>)) {
        let now = self.now();
        let mut guard = self.gate();
        let gate = &mut *guard;
        input(&mut gate.ladder, now, &mut gate.commands);
        self.carry_out(gate, grounds, now);
    }

    /// Time has passed.
    pub(super) fn tick(&self) {
        self.input(Grounds::None, Ladder::tick);
    }

    /// A report of `generation` about `token`.
    pub(super) fn report(&self, generation: u64, token: u64, outcome: Result<Delivered, Failure>) {
        let attempt = Attempt {
            generation: Generation(generation),
            sequence: Sequence(token >> LANE_BITS),
            lane: Lane(u16::try_from(token & 0xffff).unwrap_or_default()),
        };
        let failure = outcome.err();
        let (grounds, outcome) = match outcome {
            Ok(delivered) => (Grounds::Delivered(delivered), super::ladder::Outcome::Delivered),
            Err(failure) => (Grounds::None, super::ladder::Outcome::Failed(super::link::gravity(failure))),
        };
        let now = self.now();
        let mut guard = self.gate();
        let gate = &mut *guard;
        let sequence = attempt.sequence.0;
        let unheard = gate.ladder.state() == State::Direct && gate.holding.get(sequence).is_none();
        if unheard && outcome == super::ladder::Outcome::Delivered {
            self.metrics.delivered_after_refusal.inc();
        }
        if outcome == super::ladder::Outcome::Delivered && gate.frames.contains_key(&sequence) {
            self.metrics.spool.drained.inc();
        }
        if let Some(failure) = failure {
            gate.note_refused(sequence, failure);
        }
        gate.ladder.report(attempt, outcome, now, &mut gate.commands);
        self.carry_out(gate, grounds, now);
    }

    /// Frames were read from the spool: their bytes are kept until the ladder releases them.
    pub(super) fn frames_read(&self, (after, through): (u64, u64), frames: Vec<Frame>, heads: &[FrameHead]) {
        let now = self.now();
        let mut guard = self.gate();
        let gate = &mut *guard;
        gate.frames.extend(frames.into_iter().map(|frame| (frame.sequence, frame)));
        let span = (Sequence(after), Sequence(through));
        gate.ladder.frames_read(span, heads, now, &mut gate.commands);
        self.carry_out(gate, Grounds::None, now);
    }

    /// The producer that was asked for is there, unless it is not wanted any more.
    pub(super) fn producer_started(&self, generation: Generation, producer: Arc<dyn Producer>) {
        let now = self.now();
        let mut guard = self.gate();
        let gate = &mut *guard;
        gate.producers.push((generation, producer));
        if !gate.ladder.producer_ready(generation, now, &mut gate.commands) {
            gate.commands.push(Command::RetireProducer(generation));
        }
        self.carry_out(gate, Grounds::None, now);
    }

    fn carry_out(&self, gate: &mut Gate, grounds: Grounds, now: Duration) {
        loop {
            let mut commands = std::mem::take(&mut gate.commands);
            for command in commands.drain(..) {
                self.obey(gate, command, grounds, now);
            }
            if gate.commands.is_empty() {
                gate.commands = commands;
            }
            match gate.ladder.next_send(now) {
                Some(attempt) => Self::send(gate, attempt, now),
                None if gate.commands.is_empty() => return,
                None => {}
            }
        }
    }

    fn send(gate: &mut Gate, attempt: Attempt, now: Duration) {
        let Attempt { generation, sequence, lane } = attempt;
        let held = gate.holding.get(sequence.0).map(|held| held.message.as_ref());
        let message = held.or_else(|| gate.frames.get(&sequence.0).map(|frame| &frame.message));
        let producer = gate.producers.iter().find(|(present, _)| *present == generation).map(|(_, found)| found);
        let token = sequence.0 << LANE_BITS | u64::from(lane.0);
        let result = match (producer, message) {
            (Some(producer), Some(message)) => producer.send(token, message),
            _ => Err(SendError::Fatal),
        };
        if let Err(error) = result {
            if let SendError::Refused(failure) = error {
                gate.note_refused(sequence.0, failure);
            }
            let refusal = match error {
                SendError::QueueFull => SendRefusal::QueueFull,
                SendError::Fatal => SendRefusal::Fatal,
                SendError::Refused(Failure::MessageTooLarge) => SendRefusal::Convicting,
                SendError::Refused(_) => SendRefusal::Ours,
            };
            gate.ladder.send_refused(attempt, refusal, now, &mut gate.commands);
        }
    }

    /// Whether a receipt could be had now: from the spool, or from Kafka.
    pub(super) fn is_ready(&self) -> bool {
        let gate = self.gate();
        let spool = self.spool_status.is_some() && gate.ladder.spool_takes_frames();
        let direct = gate.ladder.state() == State::Direct && self.kafka_ready.load(Ordering::Acquire);
        // A panic under the gate may have left it such that every callback meets the next one.
        !gate.is_finished && !self.gate.is_poisoned() && (spool || direct)
    }

    /// The producer that a probe may use, and whether messages have waited for it beyond the deadline.
    pub(super) fn to_probe(&self) -> Option<(Arc<dyn Producer>, bool)> {
        let now = self.now();
        let gate = self.gate();
        let overdue = gate.holding.oldest().is_some_and(|since| now > since + self.config.ack_deadline);
        gate.producers.last().map(|(_, producer)| (Arc::clone(producer), overdue))
    }

    pub(super) fn stop(&self, deadline: Duration, is_urgent: &dyn Fn() -> bool) {
        let begun = self.now();
        self.flush_until(begun + deadline);
        // What is left at the deadline still has to be synced.
        let ends = begun + deadline + SYNC_PATIENCE;
        let mut was_urgent = false;
        let mut gate = self.gate();
        while !gate.is_finished && self.now() < ends {
            let waited = self.finished.wait_timeout(gate, FLUSH_SLICE);
            gate = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !was_urgent && is_urgent() {
                was_urgent = true;
                drop(gate);
                self.flush_until(self.now());
                gate = self.gate();
            }
        }
        if !gate.is_finished {
            tracing::error!("stopping although some callbacks have no answer");
            gate.holding = Holding::default();
            gate.is_finished = true;
        }
        drop(gate);
        self.metrics.outstanding.set(0);
        for thread in [&self.appender, &self.drainer, &self.starter, &self.renewer, &self.finished] {
            thread.notify_all();
        }
    }

    fn flush_until(&self, deadline: Duration) {
        self.input(Grounds::None, |ladder, now, commands| ladder.stop(deadline, now, commands));
    }

    pub(super) fn observe(&self) {
        self.observe_repeats();
        let Some(status) = self.spool_status.as_ref().map(|status| status()) else { return };
        let now = self.wall();
        let age = status.oldest_accepted_at.filter(|_| !status.is_empty());
        let age = age.map_or(0, |oldest| (now.seconds() - oldest.seconds()).max(0));
        self.metrics.spool.observe(&crate::metrics::SpoolGauges {
            frames: status.frames,
            bytes: status.bytes,
            bytes_max: status.bytes_max,
            room: status.room_bytes,
            oldest_seconds: age,
            segments: status.segments as u64,
            damaged: status.damaged_stretches,
            set_aside: status.segments_set_aside,
            healthy: status.health == Health::Ready,
            full: matches!(status.health, Health::Full(_)),
        });
    }
}

impl Gate {
    /// Whether nothing waits for time to pass.
    pub(super) fn is_at_rest(&self) -> bool {
        self.ladder.state() == State::Direct && self.holding.oldest().is_none()
    }

    /// Remembers why a frame was refused, in case that it is convicted for it.
    fn note_refused(&mut self, sequence: u64, failure: Failure) {
        if super::link::gravity(failure) == super::ladder::Failure::Convicting && self.frames.contains_key(&sequence) {
            self.refused.insert(sequence, failure);
        }
    }
}

/// The lane of a stream: all its messages have the same one.
pub(super) fn lane(key: &[u8]) -> Lane {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    Lane(u16::try_from(hash & 0xffff).unwrap_or_default())
}
