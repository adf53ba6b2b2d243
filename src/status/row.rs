//! A row: one callback, in as many bytes as a row has.

use std::net::IpAddr;

use super::Ending;
use crate::callback::Kind;
use crate::event::Timestamp;
use crate::metrics::Outcome;

/// Stream names longer than this are shown cut off. Those that were ever seen have some dozens of bytes.
pub(super) type StreamName = Name<128>;
/// The same for names of files.
pub(super) type FileName = Name<64>;

/// A text of at most `N` bytes, kept where it stands; a longer one is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<const N: usize> {
    bytes: [u8; N],
    length: u8,
    is_cut: bool,
}

impl<const N: usize> Default for Name<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0, is_cut: false }
    }
}

impl<const N: usize> Name<N> {
    /// The beginning of `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        const { assert!(N <= u8::MAX as usize, "the length is one byte") };
        let mut name = Self { is_cut: text.len() > N, ..Self::default() };
        for (to, from) in name.bytes.iter_mut().zip(text) {
            *to = *from;
        }
        name.length = u8::try_from(text.len().min(N)).unwrap_or(u8::MAX);
        name
    }

    /// The text, with a mark at its end where it was cut off.
    pub(super) fn shown(&self) -> String {
        let kept = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // A letter that was cut in two is left out. What is no text at all does not come here.
        let mut text = kept.utf8_chunks().next().map(|chunk| chunk.valid().to_owned()).unwrap_or_default();
        if self.is_cut {
            text.push('…');
        }
        text
    }
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In Kafka.
    Kafka {
        /// Partition.
        partition: i32,
        /// Offset in it.
        offset: i64,
    },
    /// In the spool, under this number.
    Spool(u64),
}

/// What is known of a callback that one of our keys has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// Place of the key in the keyring.
    pub(super) key_index: usize,
    /// Whether it was signed within the window of time; otherwise it may be a replay, and is as good as unsigned.
    pub(super) is_timely: bool,
    pub(super) kind: Option<Kind>,
    pub(super) file: FileName,
}

impl Signed {
    /// An authentic callback of this kind, about this file.
    #[must_use]
    pub fn timely(key_index: usize, kind: Option<Kind>, file: &str) -> Self {
        Self { key_index, is_timely: true, kind, file: Name::of(file.as_bytes()) }
    }

    /// One that was signed too long ago, or in our future. What it says is not read.
    #[must_use]
    pub fn out_of_time(key_index: usize) -> Self {
        Self { key_index, is_timely: false, kind: None, file: Name::default() }
    }
}

/// One callback.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub(super) number: u64,
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) place: Option<Place>,
    pub(super) microseconds: u64,
    /// Of a callback that got no 200.
    pub(super) source: Option<IpAddr>,
    pub(super) signed: Option<Signed>,
    pub(super) stream: StreamName,
    pub(super) member: &'static str,
}

impl Row {
    pub(super) fn of(ending: &Ending<'_>) -> Self {
        let is_refused = matches!(ending.outcome, Outcome::Refused(_) | Outcome::Unresolved);
        Self {
            number: 0,
            at: ending.at,
            outcome: ending.outcome,
            place: ending.place,
            microseconds: ending.microseconds,
            source: is_refused.then_some(ending.source),
            signed: ending.signed.copied(),
            stream: Name::of(ending.stream),
            member: ending.member,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_it_is_or_cut_between_two_letters() {
        assert_eq!(Name::<8>::of(b"").shown(), "");
        assert_eq!(Name::<8>::of(b"12345678").shown(), "12345678");
        assert_eq!(Name::<8>::of(b"123456789").shown(), "12345678…");
        assert_eq!(Name::<8>::of("1234567é".as_bytes()).shown(), "1234567…");
        assert_eq!(Name::<8>::of("直播直播".as_bytes()).shown(), "直播…");
    }
}
