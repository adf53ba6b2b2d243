//! A fake spool: what is queued, what is synced, what survives a crash.

use std::collections::{BTreeMap, VecDeque};

use recording_bridge::delivery::ladder::{Recovered, Sequence, SpoolFault};
use recording_bridge::delivery::window::Stretch;

use super::dice::Dice;

#[derive(Default)]
pub(crate) struct Disk {
    /// Frames that wait for the appender, with their messages.
    pub(crate) queue: VecDeque<(Sequence, usize)>,
    /// Frames that are fsynced.
    pub(crate) synced: BTreeMap<Sequence, usize>,
    /// Frames of failed appends: a crash may bring them back.
    doubtful: BTreeMap<Sequence, usize>,
    /// Frames that were fsynced and have become unreadable, which nobody has noticed yet.
    pub(crate) damaged: BTreeMap<Sequence, usize>,
    /// A write has failed: until the next one succeeds, nobody can vouch for any frame.
    pub(crate) in_doubt: bool,
    pub(crate) watermark: u64,
    pub(crate) full: bool,
    pub(crate) broken: bool,
    pub(crate) hanging: bool,
    pub(crate) unreadable: bool,
    pub(crate) dead_letters_full: bool,
    pub(crate) probes: usize,
    /// Every number that was ever synced, to see that none is used twice.
    used: BTreeMap<Sequence, usize>,
}

impl Disk {
    pub(crate) fn fault(&self) -> Option<SpoolFault> {
        match (self.broken, self.full) {
            (true, _) => Some(SpoolFault::Unhealthy),
            (_, true) => Some(SpoolFault::Full),
            _ => None,
        }
    }

    fn sync(&mut self, sequence: Sequence, message: usize) {
        let before = self.used.insert(sequence, message);
        assert!(before.is_none_or(|before| before == message), "frame number {sequence:?} was used twice");
        self.synced.insert(sequence, message);
    }

    /// One group commit. Gives the last number of the batch.
    pub(crate) fn append(&mut self, dice: &mut Dice) -> Option<(Sequence, Result<(), SpoolFault>)> {
        if self.hanging || self.queue.is_empty() {
            return None;
        }
        let size = 1 + dice.below(self.queue.len());
        let batch: Vec<_> = self.queue.drain(..size).collect();
        let through = batch.last().expect("the size is at least one").0;
        if let Some(fault) = self.fault() {
            if fault == SpoolFault::Unhealthy {
                self.doubtful.extend(batch);
                self.in_doubt = true;
            }
            return Some((through, Err(fault)));
        }
        for (sequence, message) in batch {
            let newest = self.synced.last_key_value().map(|(newest, _)| *newest);
            assert!(newest.is_none_or(|newest| newest < sequence), "frames are appended in order of number");
            self.sync(sequence, message);
        }
        self.in_doubt = false;
        Some((through, Ok(())))
    }

    /// A frame becomes unreadable.
    pub(crate) fn damage(&mut self, dice: &mut Dice) {
        if let Some(sequence) = self.synced.keys().nth(dice.below(self.synced.len().max(1))).copied() {
            self.damaged.extend(self.synced.remove(&sequence).map(|message| (sequence, message)));
        }
    }

    /// The damage that a read of this range comes across: what is lost, and the sound frames around it.
    pub(crate) fn find_damage(&mut self, after: Sequence, through: Sequence) -> Vec<(usize, Stretch)> {
        let hit = |sequence: &Sequence| *sequence > after && *sequence <= through;
        let found: Vec<_> = self.damaged.iter().filter(|(sequence, _)| hit(sequence)).map(|(s, m)| (*s, *m)).collect();
        self.damaged.retain(|sequence, _| !hit(sequence));
        let around = |sequence: Sequence| Stretch {
            after: self.synced.range(..sequence).next_back().map_or(0, |(before, _)| before.0),
            before: self.synced.range(sequence..).next().map(|(next, _)| next.0),
        };
        found.into_iter().map(|(sequence, message)| (message, around(sequence))).collect()
    }

    pub(crate) fn commit(&mut self, watermark: Sequence) {
        self.watermark = self.watermark.max(watermark.0);
        self.synced = self.synced.split_off(&Sequence(watermark.0 + 1));
        self.doubtful = self.doubtful.split_off(&Sequence(watermark.0 + 1));
    }

    /// The process died. Some of what was being written is there, in order.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> Recovered {
        let newest = self.synced.last_key_value().map(|(newest, _)| *newest);
        for (sequence, message) in std::mem::take(&mut self.doubtful) {
            if newest.is_none_or(|newest| sequence > newest) && dice.percent(50) {
                self.sync(sequence, message);
            }
        }
        let kept = dice.below(self.queue.len() + 1);
        for (sequence, message) in std::mem::take(&mut self.queue).into_iter().take(kept) {
            if self.fault().is_none() {
                self.sync(sequence, message);
            }
        }
        self.probes = 0;
        self.in_doubt = false;
        // Damage hides a frame, not its number.
        let last = self.used.last_key_value().map_or(Sequence(self.watermark), |(last, _)| *last);
        Recovered { watermark: Sequence(self.watermark), last }
    }
}
