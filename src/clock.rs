//! The two clocks that the bridge reads, behind one trait so that tests can move time.
//!
//! Wall time dates events and judges signatures; monotonic time measures and bounds. Nothing below `app` reads
//! either in another way (`clippy.toml` forbids it), so a schedule of faults can be replayed exactly.

use std::time::{Instant, SystemTime};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Wall time: what is written into events and compared with the expiry of a signature.
    fn wall(&self) -> SystemTime;

    /// Monotonic time: what deadlines and durations are measured with. It never steps.
    fn monotonic(&self) -> Instant;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the monotonic clock is read")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
