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
mod kinds;
mod members;
mod normalise;
mod rebuilt;
mod redact;
mod remains;

use std::path::PathBuf;
use std::time::Duration;

pub use auth::{AuthenticCallback, Inauthentic, Rejection, Untimely, Window, authenticate, sign};
pub use clock_offset::{ClockOffset, Reminder, Standing};
pub use keyring::{ActiveKeyring, Key, KeyError, Keyring, Reread, Scope, read_key};
pub use kinds::{Kind, Published};
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
    /// Which kinds are published.
    pub published_kinds: Published,
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
            published_kinds: Published::default(),
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

/// Proof that an authentic callback is of a kind that is not published. Only this module makes one; a 200 can be made
/// from it, unless such callbacks are to be passed on.
#[derive(Debug)]
pub struct Ignored(Kind, u64);

impl Ignored {
    /// What the callback told of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0
    }

    /// The same in the provider's number.
    #[must_use]
    pub fn event_type(&self) -> u64 {
        self.1
    }
}
