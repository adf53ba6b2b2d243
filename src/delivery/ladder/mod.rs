//! The ladder: decides, for every message, between Kafka, the spool and a refusal.
//!
//! It owns the numbering of messages, the choice of path, the producer generations and the state
//! Direct → Spooling → Draining → (Handover) → Direct. It is a pure machine: inputs and a monotonic time in, commands
//! out. It reads no clock, does no I/O, holds no bytes of messages and knows no client library.
//!
//! # Promise
//!
//! - `Answer(Kafka)` follows a delivery report, `Answer(Spool)` an fsync; every accepted message is answered once,
//!   within `ack_deadline` + `append_patience` + one tick.
//! - What each generation persists of a lane is a prefix of what it was given, and each begins at or before the first
//!   message that is not acknowledged. So a copy that lands late is a duplicate, never an inversion.
//! - A frame is committed only when it was delivered, or is fsynced among the dead letters.
//! - Every state has an exit that needs nothing but ticks and working parts.
//!
//! # States and inputs
//!
//! "Well" means that the spool takes frames. Without one (absent, full, unhealthy) the ladder is Direct whenever
//! nothing is spooled, and what would go to the spool is refused.
//!
//! | input | Direct | Spooling, Draining | Handover |
//! |---|---|---|---|
//! | `arrive` | number, `Send`; no producer: refused | number, `Append`; spool not well: refused | number, hold at the gate; too many: give up the handover |
//! | `send_refused`, failed report, `producer_fatal` | well: → Spooling; else refuse that message, or with a dead producer all it held | drain: the frame's lane halts, or the producer dies; idle direct producer: replaced | likewise; a lane in trouble gives up the handover |
//! | delivered | `Answer(Kafka)` | drain: frame done. Producer that is being left: `Answer(Kafka)` if open, and its frame is not published | frame done |
//! | any report of a retired generation | ignored | ignored | ignored |
//! | `brokers_unreachable` of the direct generation | well: → Spooling | no way back for `unreachable_period`, unless something is acknowledged or a probe succeeds | give up |
//! | `credentials_changed` | well: → Spooling; else, if Kafka takes nothing: refuse what is sent, a new producer | new producers; what they held is sent again | give up, then likewise |
//! | `tick`, ack deadline passed | well: → Spooling; else refuse what is late | – | deadline of the handover: give up |
//! | `appended` | late word of refused frames: committed past | `Answer(Spool)` up to there | likewise |
//! | `append_failed`, append hangs | – | refuse the batch; spool not well, probed until it is | likewise, give up |
//! | `frames_read`, `read_failed`, `committed`, `dead_lettered` | commit only | drain | drain |
//! | last frame done, nothing queued, direct producer ready | – | → Direct | → Direct, what is held is sent in order |
//! | `stop` | wait; at the deadline → Spooling, or refuse | drain until the deadline; then wait only for appends, and for the last commit | give up, then likewise |
//!
//! Leaving Direct: everything unreported is appended in order of number, later messages behind; the old producer is
//! retired when all it held is answered; then a producer of the drain is started, and later a fresh one for Direct.
//! *Handover* is the "gate held" of the design: under steady load the spool is never empty by chance, so at
//! `handover_frames_max` frames new messages are held (numbered, neither sent nor appended) for at most
//! `handover_max`.
//!
//! A refusal that may mean a batch-mate makes a frame *suspect*. Suspects go, one at a time, to a producer of their
//! own, where nothing else can be meant; the other lanes go on meanwhile. `convictions_max` in a row without an
//! acknowledgement blame the topic: then nothing is set aside, and trials go on with backoff.
//!
//! # What the shell guarantees
//!
//! 1. One lock, the gate, around every call. A `Placement::Send` or `next_send` is carried out before the gate is
//!    released, and a refusal is reported by `send_refused` before the next call of `next_send`. After each input:
//!    call `next_send` until it gives nothing, or wake the thread that does (it may release the gate in between).
//! 2. Commands are carried out, or queued for the thread that does, in order and before the gate is released. The
//!    appender's queue is first in, first out; results of batches and probes come back in that order.
//! 3. Every attempt is reported by its own producer with its own generation, in the order of the client's reports
//!    for a partition. A failure goes unreported only if the producer persists nothing more.
//! 4. Within a generation and lane, nothing handed over after a failed message and before the ladder has heard of it
//!    is persisted. The client gives this with `enable.idempotence`, `enable.gapless.guarantee` (a refusal by the
//!    broker is fatal) and **no message timeout** (`message.timeout.ms=0`): a timeout is a local failure behind which
//!    later messages would be persisted. Giving up is the ladder's business alone.
//! 5. A retired producer is purged at once and takes nothing more, and dropping it blocks nobody. A command of
//!    `RetireProducer` may come before `producer_ready`, which then gives `false`: that producer is dropped.
//! 6. `StartProducer`, `ReadSpool`, `Commit`, `DeadLetter` and `ProbeSpool` are each answered once, `DeadLetter` after
//!    an fsync. A read gives every frame of its range that still exists, in order, up to the `through` it names.
//! 7. Bytes: of a message until its answer, and until its append is written; of a frame that was read until
//!    `Release`.
//! 8. The adapter lists the codes that are `Convicting`; every unlisted one is `Ours`.
mod backlog;
mod drain;
mod generation;
mod lane;
mod producer;
mod protocol;
mod settings;
mod stop;
mod turn;
mod waiting;

