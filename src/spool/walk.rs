//! A walk through the frames of one segment.
//!
//! It promises that no sound frame is passed over: behind a bad one it looks at every position for the next frame
//! whose checksum holds and whose sequence is plausible. What is left when none follows is handed to the caller,
//! who alone knows whether it is a torn tail or damage. Reading is behind [`Source`]; deciding is not.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use super::frame::{self, Head, MARKER, SEQUENCE_MAX};
use super::storage::{StoredFile, read_fully};

/// Read at least this much at a time.
const CHUNK_BYTES: u64 = 256 << 10;
/// After this many read errors in a row the unreadable pages of a segment count as damaged. Until then the error may
/// pass, and giving up frames for it would be rash.
pub(super) const READ_ATTEMPTS_MAX: u32 = 5;
/// Granularity in which an unreadable stretch is read again.
const PAGE_BYTES: u64 = 4096;
/// How far to look ahead for a marker at a time.
const LOOK_AHEAD_BYTES: usize = 4096;
/// How far the sequence may jump behind a bad frame. Messages that went to Kafka directly take numbers too, so there
/// are gaps; 2^48 of them would take centuries.
pub(super) const SEQUENCE_JUMP_MAX: u64 = 1 << 48;

/// Where the bytes of a segment come from.
pub(super) trait Source {
    /// `length` bytes at `offset`, fewer only if the segment ends.
    fn load(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// A file as it is: a read error is an error.
#[derive(Debug)]
pub(super) struct Strict<'a, F>(pub(super) &'a F);

impl<F: StoredFile> Source for Strict<'_, F> {
    fn load(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_fully(self.0, offset, length)
    }
}

/// A file of which some pages cannot be read: they come as zeros, and the walk sees them as damage. For a file that
/// has failed again and again; one bad sector must not hold back the frames around it for ever.
#[derive(Debug)]
pub(super) struct Lenient<'a, F> {
    file: &'a F,
    gave_up: Cell<bool>,
}

impl<'a, F> Lenient<'a, F> {
    pub(super) fn new(file: &'a F) -> Self {
        Self { file, gave_up: Cell::new(false) }
    }

    /// Whether any page could not be read.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.get()
    }
}

impl<F: StoredFile> Source for Lenient<'_, F> {
    fn load(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if let Ok(bytes) = read_fully(self.file, offset, length) {
            return Ok(bytes);
        }
        let end = offset + length as u64;
        let mut bytes = Vec::with_capacity(length);
        let mut position = offset;
        while position < end {
            let page_end = (position / PAGE_BYTES + 1).saturating_mul(PAGE_BYTES).min(end);
            let page_bytes = usize::try_from(page_end - position).unwrap_or(0);
            let page = read_fully(self.file, position, page_bytes).unwrap_or_else(|_| {
                self.gave_up.set(true);
                vec![0; page_bytes]
            });
            let ended = page.len() < page_bytes;
            bytes.extend_from_slice(&page);
            if ended {
                break;
            }
            position = page_end;
        }
        Ok(bytes)
    }
}

/// Bytes in memory, `start` being the position of the first.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    pub(super) start: u64,
    pub(super) bytes: &'a [u8],
}

impl Source for Memory<'_> {
    fn load(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(length).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default().to_vec())
    }
}

/// What stands at the position reached.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A sound frame: its head and its bytes.
    Frame(Head, &'a [u8]),
    /// Bytes that are no frame; a sound one follows, of this sequence.
    Damaged(Range<u64>, u64),
    /// Bytes up to the limit that are no frame, and no sound one follows. `blank`: they are all zero or missing.
    Rest {
        /// Where they stand.
        range: Range<u64>,
        /// Whether nothing was ever written there, by the look of it.
        blank: bool,
    },
    /// The limit.
    End,
}

