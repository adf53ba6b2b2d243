//! Delivery reports: what became of a message, in the words that the delivery decides by.

/// Proof that Kafka acknowledged a message with acks=all. In this crate only the adapter makes one.
// Tens of thousands of them are remembered: without padding, an entry of the window of repeats fits a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Delivered {
    partition: i32,
    offset: i64,
}

impl Delivered {
    /// For producers, when Kafka has said so: a message stands there.
    #[must_use]
    pub fn new(partition: i32, offset: i64) -> Self {
        Self { partition, offset }
    }

    /// Partition of the record.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Offset of the record in its partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which producer says so.
    pub generation: u64,
    /// Which message, by what was given with it.
    pub token: u64,
    /// Delivered, or why not.
    pub outcome: Result<Delivered, Failure>,
}

/// Why a message was not delivered. Some of these are *possibly persisted*: a copy may be in the topic all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Larger than the broker or topic takes. The whole batch fails with it, so it convicts only a lone message.
    MessageTooLarge,
    /// The broker calls the record invalid. Convicts only a lone message.
    InvalidRecord,
    /// The topic's message format cannot hold it. Convicts only a lone message.
    UnsupportedForFormat,
    /// The broker does not like the record's timestamp: our clock is wrong.
    InvalidTimestamp,
    /// Not acknowledged in time; possibly persisted.
    TimedOut,
    /// Given up while it waited to be sent.
    PurgedQueued,
    /// Given up after it was sent; possibly persisted.
    PurgedInFlight,
    /// The producer met a fatal error; possibly persisted.
    Fatal,
    /// Acknowledged without an offset of its own: the broker took it for a repeat of another message. Whether it is
    /// there is unknown, and the producer does not count as the broker does.
    NoOffset,
    /// Fewer replicas in sync than the topic asks for.
    NotEnoughReplicas,
    /// No such topic, or no such partition.
    UnknownTopic,
    /// The broker does not let us write.
    NotAuthorised,
    /// No connection to a broker.
    Unreachable,
    /// Anything else.
    Other,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 14] = [
        Self::MessageTooLarge,
        Self::InvalidRecord,
        Self::UnsupportedForFormat,
        Self::InvalidTimestamp,
        Self::TimedOut,
        Self::PurgedQueued,
        Self::PurgedInFlight,
        Self::Fatal,
        Self::NoOffset,
        Self::NotEnoughReplicas,
        Self::UnknownTopic,
        Self::NotAuthorised,
        Self::Unreachable,
        Self::Other,
    ];

    /// Value of the `failure` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::MessageTooLarge => "message_too_large",
            Self::InvalidRecord => "invalid_record",
            Self::UnsupportedForFormat => "unsupported_for_format",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TimedOut => "timed_out",
            Self::PurgedQueued => "purged_queued",
            Self::PurgedInFlight => "purged_in_flight",
            Self::Fatal => "fatal",
            Self::NoOffset => "no_offset",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::UnknownTopic => "unknown_topic",
            Self::NotAuthorised => "not_authorised",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

/// Why a producer did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// Its queue is full.
    QueueFull,
    /// It met a fatal error and has to be replaced.
    Fatal,
    /// It refuses this message.
    Refused(Failure),
}

/// The producer's state as it reports it itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages in its queue, in flight included.
    pub queue_messages: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Brokers it is connected to.
    pub brokers_up: usize,
    /// Brokers it is connecting to.
    pub brokers_connecting: usize,
    /// Brokers it has no connection to.
    pub brokers_down: usize,
}
