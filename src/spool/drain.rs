//! The drain: reads frames in order, and takes away what was delivered.
//!
//! [`Drain::read`] hands out every synced frame above a sequence once, in order, and never one that is not synced.
//! Segments can overlap after a crash in the middle of a rewrite, so it merges them by sequence. What cannot be
//! read is passed over and reported, never waited for. It does not publish, retry or remember what is in flight.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::cursor::{Cursor, Damaged, Met, meet_next};
use super::fault::{Fault, Operation};
use super::frame::Frame;
use super::ledger::{Segment, Shared};
use super::segment;
use super::storage::Storage;
use super::watermark::WatermarkFile;
use crate::event::Timestamp;

/// What a read found.
#[derive(Debug, Default)]
pub struct Read {
    /// Frames in order.
    pub frames: Vec<Frame>,
    /// Damage passed over on the way.
    pub damaged: Vec<Damaged>,
    /// Whether the synced end was reached: there was nothing more when this was read.
    pub at_end: bool,
}

/// A segment could not be read. To be tried again after a pause; in the end the stretch is given up as damaged.
#[derive(Debug)]
pub struct ReadError {
    /// Name of the file.
    pub file: String,
    /// What the filesystem said.
    pub error: io::Error,
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} cannot be read: {}", self.file, self.error)
    }
}

impl std::error::Error for ReadError {}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The watermark now in force.
    pub watermark: u64,
    /// What stood in the way of persisting it or of removing segments. Neither loses anything: the next commit tries
    /// again, and a restart before it delivers some frames twice.
    pub fault: Option<Fault>,
    /// Delivered segments removed.
    pub segments_removed: u64,
    /// Delivered but damaged segments set aside.
    pub segments_set_aside: u64,
}

/// What becomes of the file of a delivered segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Remove,
    SetAside,
    /// It was set aside before.
    Stay,
}

/// The handle that reads and commits. There is one.
pub struct Drain<S: Storage> {
    shared: Arc<Shared<S>>,
    watermark_file: WatermarkFile<S::File>,
    cursors: Vec<Cursor<S::File>>,
    /// The highest segment that has, or had, a cursor.
    opened: u64,
    /// Everything up to here was handed out, or need not be.
    position: u64,
    read_failures: u32,
    /// Found while looking ahead, for the next read to report.
    damaged: Vec<Damaged>,
    /// Last sequence and first time of acceptance of each batch handed out and not committed.
    unfinished: VecDeque<(u64, Timestamp)>,
}