pub use protocol::{
    Alert, Answer, Attempt, Cause, Command, Denial, Failure, FrameHead, Generation, Lane, Outcome, Placement, Purpose,
    Recovered, SendRefusal, Sequence, SpoolFault, State, Time,
};
pub use settings::{Backoff, Settings};

use backlog::Backlog;
use producer::Producer;
use waiting::{Place, Waiting};

/// What happens to a new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is sent.
    Direct,
    /// It goes behind the frames in the spool.
    Behind,
    /// It is held at the gate until this time at the latest.
    Handover(Time),
    /// It is refused.
    Stopped,
}

/// What the spool is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpoolHealth {
    /// Switched off by configuration.
    Absent,
    Well,
    /// Takes nothing; tried again at this time, unless a probe is under way.
    Bad(SpoolFault, Option<Time>),
}

/// The state machine. See the module.
#[derive(Debug)]
pub struct Ladder {
    settings: Settings,
    phase: Phase,
    /// The state that the shell was last told.
    told: State,
    /// The last number given.
    last: Sequence,
    generations: u64,
    waiting: Waiting,
    direct: Producer,
    drain: Producer,
    trial: Producer,
    /// The direct producer that was left, and the last number it may hold: retired once all of those are answered.
    closing: Option<(Generation, Sequence)>,
    spool: SpoolHealth,
    /// While the spool took nothing, a message was refused because it failed, and the direct producer went on. Older
    /// messages may have failed with it, unheard, and newer ones be in Kafka: up to here nothing may be spooled.
    denied_through: Sequence,
    backlog: Backlog,
    /// Lanes that may have something to hand over.
    sendable: std::collections::VecDeque<usize>,
    /// The drain's producer is full until a report or a tick says otherwise.
    drain_full: bool,
    /// The lane at which the next search for a suspect begins.
    trial_turn: usize,
    convictions: u32,
    unreachable_until: Time,
    handover_not_before: Time,
    /// Whether the drain had an acknowledgement since the ladder left Direct.
    drained_some: bool,
    /// When the last messages are given to the spool, once the process is stopping.
    flush_deadline: Option<Time>,
    alerts: Vec<Alert>,
    /// Reused for lists of numbers.
    numbers: Vec<Sequence>,
}

