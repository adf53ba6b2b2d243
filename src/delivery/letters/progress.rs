//! How far the dead letters are published. Pure.
//!
//! Letters are published in order. One that the topic refuses for good is kept: it holds the watermark, and those
//! behind it are published all the same. Since everything up to the position was published or is kept, what is to be
//! remembered is the kept ones alone, of which there is a limit.

use std::collections::BTreeMap;

/// How many letters may be kept. At the limit nothing more is published until one of them is.
pub(super) const KEPT_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    position: u64,
    /// Kept letters, and how many were published between each and the next.
    kept: BTreeMap<u64, u64>,
}

impl Progress {
    /// Everything up to `watermark` is published.
    pub(super) fn new(watermark: u64) -> Self {
        Self { position: watermark, kept: BTreeMap::new() }
    }

    /// Everything up to here was published or is kept.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Everything up to here was published.
    pub(super) fn watermark(&self) -> u64 {
        self.kept.first_key_value().map_or(self.position, |(first, _)| first - 1)
    }

    /// Letters published above the watermark.
    pub(super) fn published_beyond(&self) -> u64 {
        self.kept.values().sum()
    }

    /// The letter after the position was published.
    pub(super) fn published(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
        if let Some(mut last) = self.kept.last_entry() {
            *last.get_mut() += 1;
        }
    }

    /// The letter after the position is refused for good.
    pub(super) fn keep(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
        self.kept.insert(sequence, 0);
    }

    /// A kept letter was published after all, or is gone.
    pub(super) fn release(&mut self, sequence: u64) {
        let Some(behind) = self.kept.remove(&sequence) else { return };
        if let Some((_, before)) = self.kept.range_mut(..sequence).next_back() {
            *before += behind + 1;
        }
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = u64> {
        self.kept.keys().copied()
    }

    pub(super) fn kept_count(&self) -> usize {
        self.kept.len()
    }

    /// Whether one more could be kept.
    pub(super) fn may_go_on(&self) -> bool {
        self.kept.len() < KEPT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_letter_holds_the_watermark_and_nothing_else() {
        let mut progress = Progress::new(10);
        progress.published(11);
        assert_eq!((progress.position(), progress.watermark(), progress.published_beyond()), (11, 11, 0));
        progress.keep(12);
        // Numbers may have gaps: those of a batch that could not be written are spent.
        progress.published(15);
        progress.published(16);
        assert_eq!((progress.position(), progress.watermark(), progress.published_beyond()), (16, 11, 2));
        progress.keep(17);
        progress.published(18);
        assert_eq!((progress.watermark(), progress.published_beyond()), (11, 3));
        assert_eq!(progress.kept().collect::<Vec<_>>(), [12, 17]);
    }

    #[test]
    fn a_released_letter_moves_the_watermark_to_the_next_kept_one() {
        for (released, watermark, beyond) in [(12, 16, 1), (17, 11, 4)] {
            let mut progress = Progress::new(11);
            progress.keep(12);
            progress.published(13);
            progress.published(16);
            progress.keep(17);
            progress.published(18);
            progress.release(released);
            progress.release(released);
            assert_eq!((progress.watermark(), progress.published_beyond()), (watermark, beyond), "{released}");
            progress.release(29 - released);
            assert_eq!((progress.watermark(), progress.published_beyond()), (18, 0), "{released}");
        }
    }

    #[test]
    fn as_many_as_the_limit_are_kept() {
        let mut progress = Progress::new(0);
        for sequence in 1..=KEPT_MAX as u64 {
            assert!(progress.may_go_on());
            progress.keep(sequence);
        }
        assert!(!progress.may_go_on());
        progress.release(1);
        assert!(progress.may_go_on());
    }
}
