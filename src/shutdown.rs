//! The end of the process: at present only what can be configured of it.

use std::time::Duration;

/// What can be configured of the end.
#[derive(Debug, Clone)]
pub struct Config {
    /// From "not ready" to the last accepted connection.
    pub drain_delay: Duration,
    /// For everything that is still open.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { drain_delay: Duration::from_secs(5), grace: Duration::from_secs(25) }
    }
}
