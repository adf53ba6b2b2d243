//! The window of repeats: which events were made safe of late, or are about to be.
//!
//! The sender repeats a callback up to twelve times, a minute apart, whenever an answer did not reach it in time. The
//! window knows an event by its id and a version of it by the digest of its facts. It promises:
//!
//! - What it calls safe was settled with a proof, and that proof was not called into doubt since: a claim that is
//!   released, or that rests on a frame in a damaged stretch, is forgotten.
//! - It never takes more than `entries_max` entries of 64 bytes and 4 to 8 bytes an entry to find them. A full window
//!   forgets what has been safe for longest, never what is in flight; if all of it is in flight, a message passes
//!   without a claim.
//! - Every call takes constant time, but for [`Window::forget`].
//!
//! It is a plain structure: it has no lock, no clock and no waiters. Who waits for the outcome of a message waits with
//! the message itself, so whatever is forgotten here strands nobody. A restart forgets everything; consumers remove
//! duplicates by the event id.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::message::Identity;

/// How far back repeats are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an event is remembered after it became safe.
    pub period: Duration,
    /// Most events that are remembered; 0 switches the window off.
    pub entries_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        // The sender's last repeat comes up to 12 × (60 s + 20 s) after the first attempt.
        Self { period: Duration::from_secs(20 * 60), entries_max: 65_536 }
    }
}

/// Proof that an event is safe.
pub trait Proof: Copy {
    /// The number of the frame on which it rests; `None` if it rests on Kafka.
    fn frame(&self) -> Option<u64>;
}

/// What is known of a message that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled<P> {
    /// Nothing.
    Unknown,
    /// The event is known in another version, the latest of which has these facts.
    Conflict(u128),
    /// This version is in flight, under this claim.
    InFlight(Claim),
    /// This version is safe.
    Safe(P),
}

/// The claim of a message in flight to be the one that is published. It has to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    slot: u32,
    sequence: u64,
}

impl Claim {
    /// The number of the message.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Sequences that lie between two others, both excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Above this one …
    pub after: u64,
    /// … and below this one; `None` if there is no bound.
    pub before: Option<u64>,
}

impl Stretch {
    fn holds(self, sequence: u64) -> bool {
        sequence > self.after && self.before.is_none_or(|before| sequence < before)
    }
}

/// No slot.
const NONE: u32 = u32::MAX;
/// Most versions of one event that are remembered, so that nobody can make one event's chain long.
const VERSIONS_MAX: usize = 4;
/// Expired entries that a new one takes with it: more than one, so that they become fewer.
const SWEPT_PER_CLAIM: usize = 2;

#[derive(Debug)]
struct Entry<P> {
    identity: Identity,
    state: State<P>,
    /// The second at which it became safe.
    since: u32,
    /// Neighbours in the order in which entries became safe.
    older: u32,
    newer: u32,
    /// The next entry with the same hash, or the next free slot.
    next: u32,
}

#[derive(Debug, Clone, Copy)]
enum State<P> {
    Free,
    InFlight(u64),
    Safe(P),
}

/// See the module.
#[derive(Debug)]
pub struct Window<P> {
    config: Config,
    /// Keyed, so that nobody can make ids that share a chain.
    hasher: RandomState,
    heads: Vec<u32>,
    entries: Vec<Entry<P>>,
    free: u32,
    used: usize,
    oldest: u32,
    newest: u32,
    /// What became safe from this second on is remembered, if it has not expired.
    complete_since: u32,
}

