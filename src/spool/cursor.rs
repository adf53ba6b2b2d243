//! Cursors: where the drain is in each segment, and the step from one frame to the next.
//!
//! A segment that is being written is read from memory, a sealed one from its file. A read error is an error until it
//! has come back often enough; then what cannot be read counts as damaged. Nothing here knows of order between
//! segments, or of delivery.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::frame::Frame;
use super::ledger::{END_UNKNOWN, Segment, Shared};
use super::segment::FRAMES_START;
use super::storage::Storage;
use super::walk::{Lenient, Memory, READ_ATTEMPTS_MAX, Source, Step, Strict, Walk};

/// A stretch of a segment that could not be read. Reported once by each process that comes across it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Name of the file.
    pub file: String,
    /// Bytes of the stretch.
    pub bytes: u64,
    /// Sequences that may be lost are above this one …
    pub after: u64,
    /// … and below this one; `None` if nothing sound follows in the segment.
    pub before: Option<u64>,
}

/// A place in one segment.
#[derive(Debug)]
pub(super) struct Cursor<F> {
    pub(super) number: u64,
    /// Name of the segment's file.
    pub(super) name: String,
    pub(super) walk: Walk,
    file: Option<Arc<F>>,
    /// Frames met so far.
    pub(super) frames: u64,
    /// The next frame above the position of the drain, once found.
    pub(super) next: Option<Frame>,
}

impl<F> Cursor<F> {
    /// At the start of segment `number`.
    pub(super) fn new(number: u64, segment: &Segment) -> Self {
        let walk = Walk::new(FRAMES_START, segment.first_sequence.saturating_sub(1));
        Self { number, name: segment.name(number), walk, file: None, frames: 0, next: None }
    }
}

/// What one step of a cursor met.
pub(super) enum Met {
    /// A frame; `None` if it is not above the position.
    Frame(Option<Frame>),
    /// Something that is not a frame; or a sound frame whose message makes no sense, which counts as one.
    Damaged { found: Damaged, is_frame: bool },
    /// The end of a segment that gets no more frames.
    End,
    /// The end of what is synced in the segment that is being written.
    SyncedEnd,
    /// A segment that failed, and was replaced by one that holds all it had to give.
    Gone,
}

/// The next step of a cursor, in memory or in its file.
pub(super) fn meet_next<S: Storage>(
    shared: &Shared<S>,
    cursor: &mut Cursor<S::File>,
    position: u64,
    failures: u32,
) -> io::Result<Met> {
    let ledger = shared.ledger();
    let Some(segment) = ledger.segments.get(&cursor.number) else { return Ok(Met::Gone) };
    let (limit, last_bound) = (segment.end, segment.last_bound);
    if let Some(tail) = ledger.tail.as_ref().filter(|tail| tail.number == cursor.number) {
        // Copied out of memory under the lock, so nothing beyond the synced end can be seen.
        let source = Memory { start: FRAMES_START, bytes: &tail.bytes };
        return match meet(&mut cursor.walk, &source, limit, position)? {
            Met::End => Ok(Met::SyncedEnd),
            met => Ok(met),
        };
    }
    drop(ledger);
    // A frame beyond what its segment can hold was put there by something else. Its sequence may be given out again, and
    // whoever comes to it first would pass over the frame that has it by right.
    cursor.walk.stay_below(last_bound);
    if cursor.walk.position() >= limit {
        return Ok(Met::End);
    }
    read_file(&shared.storage, cursor, limit, position, failures)
}

fn meet(walk: &mut Walk, source: &impl Source, limit: u64, position: u64) -> io::Result<Met> {
    let after = walk.floor();
    let damaged = |bytes, before| Damaged { file: String::new(), bytes, after, before };
    Ok(match walk.step(source, limit)? {
        Step::Frame(head, _) if head.sequence <= position => Met::Frame(None),
        Step::Frame(head, whole) => match head.frame(whole) {
            Some(frame) => Met::Frame(Some(frame)),
            None => Met::Damaged { found: damaged(whole.len() as u64, head.sequence.checked_add(1)), is_frame: true },
        },
        Step::Damaged(range, next) => {
            Met::Damaged { found: damaged(range.end - range.start, Some(next)), is_frame: false }
        }
        // Where the end is not known, zeros are no loss.
        Step::Rest { blank: true, .. } if limit == END_UNKNOWN => Met::End,
        Step::Rest { range, .. } => Met::Damaged { found: damaged(range.end - range.start, None), is_frame: false },
        Step::End => Met::End,
    })
}

/// One step in the cursor's file, which is opened at the first.
fn read_file<S: Storage>(
    storage: &S,
    cursor: &mut Cursor<S::File>,
    limit: u64,
    position: u64,
    failures: u32,
) -> io::Result<Met> {
    let give_up = failures >= READ_ATTEMPTS_MAX;
    let file = match &cursor.file {
        Some(file) => Arc::clone(file),
        None => match storage.open(&cursor.name) {
            Ok(file) => Arc::clone(cursor.file.insert(Arc::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound || give_up => {
                let source = Memory { start: FRAMES_START, bytes: &[] };
                return meet(&mut cursor.walk, &source, limit, position);
            }
            Err(error) => return Err(error),
        },
    };
    if give_up {
        meet(&mut cursor.walk, &Lenient::new(file.as_ref()), limit, position)
    } else {
        meet(&mut cursor.walk, &Strict(file.as_ref()), limit, position)
    }
}
