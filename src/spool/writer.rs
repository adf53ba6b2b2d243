//! The writer: appends batches, and answers for their durability.
//!
//! [`Writer::append_batch`] returns an [`Appended`] only after the frames were synced and the segment was found in
//! its place. A segment whose write or sync failed is never used again: what it held and was not delivered is
//! written to a new one together with the batch, from memory, since neither disk nor page cache can be believed
//! after that. The writer does not decide when to append or what to do when it cannot.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::batch::Batch;
use super::fault::{AppendError, Fault, Full, Operation};
use super::frame::Frame;
use super::ledger::{END_UNKNOWN, Ledger, Leftover, Segment, Shared, Tail};
use super::segment::{self, FRAMES_START, Header, Id};
use super::storage::{Storage, StoredFile, read_fully, write_fully};

/// Proof that a batch is durable. Only the writer makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it is what an acknowledgement stands on"]
pub struct Appended {
    first: u64,
    last: u64,
    bytes: u64,
    moved: u64,
}

/// Proof that one frame is durable. It holds until the frame turns out to be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced(u64);

impl Synced {
    /// Sequence of the frame.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.0
    }
}

impl Appended {
    /// Whether the frame of this sequence was in the batch, given that it was handed over for it.
    #[must_use]
    pub fn covers(&self, sequence: u64) -> bool {
        (self.first..=self.last).contains(&sequence)
    }

    /// The proof for one frame of the batch, given that it was handed over for it; `None` if it was not in there.
    #[must_use]
    pub fn frame(&self, sequence: u64) -> Option<Synced> {
        self.covers(sequence).then_some(Synced(sequence))
    }

    /// Bytes of the batch on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many earlier frames had to be written again, because their segment failed.
    #[must_use]
    pub fn frames_moved(&self) -> u64 {
        self.moved
    }
}

/// The segment that is being written.
#[derive(Debug)]
struct Active<F> {
    number: u64,
    file: F,
    /// Up to here everything is synced.
    position: u64,
    length: u64,
}

/// The handle that appends. There is one.
pub struct Writer<S: Storage> {
    shared: Arc<Shared<S>>,
    owner: Id,
    active: Option<Active<S::File>>,
    /// The active segment failed: what the ledger's tail holds must move before anything else.
    must_move: bool,
    next_sequence: u64,
    next_number: u64,
}

impl<S: Storage> fmt::Debug for Writer<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("next_sequence", &self.next_sequence).finish_non_exhaustive()
    }
}

