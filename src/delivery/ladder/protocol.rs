//! The words that the ladder and its shell exchange.
//!
//! This module owns the vocabulary: names of messages and producers, inputs' payloads, commands. It promises that
//! every value is small and `Copy`, so that nothing is allocated when one is passed. It decides nothing.

use std::time::Duration;

/// Monotonic time since an arbitrary moment of this process. The shell measures, the ladder compares.
pub type Time = Duration;

/// The number that a message is given at the gate. A frame in the spool carries the same number, so the order of
/// acceptance is the order of the spool. Frames may leave gaps: a message that Kafka acknowledged has no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// One producer instance. Never used again within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The order domain of a frame. The partition is known only after delivery, so the shell hashes the key instead;
/// all messages of one stream must have one lane. Values are taken modulo the number of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u16);

/// One hand-over of one message to one producer. The shell gives it back, unchanged, with the delivery report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The producer.
    pub generation: Generation,
    /// The message.
    pub sequence: Sequence,
    /// The lane of a drained frame; without meaning for a message sent directly.
    pub lane: Lane,
}

/// What a new message has to do. Returned by `Ladder::arrive`, under the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Placement {
    /// Hand it to this producer before the gate is released; its answer comes as a command.
    Send(Attempt),
    /// Keep it under this number; what happens to it, and its answer, come as commands.
    Hold(Sequence),
    /// It has no number and is not kept. Answer with a refusal.
    Refused(Denial),
}

/// Why a message could not be made safe. The shell turns it into the service's own refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Kafka did not acknowledge in time, and there is no spool to fall back to.
    AckDeadline,
    /// The producer's queue, or the ladder's own bound on waiting messages, is full.
    QueueFull,
    /// The producer died with the message, or none exists at the moment.
    ProducerLost,
    /// Kafka refused the message, and there is no spool to fall back to.
    KafkaRefused,
    /// The spool has no room.
    SpoolFull,
    /// The spool cannot write.
    SpoolUnhealthy,
    /// The process is stopping.
    Stopping,
}

/// What a delivery report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged with acks=all.
    Delivered,
    /// Not acknowledged. The message may have been persisted all the same.
    Failed(Failure),
}

/// Why a message was not acknowledged. The adapter of the client library sorts its codes into these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may well succeed next time: timed out, purged, leader moved.
    Transient,
    /// Kafka refuses the message *or a batch-mate of it*: too large, invalid record, unsupported by the format.
    Convicting,
    /// Our own fault, such as authorisation or an unknown topic, and every code that nobody listed.
    Ours,
    /// The producer is dead.
    Fatal,
}

/// Why a producer did not even take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendRefusal {
    /// Its queue is full.
    QueueFull,
    /// It is dead.
    Fatal,
    /// The client itself refuses this message, such as for its size. Nothing else can have caused that.
    Convicting,
    /// Anything else.
    Ours,
}

/// What a producer is for; its settings differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Messages straight from callbacks: latency counts.
    Direct,
    /// Frames of the spool: throughput counts.
    Drain,
    /// One suspect frame at a time, so that a refusal can be laid at its door.
    Trial,
}

/// Why a producer is started or left, for `producer_rebuilds_total` and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// In the course of things: at start, or at a change of state.
    Routine,
    /// A message was not acknowledged within the ack deadline.
    AckDeadline,
    /// The producer's queue was full.
    QueueFull,
    /// A fatal error.
    Fatal,
    /// A message was reported as failed.
    Failed,
    /// No broker could be reached.
    Unreachable,
    /// Nothing was acknowledged for the watchdog time although messages were handed over.
    Watchdog,
    /// Producers log in with something else from now on.
    Credentials,
    /// The producer could not be created.
    NotCreated,
    /// The process is stopping.
    Stopping,
}

/// Why the spool could not take frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolFault {
    /// No room; nothing is broken.
    Full,
    /// A write or an fsync failed or hangs.
    Unhealthy,
}

/// What recovery found in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Every frame up to here was delivered, or is gone.
    pub watermark: Sequence,
    /// The last frame that exists. At or before the watermark: the spool is empty.
    pub last: Sequence,
}

/// A frame that was read, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Its number.
    pub sequence: Sequence,
    /// Its lane.
    pub lane: Lane,
    /// Its size, for the bound on memory.
    pub bytes: u32,
}

/// How a message became safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Kafka acknowledged it.
    Kafka,
    /// It is fsynced in the spool.
    Spool,
    /// It did not.
    Denied(Denial),
}

/// The ladder's rung, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// New messages go straight to Kafka.
    Direct,
    /// New messages go to the spool; nothing is being published.
    Spooling,
    /// New messages go to the spool, which is being published.
    Draining,
    /// The last frames are on their way; new messages are held at the gate for a moment.
    Handover,
    /// Everything is answered; the process may leave.
    Stopped,
}

/// Something an operator should know. Raised when it begins, and not again before a message was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alert {
    /// Kafka refuses message after message, each sent alone: the topic is to blame.
    TopicRefuses,
    /// Kafka refuses us: authorisation, unknown topic, or a code nobody expected.
    KafkaRefusesUs,
    /// A convicted frame could not be set aside; it holds its lane back.
    DeadLettersBlocked,
    /// The spool has no room.
    SpoolFull,
    /// The spool cannot write.
    SpoolUnhealthy,
    /// The spool cannot be read.
    SpoolUnreadable,
}

/// What the shell has to do. Commands are carried out in the order in which they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Answer the callback of this message, and forget its bytes unless an `Append` of it is still queued.
    Answer(Sequence, Answer),
    /// Queue this message for the spool. Answered by `appended` or `append_failed`, first in, first out.
    Append(Sequence),
    /// Create a producer. Answered by `producer_ready` or `producer_failed`.
    StartProducer(Generation, Purpose, Cause),
    /// Purge and drop this producer on the reaper, even one that is still being created.
    RetireProducer(Generation),
    /// Read frames after the first number, none beyond the second. Answered by `frames_read` or `read_failed`.
    ReadSpool {
        /// Where to begin, exclusively.
        after: Sequence,
        /// Where to end, inclusively: the synced position.
        through: Sequence,
    },
    /// Forget the bytes of this frame; if they are needed again, they are read again.
    Release(Sequence),
    /// Persist that everything up to here is delivered. Answered by `committed`.
    Commit(Sequence),
    /// Append this frame, whose bytes are at hand, to the dead letters. Answered by `dead_lettered`.
    DeadLetter(Sequence, Lane),
    /// Try whether the spool can write, behind whatever it is writing. Answered by `spool_probed`.
    ProbeSpool,
    /// Tell the operator.
    Alert(Alert),
    /// The state has changed, and why.
    Moved(State, Cause),
    /// Everything is answered; leave.
    Finished,
}
