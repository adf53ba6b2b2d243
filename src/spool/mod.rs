//! The spool: messages that Kafka has not taken yet, safe on the local disk until it does.
//!
//! It is a log of small segments, each of a fixed size that is allocated before its first frame, so that space is
//! given back early and by `unlink` alone, which a full disk allows. It owns one directory and promises:
//!
//! - An [`Appended`] stands for frames that were synced, in a segment that was still in its place afterwards.
//! - Every frame appended and not committed is read again, in order, after any crash, once; equal sequences, which a
//!   failed sync can leave behind, are removed.
//! - A sequence that was used is never used again.
//! - Damage costs the frames it hit and no others, and what could not be read is never deleted.
//! - Reading, committing and giving space back work on a full disk.
//!
//! It deliberately does not publish, retry, watch the time or make threads: its interface is synchronous, and
//! whoever calls it owns the threads. [`Writer`] and [`Drain`] may be on different ones; no sync of the one holds up
//! the other. Volumes are local block storage: a lock on a network filesystem is no protection.
//!
//! # Format, version 1
//!
//! Numbers are little-endian. A directory holds `watermark`, segments `<number>.segment` (16 hexadecimal digits,
//! rising), and sometimes `<number>.unfinished` (no frame was ever written to it) and `<number>.damaged` (delivered,
//! but not readable in full; kept for a human). The golden files in `tests/data/spool` pin every byte.
//!
//! Segment header, 128 bytes; every version of the format begins in the same way (magic, version, checksum):
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `RBspool\n` |
//! | 8 | 4 | version |
//! | 12 | 4 | CRC-32C over bytes 0–11 and 16–127 |
//! | 16 | 16 | spool id: of the process that began the spool |
//! | 32 | 16 | owner id: of the process that made this segment |
//! | 48 | 8 | first sequence: no frame here is lower |
//! | 56 | 8 | number of the predecessor, 0 if none |
//! | 64 | 8 | where the predecessor's frames end, 0 if unknown |
//! | 72 | 8 | flags: 1 = rewrite, repeats frames of the predecessor, whose sync failed |
//! | 80 | 48 | zero |
//!
//! Frame; frames follow each other without a gap, and zeros follow the last:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | marker `F5 66 72 6D` |
//! | 4 | 4 | length of the payload, at most 1 MiB |
//! | 8 | 4 | CRC-32C over the length, then everything from byte 12 on |
//! | 12 | 8 | sequence |
//! | 20 | 8 | time of acceptance, microseconds since 1970 |
//! | 28 | … | payload: `01`; key and value, each u32 length and bytes; u16 count of headers; per header u16 length and name, u32 length and value |
//!
//! Watermark, two slots at 0 and 4096 of a file of 8192 bytes, written in turn:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `RBwater\n` |
//! | 8 | 4 | version |
//! | 12 | 4 | CRC-32C over bytes 0–11 and 16–63 |
//! | 16 | 16 | spool id |
//! | 32 | 8 | generation: the higher slot counts |
//! | 40 | 8 | watermark: everything up to this sequence was delivered |
//! | 48 | 16 | zero |

mod batch;
mod cursor;
mod drain;
mod fault;
mod fields;
pub mod frame;
mod holder;
pub mod inspect;
mod ledger;
mod recovery;
pub mod segment;
mod sequences;
pub mod storage;
mod walk;
pub mod watermark;
mod writer;

use std::fmt;
use std::sync::Arc;

pub use cursor::Damaged;
pub use drain::{Committed, Drain, Read, ReadError};
pub use fault::{AppendError, Fault, Full, Invalid, OpenError, Operation};
pub use frame::Frame;
pub use holder::Holder;
pub use recovery::Recovery;
pub use segment::Id;
pub use sequences::Sequences;
pub use storage::{Directory, Storage, StoredFile};
pub use writer::{Appended, Synced, Writer};

use crate::event::Timestamp;
use ledger::Shared;
use recovery::Origin;

/// Size of a segment where nothing else is said: small enough to give space back early and to be held in memory while it
/// is written, large enough to make the syncs of a new segment rare.
pub const SEGMENT_BYTES: u64 = 2 << 20;
/// How many bytes of messages one append should hold at most: no batch spans two segments, and three fit one of
/// [`SEGMENT_BYTES`] with what is written around them.
pub const BATCH_BYTES: usize = 512 << 10;

/// Limits of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The spool never takes more space than this, the segment of a rewrite excepted for a moment.
    pub bytes_max: u64,
    /// No segment is begun that would leave less free space on the volume.
    pub disk_free_min: u64,
    /// Size of a segment; see [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Sixteen random bytes of this process: the owner id of its segments, and the id of the spool if it is new.
    pub owner: Id,
    /// Whether to make the first segment at the start, so that a disk that fills up later leaves room for it.
    pub allocate_at_start: bool,
}