impl<S: Storage> Writer<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, next_sequence: u64, next_number: u64) -> Self {
        let owner = shared.config.owner;
        Self { shared, owner, active: None, must_move: false, next_sequence, next_number }
    }

    /// The lowest sequence that the next frame may have.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Writes the frames, one write and one sync as a rule, and returns the proof that all of them are durable. A
    /// batch never spans two segments: one that is larger than a segment gets a segment of its own size, so callers
    /// should keep batches well below `segment_bytes`.
    ///
    /// # Errors
    /// Nothing of the batch may be acknowledged. After [`AppendError::Unhealthy`], [`Writer::probe`] has to succeed
    /// before the next append is tried.
    pub fn append_batch(&mut self, frames: &[Frame]) -> Result<Appended, AppendError> {
        let batch = Batch::encode(frames, self.next_sequence)?;
        if let Some(fault) = self.shared.ledger().fault {
            return Err(AppendError::Unhealthy(fault));
        }
        let bytes = batch.bytes.len() as u64;
        if self.active.as_ref().is_none_or(|active| active.position + bytes > active.length) {
            self.roll(&batch)?;
        }
        // From here on the frames may be on disk, whatever comes: their numbers are spent.
        self.next_sequence = batch.last.saturating_add(1);
        self.shared.ledger().last_sequence = batch.last;
        let moved = match self.write(&batch) {
            Ok(()) => 0,
            Err(Fault::Disowned) => return Err(self.fail(Fault::Disowned)),
            Err(Fault::Storage { .. } | Fault::Hung) => {
                self.must_move = true;
                self.rewrite(&batch)?
            }
        };
        Ok(Appended { first: batch.first, last: batch.last, bytes, moved })
    }

    /// Finds out by really writing and syncing whether an append could succeed, and mends what can be mended: moves
    /// the frames of a failed segment, makes room known again. To be called from time to time while the spool is
    /// unhealthy or full, for without traffic nothing else would tell.
    ///
    /// # Errors
    /// What is still wrong.
    pub fn probe(&mut self) -> Result<(), AppendError> {
        let nothing = Batch::nothing(self.next_sequence);
        let (fault, full) = {
            let ledger = self.shared.ledger();
            (ledger.fault, ledger.full)
        };
        if fault == Some(Fault::Disowned) {
            return Err(AppendError::Unhealthy(Fault::Disowned));
        }
        if self.must_move {
            self.rewrite(&nothing).map(|_| ())
        } else if fault.is_some() || full.is_some() || self.active.is_none() {
            self.roll(&nothing)
        } else {
            self.write(&nothing).map_err(|fault| {
                self.must_move = fault != Fault::Disowned;
                self.fail(fault)
            })
        }
    }

    /// Writes the batch behind the synced end of the active segment, syncs, looks whether the segment is still in
    /// its place, and only then shows the frames to the drain.
    fn write(&mut self, batch: &Batch) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let owner = self.owner;
        let active = self.active.as_mut().expect("append and probe make a segment before they write");
        write_fully(&active.file, &batch.bytes, active.position)
            .map_err(|error| Fault::storage(Operation::Write, &error))?;
        active.file.sync_data().map_err(|error| Fault::storage(Operation::Sync, &error))?;
        check_owner(&shared.storage, active, owner)?;
        active.position += batch.bytes.len() as u64;
        let mut ledger = shared.ledger();
        if let Some(tail) = &mut ledger.tail {
            tail.bytes.extend_from_slice(&batch.bytes);
        }
        record(&mut ledger, active.number, active.position, batch);
        Ok(())
    }

    /// Seals the active segment, if there is one, and begins a new one with room for the batch.
    fn roll(&mut self, batch: &Batch) -> Result<(), AppendError> {
        let first_sequence = batch.first;
        let length = self.length_for(batch.bytes.len());
        let held = self.shared.ledger().bytes();
        self.room_for(held, length)?;
        let active = self.create(first_sequence, length, false)?;
        let mut ledger = self.shared.ledger();
        ledger.segments.insert(active.number, fresh(first_sequence, length));
        // The memory of the sealed segment's frames serves the new one's, and never grows: room that is reserved is not
        // taken before it is filled.
        let mut bytes = ledger.tail.take().map(|tail| tail.bytes).unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(usize::try_from(length - FRAMES_START).unwrap_or_default());
        ledger.tail = Some(Tail { number: active.number, bytes });
        (ledger.full, ledger.fault) = (None, None);
        drop(ledger);
        self.active = Some(active);
        Ok(())
    }

    /// Writes every undelivered frame of the failed segment, answered ones included, and the batch to a new one, and
    /// removes the failed one. The size limits are not asked: the frames are here already, and answered for; for a
    /// moment the cap may be exceeded by one segment.
    fn rewrite(&mut self, batch: &Batch) -> Result<u64, AppendError> {
        let mut moved = {
            let ledger = self.shared.ledger();
            Batch::undelivered(ledger.tail.as_ref(), ledger.watermark)
        };
        let count = moved.frames;
        moved.append(batch);
        let first_sequence = if count > 0 { moved.first } else { batch.first };
        let failed = self.active.as_ref().map(|active| active.number);
        let mut active = match self.create(first_sequence, self.length_for(moved.bytes.len()), true) {
            Ok(active) => active,
            Err(AppendError::Full(_)) => {
                let kind = ErrorKind::StorageFull;
                return Err(self.fail(Fault::Storage { operation: Operation::CreateSegment, kind, code: None }));
            }
            Err(error) => return Err(error),
        };
        let written = write_fully(&active.file, &moved.bytes, active.position)
            .map_err(|error| Fault::storage(Operation::Write, &error))
            .and_then(|()| active.file.sync_data().map_err(|error| Fault::storage(Operation::Sync, &error)))
            .and_then(|()| check_owner(&self.shared.storage, &active, self.owner));
        if let Err(fault) = written {
            self.discard(segment::name(active.number), active.length);
            return Err(self.fail(fault));
        }
        active.position += moved.bytes.len() as u64;
        let mut ledger = self.shared.ledger();
        let failed_bytes = failed.and_then(|number| ledger.segments.remove(&number)).map_or(0, |segment| segment.bytes);
        ledger.segments.insert(active.number, fresh(first_sequence, active.length));
        record(&mut ledger, active.number, active.position, &moved);
        ledger.tail = Some(Tail { number: active.number, bytes: moved.bytes });
        drop(ledger);
        self.active = Some(active);
        self.must_move = false;
        if let Some(number) = failed {
            self.discard(segment::name(number), failed_bytes);
        }
        Ok(count)
    }

    fn length_for(&self, batch_bytes: usize) -> u64 {
        self.shared.config.segment_bytes.max(FRAMES_START + batch_bytes as u64)
    }

    /// Whether `length` more bytes keep within the limits, `held` being taken already.
    fn room_for(&self, held: u64, length: u64) -> Result<(), AppendError> {
        let config = &self.shared.config;
        let full = if held.saturating_add(length) > config.bytes_max {
            Full::Cap
        } else {
            match self.shared.storage.free_bytes() {
                Ok(free) if free.saturating_sub(length) >= config.disk_free_min => return Ok(()),
                Ok(_) => Full::Disk,
                Err(error) => return Err(self.fail(Fault::storage(Operation::CreateSegment, &error))),
            }
        };
        self.shared.ledger().full = Some(full);
        Err(AppendError::Full(full))
    }

    /// Makes a segment: under a name that recovery removes, until its space and its header are durable.
    fn create(&mut self, first_sequence: u64, length: u64, rewrite: bool) -> Result<Active<S::File>, AppendError> {
        let number = self.next_number;
        // The number is spent even if this fails: what it leaves behind must not be in the way of the next try.
        self.next_number += 1;
        let header = {
            let ledger = self.shared.ledger();
            let last = ledger.segments.last_key_value();
            Header {
                spool: self.shared.spool,
                owner: self.owner,
                first_sequence,
                predecessor: last.map_or(0, |(number, _)| *number),
                predecessor_end: last.map(|(_, segment)| segment.end).filter(|end| *end != END_UNKNOWN).unwrap_or(0),
                rewrite,
            }
        };
        let (unfinished, name) = (segment::unfinished_name(number), segment::name(number));
        let storage = &self.shared.storage;
        let made = storage.create_new(&unfinished).and_then(|file| {
            file.allocate(length)?;
            write_fully(&file, &header.encode(), 0)?;
            file.sync_data()?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                self.discard(unfinished, length);
                return Err(self.not_made(&error));
            }
        };
        // From here on a header that says where the predecessor ends may be in place. So whatever goes wrong is a
        // fault, even a lack of space: nothing may be appended to the predecessor any more.
        if let Err(error) = storage.rename(&unfinished, &name) {
            self.discard(unfinished, length);
            return Err(self.fail(Fault::storage(Operation::CreateSegment, &error)));
        }
        if let Err(error) = storage.sync_directory() {
            self.discard(name, length);
            return Err(self.fail(Fault::storage(Operation::CreateSegment, &error)));
        }
        Ok(Active { number, file, position: FRAMES_START, length })
    }

    fn not_made(&self, error: &io::Error) -> AppendError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                self.shared.ledger().full = Some(Full::Disk);
                AppendError::Full(Full::Disk)
            }
            _ => self.fail(Fault::storage(Operation::CreateSegment, error)),
        }
    }

    fn fail(&self, fault: Fault) -> AppendError {
        self.shared.ledger().fault = Some(fault);
        AppendError::Unhealthy(fault)
    }

    /// Removes a file that holds nothing of its own; if that fails, the drain tries again.
    fn discard(&self, name: String, bytes: u64) {
        match self.shared.storage.unlink(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => self.shared.ledger().leftovers.push(Leftover { name, bytes }),
        }
    }
}

