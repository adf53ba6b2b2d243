//! Segments: names and headers. Pure; the layout is the table in [`super`].

use std::fmt;

use super::fields::Fields;

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 128;
/// [`HEADER_BYTES`] as a position in a file.
pub(super) const FRAMES_START: u64 = HEADER_BYTES as u64;
/// Version of the whole format: segments, frames and watermark.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"RBspool\n";
const FLAG_REWRITE: u64 = 1;

/// Sixteen random bytes: of a spool, from the process that created it; of an owner, from every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Id({self})")
    }
}

/// What stands at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The spool it belongs to.
    pub spool: Id,
    /// The process that made it.
    pub owner: Id,
    /// No frame in it has a lower sequence.
    pub first_sequence: u64,
    /// Number of the segment before it, 0 if it was the first; segments between the two hold nothing that was ever
    /// answered and is not in one of them as well.
    pub predecessor: u64,
    /// Where the frames of the predecessor end; 0 if there is none, or if it could not be read.
    pub predecessor_end: u64,
    /// Whether it repeats frames of its predecessor, which could not be synced.
    pub rewrite: bool,
}

/// Why a header was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It is not a header, or its checksum does not hold.
    Damaged,
    /// It is whole, and of a later version of the format.
    Newer(u32),
}

impl Header {
    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut rest = Vec::with_capacity(HEADER_BYTES);
        rest.extend_from_slice(&self.spool.0);
        rest.extend_from_slice(&self.owner.0);
        rest.extend_from_slice(&self.first_sequence.to_le_bytes());
        rest.extend_from_slice(&self.predecessor.to_le_bytes());
        rest.extend_from_slice(&self.predecessor_end.to_le_bytes());
        rest.extend_from_slice(&if self.rewrite { FLAG_REWRITE } else { 0 }.to_le_bytes());
        seal(MAGIC, FORMAT_VERSION, &rest)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If it is damaged or newer. A version is believed only if the checksum holds, so that a flipped bit does not
    /// pass for a new format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unread> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Unread::Damaged)?;
        Self::fields(unseal(MAGIC, bytes)?).ok_or(Unread::Damaged)
    }

    fn fields(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            spool: Id(fields.id()?),
            owner: Id(fields.id()?),
            first_sequence: fields.u64()?,
            predecessor: fields.u64()?,
            predecessor_end: fields.u64()?,
            rewrite: fields.u64()? & FLAG_REWRITE != 0,
        })
    }
}

/// A block of `COUNT` bytes that every version of the format begins in the same way: magic, version, CRC-32C over
/// all but itself. What `rest` does not fill is zero.
pub(super) fn seal<const COUNT: usize>(magic: [u8; 8], version: u32, rest: &[u8]) -> [u8; COUNT] {
    let mut block = [0; COUNT];
    let version = version.to_le_bytes();
    for (place, byte) in block.iter_mut().zip(magic.iter().chain(&version)) {
        *place = *byte;
    }
    for (place, byte) in block.iter_mut().skip(16).zip(rest) {
        *place = *byte;
    }
    let checksum = block_checksum(&block).to_le_bytes();
    for (place, byte) in block.iter_mut().skip(12).zip(checksum) {
        *place = byte;
    }
    block
}

/// The fields after magic, version and checksum of a block made by [`seal`].
pub(super) fn unseal(magic: [u8; 8], block: &[u8]) -> Result<Fields<'_>, Unread> {
    let mut fields = Fields::new(block);
    let start = fields.take(8).zip(fields.u32()).zip(fields.u32());
    let ((found, version), checksum) = start.ok_or(Unread::Damaged)?;
    if found != magic || block_checksum(block) != checksum || version == 0 {
        return Err(Unread::Damaged);
    }
    if version > FORMAT_VERSION { Err(Unread::Newer(version)) } else { Ok(fields) }
}

fn block_checksum(block: &[u8]) -> u32 {
    let start = crc32c::crc32c(block.get(..12).unwrap_or_default());
    crc32c::crc32c_append(start, block.get(16..).unwrap_or_default())
}

/// What a file in the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A segment.
    Segment(u64),
    /// A segment that was never finished: no frame was ever written to it.
    Unfinished(u64),
    /// A delivered segment that could not be read in full, kept for a human.
    SetAside(u64),
    /// Anything else.
    Other,
}

/// Name of segment `number`.
#[must_use]
pub fn name(number: u64) -> String {
    format!("{number:016x}.segment")
}

/// Name of segment `number` until it is finished.
pub(super) fn unfinished_name(number: u64) -> String {
    format!("{number:016x}.unfinished")
}

/// Name of segment `number` once it is set aside.
pub(super) fn set_aside_name(number: u64) -> String {
    format!("{number:016x}.damaged")
}

/// Name under which segment `number` is stored.
pub(super) fn stored_name(number: u64, is_set_aside: bool) -> String {
    if is_set_aside { set_aside_name(number) } else { name(number) }
}

/// What a file called `name` is.
#[must_use]
pub fn kind(name: &str) -> Kind {
    let Some((digits, ending)) = name.split_once('.') else { return Kind::Other };
    let canonical = digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match (ending, u64::from_str_radix(digits, 16)) {
        ("segment", Ok(number)) if canonical => Kind::Segment(number),
        ("unfinished", Ok(number)) if canonical => Kind::Unfinished(number),
        ("damaged", Ok(number)) if canonical => Kind::SetAside(number),
        (_, Ok(_) | Err(_)) => Kind::Other,
    }
}
