//! Messages whose callbacks wait for their outcome.
//!
//! Numbers are given without a gap, so the place of a message is its number less that of the first one: no hashing,
//! no allocation per message beyond the message itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::repeats::Waiter;
use super::window::Claim;
use crate::event::Timestamp;
use crate::message::Message;

/// A message, and who waits for it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) message: Arc<Message>,
    pub(super) accepted_at: Timestamp,
    pub(super) since: Duration,
    pub(super) waiter: Waiter,
    /// Repeats of it that came meanwhile.
    pub(super) joined: Vec<Waiter>,
    /// What its outcome settles.
    pub(super) claim: Option<Claim>,
}

/// Waiting messages by number.
#[derive(Debug, Default)]
pub(super) struct Holding {
    first: u64,
    entries: VecDeque<Option<Held>>,
}

impl Holding {
    /// Adds the message with this number, which is above every earlier one.
    pub(super) fn put(&mut self, sequence: u64, held: Held) {
        if self.entries.is_empty() {
            self.first = sequence;
        }
        while self.first + (self.entries.len() as u64) < sequence {
            self.entries.push_back(None);
        }
        self.entries.push_back(Some(held));
    }

    /// The message with this number, if it still waits.
    pub(super) fn get(&self, sequence: u64) -> Option<&Held> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.entries.get(index)?.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Held> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)?.as_mut()
    }

    /// Since when the oldest message waits.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.entries.front()?.as_ref().map(|held| held.since)
    }

    /// Takes out the message with this number, if it still waits.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Held> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        let held = self.entries.get_mut(index)?.take();
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn held() -> Held {
        let message = Arc::new(Message::from_parts(Bytes::new(), Bytes::new(), Vec::new()));
        let accepted_at = Timestamp::from_seconds(0, 0).unwrap();
        let waiter = tokio::sync::oneshot::channel().0;
        Held { message, accepted_at, since: Duration::ZERO, waiter, joined: Vec::new(), claim: None }
    }

    #[test]
    fn a_message_is_found_by_its_number_until_it_is_taken() {
        let mut holding = Holding::default();
        for sequence in [7, 8, 10] {
            holding.put(sequence, held());
        }
        assert!(holding.get(8).is_some() && holding.get(9).is_none() && holding.get(6).is_none());
        assert!(holding.take(8).is_some() && holding.take(8).is_none());
        assert!(holding.take(7).is_some() && holding.take(11).is_none());
        assert!(holding.get(10).is_some());
        assert!(holding.take(10).is_some());
        holding.put(20, held());
        assert!(holding.take(20).is_some() && holding.take(20).is_none());
    }
}