fn fresh(first_sequence: u64, length: u64) -> Segment {
    Segment {
        first_sequence,
        last_bound: 0,
        frames_max: 0,
        bytes: length,
        end: FRAMES_START,
        damaged: false,
        is_set_aside: false,
        reported_to: 0,
    }
}

/// Enters frames that were synced; from here on the drain may read them.
fn record(ledger: &mut Ledger, number: u64, end: u64, batch: &Batch) {
    if ledger.is_empty() {
        ledger.oldest_accepted_at = batch.oldest;
    }
    if let Some(segment) = ledger.segments.get_mut(&number) {
        segment.end = end;
        segment.frames_max += batch.frames;
        segment.last_bound = segment.last_bound.max(batch.last);
    }
    (ledger.full, ledger.fault) = (None, None);
}

/// The segment must still have its name and its header with our owner id: a successor that believes us dead may
/// have removed or replaced it, and then nothing we sync there will ever be read.
fn check_owner<S: Storage>(storage: &S, active: &Active<S::File>, owner: Id) -> Result<(), Fault> {
    let failed = |error: &io::Error| Fault::storage(Operation::CheckOwner, error);
    let linked = storage.is_linked(&segment::name(active.number), &active.file).map_err(|error| failed(&error))?;
    let header = read_fully(&active.file, 0, segment::HEADER_BYTES).map_err(|error| failed(&error))?;
    let ours = Header::decode(&header).is_ok_and(|header| header.owner == owner);
    if linked && ours { Ok(()) } else { Err(Fault::Disowned) }
}
