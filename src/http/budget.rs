//! The budgets of memory over all connections: one for bodies that are still being read, one for messages that wait to
//! become safe.
//!
//! Nobody is authenticated before the body is whole, so without the first, strangers could hold as many bodies as there
//! are connections, each one byte short of its end. The second bounds what waits when neither Kafka nor the spool
//! answers: one signature is good for any body, so whoever has seen one may send as many large ones as may be in
//! flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one budget: a thousand of the largest at once, as no sender ever has them,
/// and with the slack of growing buffers still less than half of a small container.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of every body and message that are outside the budget, so that whoever uses it up cannot keep out real callbacks, which
/// have one or two thousand. The limit of connections bounds their sum already.
const FREE_BYTES: usize = 4 * 1024;

/// What is taken of the budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: AtomicUsize,
}

impl Budget {
    /// The share of one body or message, empty as yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), taken: 0 }
    }
}

/// What one body or message has taken of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    /// Takes what `length` bytes so far need. `false` if the budget does not have it.
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