/// A position in a segment, and what was read around it.
#[derive(Debug)]
pub(super) struct Walk {
    position: u64,
    /// The next sequence must be above this.
    floor: u64,
    /// No sequence may be above this.
    ceiling: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl Walk {
    /// Starts at `position`, where the next sequence must be above `floor`.
    pub(super) fn new(position: u64, floor: u64) -> Self {
        Self { position, floor, ceiling: SEQUENCE_MAX, buffer: Vec::new(), buffer_start: 0 }
    }

    /// From here on, what has a sequence above `ceiling` is no frame.
    pub(super) fn stay_below(&mut self, ceiling: u64) {
        self.ceiling = ceiling.min(SEQUENCE_MAX);
    }

    /// Where the next step begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Highest sequence seen, or the floor given.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes one step, never looking at or beyond `limit`.
    pub(super) fn step(&mut self, source: &impl Source, limit: u64) -> io::Result<Step<'_>> {
        if self.position >= limit {
            return Ok(Step::End);
        }
        let start = self.position;
        if let Some(head) = self.sound_at(source, start, limit)? {
            self.floor = head.sequence;
            self.position = start + head.frame_bytes() as u64;
            let whole = self.view(source, start, head.frame_bytes(), limit)?;
            return Ok(Step::Frame(head, whole));
        }
        if let Some((next, head)) = self.next_sound(source, start + 1, limit)? {
            self.position = next;
            return Ok(Step::Damaged(start..next, head.sequence));
        }
        let blank = self.is_blank(source, start..limit)?;
        self.position = limit;
        Ok(Step::Rest { range: start..limit, blank })
    }

    /// The bytes at `offset`, `length` of them or fewer if the limit or the segment comes first.
    fn view(&mut self, source: &impl Source, offset: u64, length: usize, limit: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        let buffer_end = self.buffer_start + self.buffer.len() as u64;
        if offset < self.buffer_start || offset + length as u64 > buffer_end {
            let wanted = CHUNK_BYTES.max(length as u64).min(limit.saturating_sub(offset));
            self.buffer = source.load(offset, usize::try_from(wanted).unwrap_or(length))?;
            self.buffer_start = offset;
        }
        let from = usize::try_from(offset - self.buffer_start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    /// The head of the frame at `offset`, if a whole, sound and plausible one stands there.
    fn sound_at(&mut self, source: &impl Source, offset: u64, limit: u64) -> io::Result<Option<Head>> {
        let (floor, ceiling) = (self.floor, self.ceiling);
        let Some(head) = Head::parse(self.view(source, offset, frame::HEADER_BYTES, limit)?) else { return Ok(None) };
        let plausible = head.sequence > floor && head.sequence <= ceiling && head.sequence - floor <= SEQUENCE_JUMP_MAX;
        if !plausible {
            return Ok(None);
        }
        let whole = self.view(source, offset, head.frame_bytes(), limit)?;
        Ok((whole.len() == head.frame_bytes() && head.is_sound(whole)).then_some(head))
    }

    /// The first sound frame at or behind `offset`.
    fn next_sound(&mut self, source: &impl Source, mut offset: u64, limit: u64) -> io::Result<Option<(u64, Head)>> {
        let [first, ..] = MARKER;
        while offset < limit {
            let bytes = self.view(source, offset, LOOK_AHEAD_BYTES, limit)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            match bytes.iter().position(|byte| *byte == first) {
                None => offset += bytes.len() as u64,
                Some(at) => {
                    offset += at as u64;
                    if let Some(head) = self.sound_at(source, offset, limit)? {
                        return Ok(Some((offset, head)));
                    }
                    offset += 1;
                }
            }
        }
        Ok(None)
    }

    fn is_blank(&mut self, source: &impl Source, range: Range<u64>) -> io::Result<bool> {
        let mut offset = range.start;
        while offset < range.end {
            let bytes = self.view(source, offset, LOOK_AHEAD_BYTES, range.end)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += bytes.len() as u64;
        }
        Ok(true)
    }
}
