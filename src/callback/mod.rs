//! The callback: the provider's HTTP body, judged and understood. Pure: bytes and a time in, values out.
//!
//! Two steps, on purpose. [`authenticate`] reads the members and proves that the sender holds one of our keys;
//! [`AuthenticCallback::normalise`] reads the facts. A wrong *fact* leaves a callback authentic, so it is kept and
//! reported rather than refused as malformed. Nothing from a body that is not authentic leaves this module.
//!
//! This module does not know HTTP, Kafka, metrics or the clock.

mod auth;
mod clock_offset;
mod keyring;
mod members;
mod normalise;
mod redact;
mod remains;

use std::path::PathBuf;
use std::time::Duration;

pub use auth::{AuthenticCallback, Inauthentic, Rejection, Untimely, Window, authenticate, sign};
pub use clock_offset::{ClockOffset, Reminder, Standing};
pub use keyring::{ActiveKeyring, Key, KeyError, Keyring, Reread, Scope, read_key};
pub use members::Malformed;
pub use normalise::{Normalised, Unusable, UnusableReason};
pub use redact::Redaction;
pub use remains::{PAYLOAD_BYTES_MAX, Remains};

/// How callbacks are authenticated.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long after its expiry a signature is still accepted. The sender's last retry may come 360 s after it.
    pub expiry_grace: Duration,
    /// How far the sender's clock may run ahead of ours.
    pub clock_skew: Duration,
    /// Shortest accepted key, in characters.
    pub key_length_min: usize,
    /// Further names of push parameters and unknown members whose values are masked.
    pub masked_names: Vec<String>,
    /// The active keys.
    pub keys: Vec<KeyConfig>,
}

impl Config {
    /// The defaults around these keys; there is no default for a key.
    #[must_use]
    pub fn new(keys: Vec<KeyConfig>) -> Self {
        Self {
            expiry_grace: Duration::from_secs(7 * 60),
            clock_skew: Duration::from_secs(2 * 60),
            key_length_min: 16,
            masked_names: Vec::new(),
            keys,
        }
    }
}

/// One active key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Name in metrics and logs.
    pub name: String,
    /// File that holds the key and nothing else.
    pub file: PathBuf,
    /// Accounts that the key is good for; empty means all.
    pub app_ids: Vec<u64>,
    /// Push domains that the key is good for; empty means all.
    pub push_domains: Vec<String>,
}

/// What a callback tells of, by its `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A finished recording (100): published.
    Recording,
    /// 0.
    PushEnded,
    /// 1.
    PushStarted,
    /// 200.
    Screenshot,
    /// 314.
    RelayTask,
    /// 315.
    AudioModeration,
    /// 317.
    ImageModeration,
    /// 321.
    PushException,
    /// 328.
    Monitoring,
    /// 332.
    RecordingStatus,
    /// 341.
    RecordingException,
    /// 338, 343 to 345 and 347 to 349: subtitles, quality, smart erase, summary, highlight.
    MediaProcessing,
    /// A type that this version does not know.
    Unknown,
}

impl Kind {
    /// Every kind, for metrics and tests.
    pub const ALL: [Self; 13] = [
        Self::Recording,
        Self::PushEnded,
        Self::PushStarted,
        Self::Screenshot,
        Self::RelayTask,
        Self::AudioModeration,
        Self::ImageModeration,
        Self::PushException,
        Self::Monitoring,
        Self::RecordingStatus,
        Self::RecordingException,
        Self::MediaProcessing,
        Self::Unknown,
    ];

    fn of(event_type: u64) -> Self {
        match event_type {
            100 => Self::Recording,
            0 => Self::PushEnded,
            1 => Self::PushStarted,
            200 => Self::Screenshot,
            314 => Self::RelayTask,
            315 => Self::AudioModeration,
            317 => Self::ImageModeration,
            321 => Self::PushException,
            328 => Self::Monitoring,
            332 => Self::RecordingStatus,
            341 => Self::RecordingException,
            338 | 343..=345 | 347..=349 => Self::MediaProcessing,
            _ => Self::Unknown,
        }
    }

    /// Value of the `kind` label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::PushEnded => "push_ended",
            Self::PushStarted => "push_started",
            Self::Screenshot => "screenshot",
            Self::RelayTask => "relay_task",
            Self::AudioModeration => "audio_moderation",
            Self::ImageModeration => "image_moderation",
            Self::PushException => "push_exception",
            Self::Monitoring => "monitoring",
            Self::RecordingStatus => "recording_status",
            Self::RecordingException => "recording_exception",
            Self::MediaProcessing => "media_processing",
            Self::Unknown => "unknown",
        }
    }
}

/// Proof that an authentic callback is of a kind that is not published. Only this module makes one, and it is one
/// of the two things that a 200 can be made from.
#[derive(Debug)]
pub struct Ignored(Kind);

impl Ignored {
    /// What the callback told of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0
    }
}
