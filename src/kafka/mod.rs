//! Kafka: a producer that is given messages and gives back delivery reports.
//!
//! This module owns every librdkafka option ([`settings`]), what clients log in with ([`credentials`]), the
//! classification of every librdkafka error (`classification`, [`trouble`]) and the adapter itself ([`client`]). It promises
//! that a [`Delivered`] exists only where Kafka has
//! acknowledged a message with acks=all, and that no call here waits for the network, save those that say so. It
//! does not decide what a failure means for a callback, and it does not retry: that is `delivery`.

#[cfg(feature = "librdkafka")]
mod classification;
#[cfg(feature = "librdkafka")]
pub mod client;
#[cfg(feature = "librdkafka")]
mod complaints;
#[cfg(feature = "librdkafka")]
pub mod credentials;
#[cfg(feature = "librdkafka")]
mod diagnosis;
#[cfg(feature = "librdkafka")]
mod offsets;
#[cfg(feature = "librdkafka")]
mod pem;
mod properties;
pub mod report;
#[cfg(feature = "librdkafka")]
pub mod settings;
pub mod trouble;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "librdkafka")]
pub use client::{LibrdkafkaProducers, librdkafka_version};
#[cfg(feature = "librdkafka")]
pub use credentials::Contents;
#[cfg(feature = "librdkafka")]
pub use diagnosis::diagnose_tls;
pub use report::{Delivered, Failure, Report, SendError, Statistics};
pub use trouble::Trouble;

use crate::message::Message;

/// How to reach Kafka, and where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Topic of recording events.
    pub topic: String,
    /// Topic of callbacks of which no event could be made.
    pub dead_letter_topic: String,
    /// Topic of callbacks of kinds that are not published; without it they are only counted.
    pub other_events_topic: Option<String>,
    /// How long a callback waits for the acknowledgement of Kafka.
    pub ack_deadline: Duration,
    /// Most bytes of messages in the producer's queue.
    pub queue_bytes_max: usize,
    /// How long messages may be outstanding with nothing acknowledged before the producer is replaced.
    pub watchdog: Duration,
    /// Encryption; `None` means plain text.
    pub tls: Option<TlsConfig>,
    /// Authentication; `None` means none.
    pub sasl: Option<SaslConfig>,
    /// Further librdkafka properties.
    pub properties: BTreeMap<String, String>,
}

impl Config {
    /// The defaults around these brokers and this topic; there is no default for either.
    #[must_use]
    pub fn new(brokers: Vec<String>, topic: String) -> Self {
        Self {
            brokers,
            topic,
            dead_letter_topic: "recordings.dead-letter".to_owned(),
            other_events_topic: None,
            ack_deadline: Duration::from_secs(5),
            queue_bytes_max: 64 * 1024 * 1024,
            watchdog: Duration::from_secs(60),
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }
}

/// TLS towards the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Authorities that sign the brokers' certificates, PEM; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of our own certificate, PEM.
    pub key_file: Option<PathBuf>,
}

/// SASL towards the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslConfig {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// User.
    pub username: String,
    /// File that holds the password and nothing else.
    pub password_file: PathBuf,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// The mechanism's registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Takes messages; answers through [`Observer::report`].
pub trait Producer: Send + Sync {
    /// Hands over a message without waiting. Exactly one report with `token` follows, unless the producer is dropped
    /// first.
    ///
    /// # Errors
    /// If the message was not taken; no report follows then.
    fn send(&self, token: u64, message: &Message) -> Result<(), SendError>;

    /// Asks the brokers for the topic and the leaders of its partitions. Blocks the calling thread.
    ///
    /// # Errors
    /// If no broker answers within `deadline`, or the topic could not take a message of every stream now.
    fn probe(&self, deadline: Duration) -> Result<(), ProbeError>;

    /// Gives up every message that has no report yet and closes the connections. May block for many seconds (a dead
    /// name server is enough), so it belongs on a thread of its own.
    fn close(self: Arc<Self>);
}

/// What a producer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Messages straight from callbacks: latency counts.
    Latency,
    /// Frames of the spool: throughput counts.
    Throughput,
}

/// What was found by looking at the files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// They are usable. Producers made from now on are made of what they hold, under this number, which grows with
    /// every change.
    Usable(u64),
    /// One of them is not: producers go on being made of what they held before.
    Unusable(String),
}

/// Makes producers.
pub trait Producers: Send + Sync {
    /// Whether producers can be made at all. No broker is asked.
    ///
    /// # Errors
    /// If the settings are unusable.
    fn check(&self) -> Result<(), StartError>;

    /// Reads the files again that the settings name. Producers go on with what they held before. Blocks.
    fn look(&self) -> Look {
        Look::Usable(self.revision())
    }

    /// A client of what the files hold now, to see what brokers say to it. It is given no message.
    ///
    /// # Errors
    /// If it cannot be made.
    fn trial(&self, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        self.start(0, Purpose::Latency, observer)
    }

    /// Makes producers of the contents `revision` from now on, if they are still the newest.
    fn take(&self, _revision: u64) {}

    /// Which contents of those files producers are made of: a number that grows when they change.
    fn revision(&self) -> u64 {
        0
    }

    /// A new producer whose reports carry `generation` and go to `observer`. Absent brokers are no error.
    ///
    /// # Errors
    /// If the settings are unusable.
    fn start(
        &self,
        generation: u64,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<dyn Producer>, StartError>;
}

/// Learns what becomes of messages. Called on the producer's own thread, which must never be made to wait.
pub trait Observer: Send + Sync {
    /// A message was delivered or has failed.
    fn report(&self, report: Report);

    /// The producer of this generation met a fatal error and will never send again.
    fn fatal(&self, generation: u64);

    /// Something stands between the producer of this generation and a broker.
    fn trouble(&self, generation: u64, trouble: Trouble);

    /// No connection to any broker is left.
    fn unreachable(&self, generation: u64);

    /// The producer's state, every few seconds.
    fn statistics(&self, generation: u64, statistics: &Statistics);
}

/// Why Kafka could not take a message now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeError {
    /// No broker answered.
    Unreachable(String),
    /// The topic does not exist, or may not be seen.
    TopicMissing,
    /// Some partitions have no leader.
    Leaderless {
        /// Partitions of the topic.
        partitions: usize,
        /// Those without a leader.
        leaderless: usize,
    },
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(formatter, "no broker answers: {reason}"),
            Self::TopicMissing => formatter.write_str("the topic does not exist, or may not be seen"),
            Self::Leaderless { partitions, leaderless } => {
                write!(formatter, "{leaderless} of {partitions} partitions have no leader")
            }
        }
    }
}

impl std::error::Error for ProbeError {}

/// Why no producer could be made.
#[derive(Debug)]
pub struct StartError {
    sentence: String,
}

impl StartError {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into() }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.sentence)
    }
}

impl std::error::Error for StartError {}
