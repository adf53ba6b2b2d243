//! What the integration tests stand on: real brokers, the real binary, a load of signed callbacks, and the law that
//! relates what was answered to what the topic holds.

pub(crate) mod body;
pub(crate) mod bridge;
pub(crate) mod browser;
pub(crate) mod command;
pub(crate) mod crowd;
pub(crate) mod faulty_storage;
pub(crate) mod java;
pub(crate) mod kafka;
pub(crate) mod law;
pub(crate) mod load;
pub(crate) mod mounted;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod secure;
pub(crate) mod spool;
pub(crate) mod spooling;
pub(crate) mod volume;

use std::time::{Duration, Instant};

/// Looks every 20 ms until `look` finds something; panics with `what` and whatever `evidence` gives after `patience`.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    evidence: impl Fn() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}\n{}", evidence());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the longer proofs were asked for (`tests/run --long`).
pub(crate) fn long() -> bool {
    std::env::var_os("RECORDING_BRIDGE_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// A number that no other test, thread or run has.
pub(crate) fn unique() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Every `RandomState` has keys of its own, the first ones of a thread from the operating system.
    std::hash::RandomState::new().build_hasher().finish()
}