impl<S: Storage> fmt::Debug for Drain<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Drain").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<S: Storage> Drain<S> {
    /// Writes the watermark once more, whatever was found: the slot that was read may stand in the page cache only, if
    /// its sync failed in the last process, and a new file must be there before the disk is full.
    pub(super) fn new(shared: Arc<Shared<S>>, watermark_file: WatermarkFile<S::File>) -> Self {
        let position = shared.ledger().watermark;
        let mut drain = Self {
            shared,
            watermark_file,
            cursors: Vec::new(),
            opened: 0,
            position,
            read_failures: 0,
            damaged: Vec::new(),
            unfinished: VecDeque::new(),
        };
        // Segments that were delivered before the stop go now. What fails here is tried again by the first commit.
        drain.settle(position, true);
        // The age of the oldest frame is wanted before the first read. If it cannot be had, it comes with that.
        if let Ok(Some(index)) = drain.lowest() {
            let next = drain.cursors.get(index).and_then(|cursor| cursor.next.as_ref());
            drain.shared.ledger().oldest_accepted_at = next.map(|next| next.accepted_at);
        }
        drain
    }

    /// Frames above `after`, in order, up to about `bytes_max` of them, at least one if there is one. Reading on from
    /// the last sequence handed out is cheap; any other place is searched for from the start of its segment.
    ///
    /// # Errors
    /// If a segment cannot be read at the moment.
    pub fn read(&mut self, after: u64, bytes_max: usize) -> Result<Read, ReadError> {
        if after != self.position {
            self.cursors.clear();
            self.opened = 0;
            self.position = after;
        }
        let mut frames: Vec<Frame> = Vec::new();
        let mut bytes = 0;
        let mut at_end = false;
        loop {
            let lowest = match self.lowest() {
                Ok(lowest) => lowest,
                // What was found before is handed out first; the error will be there again.
                Err(_) if !frames.is_empty() => break,
                Err(error) => return Err(error),
            };
            let Some(cursor) = lowest.and_then(|index| self.cursors.get_mut(index)) else {
                at_end = true;
                break;
            };
            let Some(frame) =
                cursor.next.take_if(|next| frames.is_empty() || bytes + next.message.size_bytes() <= bytes_max)
            else {
                break;
            };
            bytes += frame.message.size_bytes();
            self.position = frame.sequence;
            frames.push(frame);
        }
        if let Some((first, last)) = frames.first().zip(frames.last()) {
            self.note_handed_out(first.accepted_at, last.sequence);
        }
        Ok(Read { frames, damaged: std::mem::take(&mut self.damaged), at_end })
    }

    /// Frames up to `last` were handed out, the first of them accepted at `since`. One entry a second is exact enough for
    /// the age of the oldest, and bounds the memory while a frame holds the watermark.
    fn note_handed_out(&mut self, since: Timestamp, last: u64) {
        match self.unfinished.back_mut() {
            Some((until, _)) if last <= *until => {}
            Some((until, accepted_at)) if accepted_at.seconds() == since.seconds() => *until = last,
            _ => self.unfinished.push_back((last, since)),
        }
    }

    /// Notes that every frame up to `watermark` was delivered: persists that, then removes the segments that are
    /// delivered in full. A commit beyond the last synced frame counts up to that one.
    pub fn commit(&mut self, watermark: u64) -> Committed {
        self.settle(watermark, false)
    }

    fn settle(&mut self, watermark: u64, persist_anyway: bool) -> Committed {
        let (watermark, found, persisted) = {
            let mut ledger = self.shared.ledger();
            let last = ledger.segments.values().map(|segment| segment.last_bound).max().unwrap_or(0);
            ledger.watermark = ledger.watermark.max(watermark.min(last));
            (ledger.watermark, ledger.found, ledger.persisted)
        };
        let mut fault = None;
        let mark = watermark.max(found);
        if mark > persisted || persist_anyway {
            match self.watermark_file.persist(&self.shared.storage, self.shared.spool, mark) {
                Ok(()) => self.shared.ledger().persisted = mark,
                Err(error) => fault = Some(Fault::storage(Operation::Watermark, &error)),
            }
        }
        let mut committed = Committed { watermark, fault, segments_removed: 0, segments_set_aside: 0 };
        if let Err(error) = self.sweep(&mut committed) {
            committed.fault = Some(Fault::storage(Operation::Remove, &error));
        }
        self.note_oldest(watermark);
        committed
    }

    /// Takes away delivered segments from the oldest on, and stops at the first that stays: the newest must be the
    /// last to go, since it tells which sequences were used.
    fn sweep(&mut self, committed: &mut Committed) -> io::Result<()> {
        self.retry_leftovers();
        let mut changed = false;
        let outcome = loop {
            let Some((number, fate)) = self.first_delivered() else { break Ok(()) };
            let name = segment::name(number);
            let storage = &self.shared.storage;
            let taken = match fate {
                Fate::Remove => storage.unlink(&name),
                Fate::SetAside => storage.rename(&name, &segment::set_aside_name(number)),
                Fate::Stay => Ok(()),
            };
            match taken {
                Ok(()) => {}
                // Somebody was faster; it is gone either way.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => break Err(error),
            }
            changed = true;
            self.cursors.retain(|cursor| cursor.number != number);
            let mut ledger = self.shared.ledger();
            ledger.segments.remove(&number);
            match fate {
                Fate::Remove => committed.segments_removed += 1,
                Fate::SetAside => {
                    ledger.set_aside += 1;
                    committed.segments_set_aside += 1;
                }
                Fate::Stay => {}
            }
        };
        if changed {
            // Without a watermark on disk, only the missing name keeps the frames from coming back.
            self.shared.storage.sync_directory()?;
        }
        outcome
    }

    /// The oldest segment, if it may be taken away, and what becomes of its file.
    fn first_delivered(&self) -> Option<(u64, Fate)> {
        let ledger = self.shared.ledger();
        let (number, segment) = ledger.segments.first_key_value()?;
        let delivered = segment.last_bound <= ledger.watermark && !ledger.is_tail(*number);
        // A slot that cannot be written must not keep space from being freed, but the newest segment alone then
        // keeps sequences from being given out twice.
        let remembered = ledger.segments.len() > 1 || ledger.persisted >= ledger.last_sequence;
        let fate = match (segment.is_set_aside, segment.damaged) {
            (true, _) => Fate::Stay,
            (false, true) => Fate::SetAside,
            (false, false) => Fate::Remove,
        };
        (delivered && remembered).then_some((*number, fate))
    }

    fn retry_leftovers(&self) {
        let leftovers = std::mem::take(&mut self.shared.ledger().leftovers);
        for leftover in leftovers {
            match self.shared.storage.unlink(&leftover.name) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => self.shared.ledger().leftovers.push(leftover),
            }
        }
    }

    fn note_oldest(&mut self, watermark: u64) {
        let mut last = None;
        while let Some((batch_last, accepted_at)) = self.unfinished.front().copied()
            && batch_last <= watermark
        {
            last = Some(accepted_at);
            self.unfinished.pop_front();
        }
        let ahead = self.cursors.iter().filter_map(|cursor| cursor.next.as_ref()).min_by_key(|next| next.sequence);
        let oldest = self.unfinished.front().map(|(_, accepted_at)| *accepted_at);
        // What has not been looked at yet was accepted no earlier than what was delivered last.
        if let Some(oldest) = oldest.or(ahead.map(|next| next.accepted_at)).or(last) {
            self.shared.ledger().oldest_accepted_at = Some(oldest);
        }
    }

    /// The cursor whose next frame is the lowest above the position; `None` at the synced end.
    fn lowest(&mut self) -> Result<Option<usize>, ReadError> {
        loop {
            let mut index = 0;
            while index < self.cursors.len() {
                if self.advance(index)? {
                    index += 1;
                } else {
                    self.cursors.swap_remove(index);
                }
            }
            let lowest = (0..)
                .zip(&self.cursors)
                .filter_map(|(index, cursor)| cursor.next.as_ref().map(|next| (next.sequence, index)))
                .min();
            // A later segment may hold a lower frame only if it may begin below; then it has to be looked into.
            if !self.open_next(lowest.map(|(sequence, _)| sequence)) {
                return Ok(lowest.map(|(_, index)| index));
            }
        }
    }

    /// Gives a cursor to the next segment that has none, if it may hold a frame below `bound`. What lies below the
    /// position as a whole is passed by: going back by one frame must not mean to read a whole spool again.
    fn open_next(&mut self, bound: Option<u64>) -> bool {
        let (shared, position) = (Arc::clone(&self.shared), self.position);
        let ledger = shared.ledger();
        let is_below = |number: u64, segment: &Segment| {
            (1..=position).contains(&segment.last_bound) && !segment.damaged && !ledger.is_tail(number)
        };
        let mut ahead = ledger.segments.range(self.opened + 1..);
        let Some((number, segment)) = ahead.find(|(number, segment)| !is_below(**number, segment)) else {
            return false;
        };
        if bound.is_some_and(|bound| bound < segment.first_sequence) {
            return false;
        }
        self.opened = *number;
        self.cursors.push(Cursor::new(*number, segment));
        true
    }

    /// Moves a cursor to its next frame above the position, if there is one; `false` if it has no more to give.
    fn advance(&mut self, index: usize) -> Result<bool, ReadError> {
        let position = self.position;
        let Some(cursor) = self.cursors.get_mut(index) else { return Ok(false) };
        if cursor.next.as_ref().is_some_and(|next| next.sequence <= position) {
            cursor.next = None;
        }
        while cursor.next.is_none() {
            let met = meet_next(&self.shared, cursor, position, self.read_failures);
            self.read_failures = if met.is_err() { self.read_failures + 1 } else { 0 };
            match met.map_err(|error| ReadError { file: cursor.name.clone(), error })? {
                Met::Frame(frame) => {
                    cursor.frames += 1;
                    cursor.next = frame;
                }
                Met::Damaged { found, is_frame } => {
                    cursor.frames += u64::from(is_frame);
                    let mut ledger = self.shared.ledger();
                    if ledger.is_news(cursor.number, cursor.walk.position()) {
                        self.damaged.push(Damaged { file: cursor.name.clone(), ..found });
                    }
                }
                Met::SyncedEnd => return Ok(true),
                Met::Gone => return Ok(false),
                Met::End => {
                    let mut ledger = self.shared.ledger();
                    if let Some(segment) = ledger.segments.get_mut(&cursor.number) {
                        segment.frames_max = cursor.frames;
                        let last = if cursor.frames > 0 { cursor.walk.floor() } else { 0 };
                        segment.last_bound = segment.last_bound.min(last);
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