impl Ladder {
    /// A ladder over a spool that was `recovered`, or without a spool. Call `tick` next.
    #[must_use]
    pub fn new(settings: Settings, recovered: Option<Recovered>) -> Self {
        let (spool, phase) = match recovered {
            Some(_) => (SpoolHealth::Well, Phase::Behind),
            None => (SpoolHealth::Absent, Phase::Direct),
        };
        Self {
            settings,
            phase,
            told: if recovered.is_some() { State::Spooling } else { State::Direct },
            last: recovered.map_or(Sequence(0), |found| found.watermark.max(found.last)),
            generations: 0,
            waiting: Waiting::default(),
            direct: Producer::new(Purpose::Direct),
            drain: Producer::new(Purpose::Drain),
            trial: Producer::new(Purpose::Trial),
            closing: None,
            spool,
            denied_through: Sequence(0),
            backlog: Backlog::new(settings.lanes, recovered),
            sendable: std::collections::VecDeque::new(),
            drain_full: false,
            trial_turn: 0,
            convictions: 0,
            unreachable_until: Time::ZERO,
            handover_not_before: Time::ZERO,
            drained_some: false,
            flush_deadline: None,
            alerts: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// The present rung.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Direct => State::Direct,
            Phase::Behind if self.backlog.is_moving() => State::Draining,
            Phase::Behind => State::Spooling,
            Phase::Handover(_) => State::Handover,
            Phase::Stopped => State::Stopped,
        }
    }

    /// Whether a message that came now could become safe in the spool: one half of readiness.
    #[must_use]
    pub fn spool_takes_frames(&self) -> bool {
        self.spool == SpoolHealth::Well
    }

    /// A new message wants delivery. Called under the gate, which stays closed until a `Send` is carried out.
    pub fn arrive(&mut self, now: Time, commands: &mut Vec<Command>) -> Placement {
        if self.flush_deadline.is_some() || self.phase == Phase::Stopped {
            return Placement::Refused(Denial::Stopping);
        }
        if self.waiting.span() >= self.settings.waiting_max {
            if self.phase == Phase::Direct && self.spool_takes_frames() {
                self.leave_direct(Cause::QueueFull, now, commands);
            }
            return Placement::Refused(Denial::QueueFull);
        }
        if matches!(self.phase, Phase::Handover(_)) && self.waiting.parked() >= self.settings.parked_max {
            self.give_up_handover(now, commands);
        }
        match self.phase {
            Phase::Direct if self.waiting.parked() == 0 => match self.direct.ready() {
                Some(generation) => {
                    let sequence = self.number(Place::Sent, now);
                    self.direct.handed(now);
                    Placement::Send(Attempt { generation, sequence, lane: Lane(0) })
                }
                None => Placement::Refused(Denial::ProducerLost),
            },
            Phase::Direct | Phase::Handover(_) => Placement::Hold(self.number(Place::Parked, now)),
            Phase::Behind => match self.spool_denial() {
                None => {
                    let sequence = self.number(Place::Appending, now);
                    commands.push(Command::Append(sequence));
                    Placement::Hold(sequence)
                }
                Some(denial) => Placement::Refused(denial),
            },
            Phase::Stopped => Placement::Refused(Denial::Stopping),
        }
    }

    /// The next message to be handed to a producer. Call it under the gate, hand the message over before the gate
    /// is released, and report a refusal by [`Self::send_refused`] before calling it again.
    #[must_use]
    pub fn next_send(&mut self, now: Time) -> Option<Attempt> {
        if self.phase == Phase::Direct && self.waiting.parked() > 0 {
            let generation = self.direct.ready()?;
            let sequence = self.waiting.first_parked()?;
            self.waiting.place(sequence, Place::Sent);
            self.direct.handed(now);
            return Some(Attempt { generation, sequence, lane: Lane(0) });
        }
        self.next_drain_send(now).or_else(|| self.next_trial_send(now))
    }

    /// The producer did not take `attempt`.
    pub fn send_refused(&mut self, attempt: Attempt, why: SendRefusal, now: Time, commands: &mut Vec<Command>) {
        if self.direct.reporting() == Some(attempt.generation) {
            self.direct.failed();
            let (cause, denial) = match why {
                SendRefusal::QueueFull => (Cause::QueueFull, Denial::QueueFull),
                SendRefusal::Fatal => (Cause::Fatal, Denial::ProducerLost),
                SendRefusal::Convicting | SendRefusal::Ours => (Cause::Failed, Denial::KafkaRefused),
            };
            self.direct_fault(Some(attempt.sequence), cause, denial, now, commands);
        } else {
            self.drain_send_refused(attempt, why, now, commands);
        }
        self.turn(now, commands);
    }

