//! Callbacks of the provider: at present only what can be configured of them.

use std::path::PathBuf;
use std::time::Duration;

/// What can be configured of authentication and masking.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long after its expiry `t` a callback is still taken.
    pub expiry_grace: Duration,
    /// How far the provider's clock may be ahead of ours.
    pub clock_skew: Duration,
    /// Shortest key accepted, in characters.
    pub key_length_min: usize,
    /// Further names of push parameters whose values are masked.
    pub masked_names: Vec<String>,
    /// The keys that sign callbacks; never empty.
    pub keys: Vec<KeyConfig>,
}

/// One key and its scope.
#[derive(Debug, Clone)]
pub struct KeyConfig {
    /// Its name in metrics and logs.
    pub name: String,
    /// The file that holds it.
    pub file: PathBuf,
    /// The accounts it is valid for; empty is all.
    pub app_ids: Vec<u64>,
    /// The push domains it is valid for; empty is all.
    pub push_domains: Vec<String>,
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