impl<P: Proof> Window<P> {
    /// An empty window. Its memory is reserved here and taken up as it fills.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let entries_max = config.entries_max.min(NONE as usize);
        let heads = if entries_max == 0 { 0 } else { entries_max.next_power_of_two() };
        Self {
            config: Config { entries_max, ..config },
            hasher: RandomState::new(),
            heads: vec![NONE; heads],
            entries: Vec::with_capacity(entries_max),
            free: NONE,
            used: 0,
            oldest: NONE,
            newest: NONE,
            complete_since: 0,
        }
    }

    /// What is known of this version of this event.
    #[must_use]
    pub fn recall(&self, identity: Identity, now: Duration) -> Recalled<P> {
        let mut latest = None;
        for (slot, entry) in self.chain(self.bucket(identity.event_id)) {
            if entry.identity.event_id != identity.event_id || self.is_expired(entry, now) {
                continue;
            }
            if entry.identity.facts != identity.facts {
                // The newest stands first.
                latest = latest.or(Some(entry.identity.facts));
                continue;
            }
            match entry.state {
                State::Free => {}
                State::InFlight(sequence) => return Recalled::InFlight(Claim { slot, sequence }),
                State::Safe(proof) => return Recalled::Safe(proof),
            }
        }
        latest.map_or(Recalled::Unknown, Recalled::Conflict)
    }

    /// Notes that the message with this number is on its way; `None` if there is no room. Numbers are never given
    /// twice, and what was recalled last of this identity was neither in flight nor safe.
    #[must_use]
    pub fn claim(&mut self, identity: Identity, sequence: u64, now: Duration) -> Option<Claim> {
        if self.heads.is_empty() {
            return None;
        }
        self.sweep(now, SWEPT_PER_CLAIM);
        let bucket = self.bucket(identity.event_id);
        let versions = self.chain(bucket).filter(|(_, entry)| entry.identity.event_id == identity.event_id);
        if let Some((slot, _)) = versions.skip(VERSIONS_MAX - 1).last() {
            self.remove(slot);
        }
        let slot = self.vacate(now)?;
        let next = std::mem::replace(self.heads.get_mut(bucket)?, slot);
        let entry = Entry { identity, state: State::InFlight(sequence), since: 0, older: NONE, newer: NONE, next };
        match self.entries.get_mut(slot as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        self.used += 1;
        Some(Claim { slot, sequence })
    }

    /// The outcome of a message: safe with this proof, or not. A claim that is no longer held changes nothing.
    pub fn settle(&mut self, claim: Claim, outcome: Option<P>, now: Duration) {
        let Some(entry) = self.entries.get_mut(claim.slot as usize) else { return };
        if !matches!(entry.state, State::InFlight(sequence) if sequence == claim.sequence) {
            return;
        }
        let Some(proof) = outcome else { return self.remove(claim.slot) };
        entry.state = State::Safe(proof);
        entry.since = seconds(now);
        entry.older = self.newest;
        let newest = std::mem::replace(&mut self.newest, claim.slot);
        match self.entries.get_mut(newest as usize) {
            Some(newest) => newest.newer = claim.slot,
            None => self.oldest = claim.slot,
        }
    }

    /// Forgets every event whose message has its number in one of these stretches, unless Kafka has it; gives how
    /// many. This looks at every entry: it is for damage, which is rare.
    pub fn forget(&mut self, stretches: &[Stretch]) -> usize {
        let before = self.used;
        for slot in 0..u32::try_from(self.entries.len()).unwrap_or(NONE) {
            let frame = self.entries.get(slot as usize).and_then(|entry| match entry.state {
                State::Free => None,
                State::InFlight(sequence) => Some(sequence),
                State::Safe(proof) => proof.frame(),
            });
            if frame.is_some_and(|frame| stretches.iter().any(|stretch| stretch.holds(frame))) {
                self.remove(slot);
            }
        }
        before - self.used
    }

    /// Gives up at most so many entries that have been remembered for the whole period.
    pub fn sweep(&mut self, now: Duration, most: usize) {
        for _ in 0..most {
            let oldest = self.oldest;
            let Some(entry) = self.entries.get(oldest as usize) else { return };
            if !self.is_expired(entry, now) {
                return;
            }
            self.remove(oldest);
        }
    }

    /// Entries in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Most entries.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.config.entries_max
    }

    /// How far back the window reaches: whatever became safe within this time, and was not called into doubt, is
    /// remembered. Less than the period after a start, and when there are more events than entries.
    #[must_use]
    pub fn covered(&self, now: Duration) -> Duration {
        if self.heads.is_empty() {
            return Duration::ZERO;
        }
        now.saturating_sub(Duration::from_secs(self.complete_since.into())).min(self.config.period)
    }

    /// Remembered for the period, and less than a second longer: times are kept in whole seconds.
    fn is_expired(&self, entry: &Entry<P>, now: Duration) -> bool {
        let period = self.config.period + Duration::from_millis(999);
        matches!(entry.state, State::Safe(_)) && seconds(now).saturating_sub(entry.since) > seconds(period)
    }

    fn bucket(&self, event_id: u128) -> usize {
        let mask = self.heads.len().wrapping_sub(1);
        usize::try_from(self.hasher.hash_one(event_id) & mask as u64).unwrap_or_default()
    }

    /// The entries that share a bucket, the newest first.
    fn chain(&self, bucket: usize) -> impl Iterator<Item = (u32, &Entry<P>)> {
        let mut slot = self.heads.get(bucket).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let entry = self.entries.get(slot as usize)?;
            let found = (slot, entry);
            slot = entry.next;
            Some(found)
        })
    }

    /// A slot for a new entry: a free one, a fresh one, or that of the entry that has been safe for longest.
    fn vacate(&mut self, now: Duration) -> Option<u32> {
        if self.free == NONE && self.entries.len() >= self.config.entries_max {
            let Some(oldest) = self.entries.get(self.oldest as usize) else {
                // Everything is in flight. The message that passes without a claim will be safe at some later time.
                self.complete_since = seconds(now) + 1;
                return None;
            };
            self.complete_since = self.complete_since.max(oldest.since + 1);
            self.remove(self.oldest);
        }
        if self.free == NONE {
            return u32::try_from(self.entries.len()).ok();
        }
        let slot = self.free;
        self.free = self.entries.get(slot as usize)?.next;
        Some(slot)
    }

    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let (older, newer, next) = (entry.older, entry.newer, entry.next);
        let event_id = entry.identity.event_id;
        if matches!(std::mem::replace(&mut entry.state, State::Free), State::Safe(_)) {
            match self.entries.get_mut(older as usize) {
                Some(older) => older.newer = newer,
                None => self.oldest = newer,
            }
            match self.entries.get_mut(newer as usize) {
                Some(newer) => newer.older = older,
                None => self.newest = older,
            }
        }
        let bucket = self.bucket(event_id);
        let before = self.chain(bucket).find(|(_, entry)| entry.next == slot).map(|(before, _)| before as usize);
        let link = match before {
            Some(before) => self.entries.get_mut(before).map(|entry| &mut entry.next),
            None => self.heads.get_mut(bucket),
        };
        if let Some(link) = link {
            *link = next;
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.next = std::mem::replace(&mut self.free, slot);
        }
        self.used -= 1;
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Proof as Kept;
    use super::*;

    #[test]
    fn an_entry_takes_one_cache_line() {
        assert_eq!(std::mem::size_of::<Entry<Kept>>(), 64);
    }
}
