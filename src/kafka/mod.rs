//! The way to Kafka: at present only what can be configured of it.

mod properties;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What can be configured of the producer.
#[derive(Debug, Clone)]
pub struct Config {
    /// Brokers to begin with, each `host:port`; never empty.
    pub brokers: Vec<String>,
    /// Where events go.
    pub topic: String,
    /// Where unusable callbacks go.
    pub dead_letter_topic: String,
    /// How long a message may wait for its acknowledgement.
    pub ack_deadline: Duration,
    /// Most bytes of messages waiting in the producer.
    pub queue_bytes_max: usize,
    /// Messages outstanding and nothing acknowledged for this long: a new producer.
    pub watchdog: Duration,
    /// TLS, if the brokers speak it.
    pub tls: Option<TlsConfig>,
    /// SASL, if the brokers ask for it.
    pub sasl: Option<SaslConfig>,
    /// Further librdkafka properties, as text.
    pub properties: BTreeMap<String, String>,
}

/// Whom to trust, and who we are.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Certificates of the authorities to trust (PEM); the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM).
    pub certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub key_file: Option<PathBuf>,
}

/// How we log in at the brokers.
#[derive(Debug, Clone)]
pub struct SaslConfig {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The file that holds the password.
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

impl Config {
    /// The defaults around these brokers and this topic; there is no default for either.
    #[must_use]
    pub fn new(brokers: Vec<String>, topic: String) -> Self {
        Self {
            brokers,
            topic,
            dead_letter_topic: "recordings.dead-letter".to_owned(),
            ack_deadline: Duration::from_secs(5),
            queue_bytes_max: 64 * 1024 * 1024,
            watchdog: Duration::from_secs(60),
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }
}