/// How the spool is, in a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Undelivered frames. Never too low, and 0 exactly when there are none; too high for segments of an earlier
    /// process with gaps between their sequences, until they are read.
    pub frames: u64,
    /// Space taken.
    pub bytes: u64,
    /// Space that may be taken.
    pub bytes_max: u64,
    /// Bytes of frames for which there is room: in the segment that is being written, and in further ones, as far as the
    /// limits allow and the volume did when it was looked at last.
    pub room_bytes: u64,
    /// When the oldest undelivered frame was accepted, or somewhat earlier: as fine as the batches that are read.
    pub oldest_accepted_at: Option<Timestamp>,
    /// Segments, the one being written included.
    pub segments: usize,
    /// Stretches that could not be read since the start.
    pub damaged_stretches: u64,
    /// Files kept aside for a human.
    pub segments_set_aside: u64,
    /// Everything up to this sequence was delivered.
    pub watermark: u64,
    /// The watermark that a restart would find.
    pub watermark_persisted: u64,
    /// Highest sequence that may be on disk.
    pub last_sequence: u64,
    /// Whether an append could succeed, as far as is known.
    pub health: Health,
}

impl Status {
    /// Whether everything that was ever appended has been delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }
}

/// Whether an append could succeed, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It should.
    Ready,
    /// There is no room for another segment.
    Full(Full),
    /// Storage failed.
    Unhealthy(Fault),
}

/// A handle for whoever watches: but for one method it never waits for a filesystem step.
pub struct Monitor<S: Storage>(Arc<Shared<S>>);

impl<S: Storage> Clone for Monitor<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> fmt::Debug for Monitor<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Monitor").field(&self.status()).finish()
    }
}

impl<S: Storage> Monitor<S> {
    /// How the spool is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.ledger().status(&self.0.config)
    }

    /// Asks the volume how much room it has, for [`Status::room_bytes`]. This alone may wait for the filesystem.
    pub fn look_at_volume(&self) {
        let free = self.0.storage.free_bytes().ok();
        self.0.ledger().volume_free = free;
    }

    /// The spool's own id: it stays the same when another process opens it.
    #[must_use]
    pub fn id(&self) -> Id {
        self.0.spool
    }

    /// Says that an append has been under way for too long, by the caller's clock. The spool counts as unhealthy
    /// until that append, or a later probe, succeeds.
    pub fn report_hang(&self) {
        self.0.ledger().fault.get_or_insert(Fault::Hung);
    }
}

/// A spool that was opened: its three handles, and what was found.
#[derive(Debug)]
pub struct Spool<S: Storage> {
    /// Appends.
    pub writer: Writer<S>,
    /// Reads and commits.
    pub drain: Drain<S>,
    /// Watches.
    pub monitor: Monitor<S>,
    /// What was found.
    pub recovery: Recovery,
}

impl<S: Storage> Spool<S> {
    /// Locks the directory and recovers what is in it. The lock is held until the last handle is dropped.
    ///
    /// # Errors
    /// If the directory has another owner or cannot be used at all, or if a file in it is of a newer format. Damage
    /// is no error, and neither is a disk without room: [`Monitor::status`] tells of it.
    pub fn open(storage: S, config: Config) -> Result<Self, OpenError> {
        Self::open_for(storage, config, Origin::Own)
    }

    /// The same for a directory whose bridge will not come back: nothing counts as delivered, whatever the watermark
    /// says, and what can be read in damaged files that were set aside is handed out too. Those stay where they are.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_orphan(storage: S, config: Config) -> Result<Self, OpenError> {
        Self::open_for(storage, config, Origin::Orphan)
    }

    fn open_for(storage: S, config: Config, origin: Origin) -> Result<Self, OpenError> {
        let lock = storage.lock().map_err(OpenError::Directory)?.ok_or(OpenError::Owned)?;
        let recovered = recovery::recover(&storage, config.owner, origin)?;
        let allocate_at_start = config.allocate_at_start;
        let mut recovery = recovered.report;
        let shared = Shared::new(storage, config, recovery.spool, recovered.ledger, lock);
        let mut writer = Writer::new(Arc::clone(&shared), recovery.next_sequence, recovered.next_number);
        let drain = Drain::new(Arc::clone(&shared), recovered.watermark_file);
        let monitor = Monitor(shared);
        let status = monitor.status();
        (recovery.segments, recovery.bytes, recovery.frames) = (status.segments, status.bytes, status.frames);
        recovery.set_aside = status.segments_set_aside;
        if allocate_at_start {
            // Without room for it the spool is full, and says so; it can still be drained.
            writer.probe().ok();
        }
        Ok(Self { writer, drain, monitor, recovery })
    }
}
