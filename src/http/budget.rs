//! The budget of memory for bodies that are still being read, over all connections.
//!
//! Nobody is authenticated before the body is whole, so without it strangers could hold as many bodies as there are
//! connections, each one byte short of its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of unfinished bodies over all connections: a thousand of the largest at once, as no sender ever has them,
/// and with the slack of growing buffers still less than half of a small container.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of every body that are outside the budget, so that whoever uses it up cannot keep out real callbacks, which
/// have one or two thousand. The limit of callbacks in flight bounds their sum already.
const FREE_BYTES: usize = 4 * 1024;

/// What is taken of the budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: AtomicUsize,
}

impl Budget {
    /// The share of one body, empty as yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), taken: 0 }
    }
}

/// What one body has taken of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    /// Takes what a body of `length` bytes so far needs. `false` if the budget does not have it.
    pub(super) fn grow_to(&mut self, length: usize) -> bool {
        let more = length.saturating_sub(FREE_BYTES).saturating_sub(self.taken);
        let grow = |taken: usize| taken.checked_add(more).filter(|taken| more == 0 || *taken <= BYTES_MAX);
        let has_grown = self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok();
        if has_grown {
            self.taken += more;
        }
        has_grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}
