//! Messages that were handed to a producer and have no delivery report yet.
//!
//! Sequence numbers are given without a gap, so the place of a message is its number less that of the first one:
//! no hashing, no allocation per message.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::kafka::{Delivered, Failure};

/// What a waiting callback is told.
pub(super) type Outcome = Result<Delivered, Failure>;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sent_at: Instant,
    pub(super) waiter: oneshot::Sender<Outcome>,
}

/// Messages on their way, by sequence number.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    first: u64,
    entries: VecDeque<Option<Entry>>,
}

impl Outstanding {
    /// The number that the next message gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds the message that was sent under [`Self::next_sequence`].
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(Some(entry));
    }

    /// Takes out the message of this number; `None` if it is not on its way any more.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Entry> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(index)?.take();
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        entry
    }

    /// Takes out every message, in the order of their numbers. Numbers are not used again.
    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        self.first = self.next_sequence();
        self.entries.drain(..).flatten().collect()
    }

    /// When the oldest message was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.iter().flatten().next().map(|entry| entry.sent_at)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { sent_at: Instant::now(), waiter: oneshot::channel().0 }
    }

    #[test]
    fn numbers_are_contiguous_and_never_used_again() {
        let mut outstanding = Outstanding::default();
        for expected in 0..5 {
            assert_eq!(outstanding.next_sequence(), expected);
            outstanding.push(entry());
        }
        assert!(outstanding.take(3).is_some());
        assert!(outstanding.take(3).is_none());
        assert!(outstanding.take(9).is_none());
        assert!(outstanding.take(0).is_some());
        assert!(outstanding.take(0).is_none());
        assert_eq!(outstanding.take_all().len(), 3);
        assert!(outstanding.oldest().is_none());
        assert_eq!(outstanding.next_sequence(), 5);
        assert!(outstanding.take(4).is_none());
    }
}
