//! The ledger: what the writer and the drain both know, behind one lock that is never held across a filesystem step.
//!
//! The writer alone adds segments and moves the synced end; the drain alone moves the watermark and takes segments
//! out, except for the one the writer is writing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{Fault, Full};
use super::segment::{self, Id};
use super::storage::Storage;
use super::{Config, Health, Status};
use crate::event::Timestamp;

/// The end of a segment that could not be read when it was looked for: wherever its file ends.
pub(super) const END_UNKNOWN: u64 = u64::MAX;

/// What is known of one segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// No frame in it has a lower sequence.
    pub(super) first_sequence: u64,
    /// No frame in it has a higher sequence.
    pub(super) last_bound: u64,
    /// It has no more frames than this; exact once it was written or read to the end by this process.
    pub(super) frames_max: u64,
    /// Space it takes.
    pub(super) bytes: u64,
    /// Where its frames end. Everything before was synced or found sound, so what cannot be read there is damage.
    pub(super) end: u64,
    /// Something in it could not be read.
    pub(super) damaged: bool,
    /// It was set aside before, and is read once more. It stays where it is.
    pub(super) is_set_aside: bool,
    /// Damage before this position is known already.
    pub(super) reported_to: u64,
}

impl Segment {
    /// Name of its file, given its number.
    pub(super) fn name(&self, number: u64) -> String {
        segment::stored_name(number, self.is_set_aside)
    }

    fn frames_undelivered(&self, watermark: u64) -> u64 {
        let below = watermark.max(self.first_sequence.saturating_sub(1));
        self.frames_max.min(self.last_bound.saturating_sub(below))
    }
}

/// The synced frames of the segment that is being written. A failed sync may take them from the page cache and from
/// the disk, answered ones included; here they stay until the segment is sealed.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

/// A file that is of no more use, and that could not be removed yet.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) tail: Option<Tail>,
    pub(super) leftovers: Vec<Leftover>,
    /// Everything up to here has been delivered.
    pub(super) watermark: u64,
    /// The watermark that was found at the start, also if it is not believed. It is never taken back: it tells which
    /// sequences were used, when no segment does any more.
    pub(super) found: u64,
    /// The watermark that would be found after a crash.
    pub(super) persisted: u64,
    /// Highest sequence that may ever have been written.
    pub(super) last_sequence: u64,
    pub(super) oldest_accepted_at: Option<Timestamp>,
    pub(super) damaged_stretches: u64,
    pub(super) set_aside: u64,
    /// Free bytes of the volume when it was looked at last, where that could be told.
    pub(super) volume_free: Option<u64>,
    pub(super) full: Option<Full>,
    pub(super) fault: Option<Fault>,
}

impl Ledger {
    /// Space taken by everything that is to be read, or could not be removed.
    pub(super) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.values().map(|segment| segment.bytes).sum();
        let leftovers: u64 = self.leftovers.iter().map(|leftover| leftover.bytes).sum();
        segments + leftovers
    }

    pub(super) fn is_tail(&self, number: u64) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.number == number)
    }

    /// Whether every frame that exists has been delivered.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.values().all(|segment| segment.last_bound <= self.watermark)
    }

    /// Marks damage in a segment before `position`; whether it was not known yet.
    pub(super) fn is_news(&mut self, number: u64, position: u64) -> bool {
        let Some(segment) = self.segments.get_mut(&number) else { return false };
        segment.damaged = true;
        let news = position > segment.reported_to;
        segment.reported_to = segment.reported_to.max(position);
        self.damaged_stretches += u64::from(news);
        news
    }

    /// See [`Status::room_bytes`]. What is left for less than a whole segment takes nothing.
    fn room(&self, config: &Config) -> u64 {
        let active = self.tail.as_ref().and_then(|tail| self.segments.get(&tail.number));
        let rest = active.map_or(0, |segment| segment.bytes.saturating_sub(segment.end));
        let by_cap = config.bytes_max.saturating_sub(self.bytes());
        let by_volume = self.volume_free.map_or(u64::MAX, |free| free.saturating_sub(config.disk_free_min));
        let further = by_cap.min(by_volume);
        rest + further - further % config.segment_bytes.max(1)
    }

    pub(super) fn status(&self, config: &Config) -> Status {
        let frames = self.segments.values().map(|segment| segment.frames_undelivered(self.watermark)).sum();
        Status {
            frames,
            bytes: self.bytes(),
            bytes_max: config.bytes_max,
            room_bytes: self.room(config),
            oldest_accepted_at: self.oldest_accepted_at.filter(|_| !self.is_empty()),
            segments: self.segments.len(),
            damaged_stretches: self.damaged_stretches,
            segments_set_aside: self.set_aside,
            watermark: self.watermark,
            watermark_persisted: self.persisted,
            last_sequence: self.last_sequence,
            health: match (self.fault, self.full) {
                (Some(fault), _) => Health::Unhealthy(fault),
                (None, Some(full)) => Health::Full(full),
                (None, None) => Health::Ready,
            },
        }
    }
}

/// What the handles of one spool share.
#[derive(Debug)]
pub(super) struct Shared<S: Storage> {
    pub(super) storage: S,
    pub(super) config: Config,
    pub(super) spool: Id,
    ledger: Mutex<Ledger>,
    /// Held for as long as any handle lives.
    _lock: S::Lock,
}

impl<S: Storage> Shared<S> {
    pub(super) fn new(storage: S, config: Config, spool: Id, ledger: Ledger, lock: S::Lock) -> Arc<Self> {
        Arc::new(Self { storage, config, spool, ledger: Mutex::new(ledger), _lock: lock })
    }

    /// The ledger. A panic elsewhere leaves it consistent enough to read: every change is a few plain assignments.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
