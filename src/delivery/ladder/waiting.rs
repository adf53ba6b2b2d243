//! The callbacks that wait for an answer, by number.
//!
//! Numbers are contiguous, so a queue with an offset is enough: no hashing, and no allocation once it has grown.
//! It promises that a message is settled at most once. It does not know what settling means.

use std::collections::VecDeque;

use super::protocol::{Sequence, Time};

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Handed to the direct producer.
    Sent,
    /// Held at the gate during a handover.
    Parked,
    /// On its way into the spool.
    Appending,
    /// Answered; the entry remains only because an older one is open.
    Answered,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When the message came to its present place.
    since: Time,
    place: Place,
}

/// Every message between its number and its answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Number of the front entry.
    first: u64,
    entries: VecDeque<Entry>,
    parked: usize,
    appending: usize,
}

impl Waiting {
    /// Adds the message with the next number.
    pub(super) fn push(&mut self, sequence: Sequence, place: Place, now: Time) {
        if self.entries.is_empty() {
            self.first = sequence.0;
        }
        debug_assert_eq!(self.first + self.entries.len() as u64, sequence.0, "numbers are contiguous");
        self.count(place, 1);
        self.entries.push_back(Entry { since: now, place });
    }

    /// Entries held, answered ones in the middle included.
    pub(super) fn span(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages held at the gate.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Messages on their way into the spool.
    pub(super) fn appending(&self) -> usize {
        self.appending
    }

    /// Place and age of the oldest open message.
    pub(super) fn oldest(&self) -> Option<(Sequence, Place, Time)> {
        self.entries.front().map(|entry| (Sequence(self.first), entry.place, entry.since))
    }

    /// The lowest number held at the gate. Those are always the newest, for whatever comes later is held, too.
    pub(super) fn first_parked(&self) -> Option<Sequence> {
        let behind = (self.entries.len() - self.parked.min(self.entries.len())) as u64;
        (self.parked > 0).then_some(Sequence(self.first + behind))
    }

    /// The lowest number in `place`, and since when it is there.
    pub(super) fn first_in(&self, place: Place) -> Option<(Sequence, Time)> {
        let found = (self.first..).zip(&self.entries).find(|(_, entry)| entry.place == place);
        found.map(|(sequence, entry)| (Sequence(sequence), entry.since))
    }

    /// Closes `sequence`; `None` if it was closed before or never existed.
    pub(super) fn settle(&mut self, sequence: Sequence) -> Option<Place> {
        let place = self.replace(sequence, Place::Answered, None)?;
        while self.entries.front().is_some_and(|entry| entry.place == Place::Answered) {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(place)
    }

    /// Moves an open message; `false` if it is not open.
    pub(super) fn relocate(&mut self, sequence: Sequence, place: Place, now: Time) -> bool {
        self.replace(sequence, place, Some(now)).is_some()
    }

    /// Moves an open message that keeps its age.
    pub(super) fn place(&mut self, sequence: Sequence, place: Place) {
        self.replace(sequence, place, None);
    }

    /// Numbers of all messages in `place` up to `through`, in order, appended to `numbers`.
    pub(super) fn collect(&self, place: Place, through: Sequence, numbers: &mut Vec<Sequence>) {
        let upto = (self.first..=through.0).zip(&self.entries);
        numbers.extend(upto.filter(|(_, entry)| entry.place == place).map(|(sequence, _)| Sequence(sequence)));
    }

    fn replace(&mut self, sequence: Sequence, place: Place, since: Option<Time>) -> Option<Place> {
        let index = usize::try_from(sequence.0.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(index).filter(|entry| entry.place != Place::Answered)?;
        let before = entry.place;
        entry.place = place;
        entry.since = since.unwrap_or(entry.since);
        self.count(before, -1);
        self.count(place, 1);
        Some(before)
    }

    fn count(&mut self, place: Place, change: isize) {
        match place {
            Place::Parked => self.parked = self.parked.saturating_add_signed(change),
            Place::Appending => self.appending = self.appending.saturating_add_signed(change),
            Place::Sent | Place::Answered => {}
        }
    }
}
