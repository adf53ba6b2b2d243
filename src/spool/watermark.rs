//! The watermark: up to which sequence everything has been delivered, and not yet forgotten on disk.
//!
//! It only saves re-delivery; whatever happens to this file, no frame is lost by it. Two slots in an allocated file
//! are written in turn, so that a torn write leaves the other one, and so that a full disk cannot refuse it. A slot
//! counts only for the spool whose id it carries: the watermark of another spool would hide frames of this one.

use std::io;

use super::fields::Fields;
use super::frame::SEQUENCE_MAX;
use super::segment::{FORMAT_VERSION, Id, Unread, seal, unseal};
use super::storage::{Storage, StoredFile, read_fully, write_fully};
use super::walk::READ_ATTEMPTS_MAX;

/// Name of the file.
pub const NAME: &str = "watermark";
const UNFINISHED_NAME: &str = "watermark.unfinished";
/// Bytes of a slot that carry something.
pub const SLOT_BYTES: usize = 64;
/// Distance between the slots: on a page each, so that writing one cannot tear the other.
const SLOT_DISTANCE: u64 = 4096;
const FILE_BYTES: u64 = 2 * SLOT_DISTANCE;
const MAGIC: [u8; 8] = *b"RBwater\n";

/// One record of the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The spool it speaks of.
    pub spool: Id,
    /// Rises with every write; the higher slot counts.
    pub generation: u64,
    /// Everything up to here has been delivered.
    pub watermark: u64,
}

impl Slot {
    /// The slot as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut rest = Vec::with_capacity(SLOT_BYTES);
        rest.extend_from_slice(&self.spool.0);
        rest.extend_from_slice(&self.generation.to_le_bytes());
        rest.extend_from_slice(&self.watermark.to_le_bytes());
        seal(MAGIC, FORMAT_VERSION, &rest)
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// If it is damaged, was never written or is newer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unread> {
        let bytes = bytes.get(..SLOT_BYTES).ok_or(Unread::Damaged)?;
        Self::fields(unseal(MAGIC, bytes)?).ok_or(Unread::Damaged)
    }

    fn fields(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self { spool: Id(fields.id()?), generation: fields.u64()?, watermark: fields.u64()? })
    }
}

/// The file, as far as it is there.
#[derive(Debug)]
pub(super) struct WatermarkFile<F> {
    file: Option<F>,
    /// Highest generation ever seen or tried.
    generation: u64,
    /// Which slot is written next. It moves on only after a success: the other one is known to be good.
    next_slot: u64,
}

impl<F: StoredFile> WatermarkFile<F> {
    /// Opens the file and reads the newest slot, of whatever spool. A file that cannot be read counts as lost as a
    /// whole: believing the older slot while the newer one is out of reach for a moment would give sequences out
    /// again that the newer one hides after the next start.
    ///
    /// # Errors
    /// The version, if a slot is of a newer one.
    pub(super) fn load<S: Storage<File = F>>(storage: &S) -> Result<(Self, Option<Slot>), u32> {
        let absent = Self { file: None, generation: 0, next_slot: 0 };
        let mut attempts = (0..READ_ATTEMPTS_MAX).map(|_| read_slots(storage));
        let Some((file, slots)) = attempts.find_map(Result::ok).flatten() else { return Ok((absent, None)) };
        let mut newest: Option<(u64, Slot)> = None;
        for (index, slot) in (0..).zip(slots) {
            match slot {
                // Nobody has delivered so many: it is damage that happens to hold together.
                Ok(slot) if slot.watermark > SEQUENCE_MAX => {}
                Ok(slot) if newest.is_none_or(|(_, other)| other.generation < slot.generation) => {
                    newest = Some((index, slot));
                }
                Ok(_) | Err(Unread::Damaged) => {}
                Err(Unread::Newer(version)) => return Err(version),
            }
        }
        let generation = newest.map_or(0, |(_, slot)| slot.generation);
        let next_slot = newest.map_or(0, |(index, _)| 1 - index);
        Ok((Self { file: Some(file), generation, next_slot }, newest.map(|(_, slot)| slot)))
    }

    /// Writes the watermark and syncs it.
    pub(super) fn persist<S: Storage<File = F>>(&mut self, storage: &S, spool: Id, watermark: u64) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => self.file.insert(file),
            None => self.file.insert(create(storage)?),
        };
        self.generation += 1;
        let slot = Slot { spool, generation: self.generation, watermark };
        write_fully(file, &slot.encode(), self.next_slot * SLOT_DISTANCE)?;
        file.sync_data()?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

/// Both slots, or why one was not read.
pub(super) type Slots = [Result<Slot, Unread>; 2];

/// The slots as they stand in the file; `None` if there is no file, or one that was never finished.
pub(super) fn read_slots<S: Storage>(storage: &S) -> io::Result<Option<(S::File, Slots)>> {
    let file = match storage.open_writable(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => storage.open(NAME)?,
    };
    if file.length()? < FILE_BYTES {
        return Ok(None);
    }
    let first = Slot::decode(&read_fully(&file, 0, SLOT_BYTES)?);
    let second = Slot::decode(&read_fully(&file, SLOT_DISTANCE, SLOT_BYTES)?);
    Ok(Some((file, [first, second])))
}

/// Makes the file anew. An old one that was no use (too short, or not to be opened) goes.
fn create<S: Storage>(storage: &S) -> io::Result<S::File> {
    for name in [UNFINISHED_NAME, NAME] {
        match storage.unlink(name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let file = storage.create_new(UNFINISHED_NAME)?;
    file.allocate(FILE_BYTES)?;
    file.sync_data()?;
    storage.rename(UNFINISHED_NAME, NAME)?;
    storage.sync_directory()?;
    Ok(file)
}
