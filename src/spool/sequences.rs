//! A set of sequences, small however many there are: those of a spool come in long runs.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequences {
    /// First and last of every run; no two runs touch.
    runs: BTreeMap<u64, u64>,
    count: u64,
}

impl Sequences {
    /// Adds one; whether it is new.
    pub fn insert(&mut self, sequence: u64) -> bool {
        let before = self.runs.range(..=sequence).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| sequence <= last) {
            return false;
        }
        let joined = before.filter(|(_, last)| last.checked_add(1) == Some(sequence));
        let first = joined.map_or(sequence, |(first, _)| first);
        let behind = sequence.checked_add(1).and_then(|next| self.runs.remove(&next));
        self.runs.insert(first, behind.unwrap_or(sequence));
        self.count += 1;
        true
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lowest and the highest.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        let first = self.runs.first_key_value().map(|(first, _)| *first);
        first.zip(self.runs.last_key_value().map(|(_, last)| *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_that_it_stands_for() {
        let mut sequences = Sequences::default();
        let mut model = BTreeSet::new();
        assert_eq!(sequences.range(), None);
        // 97 has no common divisor with 128: every number comes, in no order, and then some again.
        for step in 0..160_u64 {
            let sequence = step * 97 % 128;
            assert_eq!(sequences.insert(sequence), model.insert(sequence), "{sequence}");
            assert_eq!(sequences.count(), model.len() as u64);
            assert_eq!(sequences.range(), Some((*model.first().unwrap(), *model.last().unwrap())));
        }
        assert_eq!(sequences.runs, BTreeMap::from([(0, 127)]));
        assert!(sequences.insert(u64::MAX) && !sequences.insert(u64::MAX));
    }
}