    /// A delivery report. Called from the client's poll thread.
    pub fn report(&mut self, attempt: Attempt, outcome: Outcome, now: Time, commands: &mut Vec<Command>) {
        if self.direct.reporting() == Some(attempt.generation) {
            match outcome {
                Outcome::Delivered => {
                    self.direct.acknowledged(now);
                    self.acknowledge(attempt.sequence, commands);
                    if self.flush_deadline.is_none() {
                        return;
                    }
                }
                Outcome::Failed(failure) => {
                    self.direct.failed();
                    if !self.spool_takes_frames() {
                        self.denied_through = self.last;
                    }
                    let (cause, denial) = self.judge(failure, commands);
                    self.direct_fault(Some(attempt.sequence), cause, denial, now, commands);
                }
            }
        } else if self.closing.is_some_and(|(generation, _)| generation == attempt.generation) {
            // Until the producer is purged its word is good: the message needs no second delivery. A failure says
            // nothing new, for the message is on its way into the spool.
            if outcome == Outcome::Delivered {
                self.backlog.know(attempt.sequence);
                self.acknowledge(attempt.sequence, commands);
            }
        } else {
            // The drain ignores a generation that it does not know: the report of a producer that was given up
            // must not be taken for that of its successor.
            self.drain_report(attempt, outcome, now, commands);
        }
        self.turn(now, commands);
    }

    /// Time has passed. Call it at least every 100 ms: deadlines are as exact as the ticks.
    pub fn tick(&mut self, now: Time, commands: &mut Vec<Command>) {
        self.tick_direct(now, commands);
        self.tick_spool(now, commands);
        self.tick_drain(now, commands);
        self.tick_stop(now, commands);
        self.turn(now, commands);
    }

    /// Gives the next number to a message.
    fn number(&mut self, place: Place, now: Time) -> Sequence {
        self.last.0 += 1;
        self.waiting.push(self.last, place, now);
        self.last
    }

    /// Kafka has the message: answer, unless it was answered before.
    fn acknowledge(&mut self, sequence: Sequence, commands: &mut Vec<Command>) {
        if self.waiting.settle(sequence).is_some() {
            commands.push(Command::Answer(sequence, Answer::Kafka));
        }
        self.alerts.clear();
        self.unreachable_until = Time::ZERO;
    }

    fn deny(&mut self, sequence: Sequence, denial: Denial, commands: &mut Vec<Command>) {
        if self.waiting.settle(sequence).is_some() {
            commands.push(Command::Answer(sequence, Answer::Denied(denial)));
        }
    }

    fn judge(&mut self, failure: Failure, commands: &mut Vec<Command>) -> (Cause, Denial) {
        match failure {
            Failure::Transient | Failure::Convicting => (Cause::Failed, Denial::KafkaRefused),
            Failure::Ours => {
                self.alert(Alert::KafkaRefusesUs, commands);
                (Cause::Failed, Denial::KafkaRefused)
            }
            Failure::Fatal => (Cause::Fatal, Denial::ProducerLost),
        }
    }

    fn alert(&mut self, alert: Alert, commands: &mut Vec<Command>) {
        if !self.alerts.contains(&alert) {
            self.alerts.push(alert);
            commands.push(Command::Alert(alert));
        }
    }

    fn spool_denial(&self) -> Option<Denial> {
        match self.spool {
            SpoolHealth::Well => None,
            SpoolHealth::Absent => Some(Denial::ProducerLost),
            SpoolHealth::Bad(SpoolFault::Full, _) => Some(Denial::SpoolFull),
            SpoolHealth::Bad(SpoolFault::Unhealthy, _) => Some(Denial::SpoolUnhealthy),
        }
    }
}
