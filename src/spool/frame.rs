//! Frames: one message each, as bytes. Pure; the layout is the table in [`super`].
//!
//! Encoding is bounded, and decoding trusts nothing: a frame counts only if its marker, its length and its checksum
//! hold, and a message only if every length inside it adds up to exactly the bytes there are. What a *plausible*
//! sequence is depends on the segment and is decided in `walk`.

use std::fmt;

use bytes::Bytes;

use super::fields::Fields;
use crate::event::Timestamp;
use crate::message::{HEADERS_MAX, Header, Message};

/// First bytes of every frame. `0xF5` occurs in no UTF-8 text, so no JSON payload can hold the marker.
pub const MARKER: [u8; 4] = [0xF5, b'f', b'r', b'm'];
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 28;
/// Longest payload. The message limit is 1,000,000 bytes; the rest is room for the lengths around its parts.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// No message has a higher number: a hundred thousand a second would take 44 years to get there. What says otherwise is
/// damaged, and whoever believed it could not count on.
pub(super) const SEQUENCE_MAX: u64 = (1 << 47) - 1;

/// First byte of every payload: how the message is written.
const MESSAGE_ENCODING: u8 = 1;

/// One message as it stands in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its number, given at the gate: order of acceptance.
    pub sequence: u64,
    /// When its callback was accepted.
    pub accepted_at: Timestamp,
    /// What goes to Kafka.
    pub message: Message,
}

/// A message that no frame can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Bytes that the payload would need; [`PAYLOAD_BYTES_MAX`] are allowed.
    pub payload_bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a frame's payload of {} bytes exceeds {PAYLOAD_BYTES_MAX}", self.payload_bytes)
    }
}

impl std::error::Error for TooLarge {}

/// Bytes that a frame usually takes beyond its message: its own fields, and the lengths of key, value and headers.
const OVERHEAD_USUAL: usize = 128;

impl Frame {
    /// About how many bytes it takes.
    pub(super) fn bytes_usual(&self) -> usize {
        self.message.size_bytes() + OVERHEAD_USUAL
    }

    /// Writes the frame to the end of `out`.
    ///
    /// # Errors
    /// If the message is too large; `out` is left as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let start = out.len();
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.accepted_at.microseconds().to_le_bytes());
        let fits = encode_message(&self.message, out).is_some();
        let payload_bytes = out.len() - start - HEADER_BYTES;
        let length = u32::try_from(payload_bytes).ok().filter(|_| fits && payload_bytes <= PAYLOAD_BYTES_MAX);
        let Some(length) = length else {
            out.truncate(start);
            return Err(TooLarge { payload_bytes: payload_bytes.max(self.message.size_bytes()) });
        };
        let checksum = checksum(length, out.get(start + 12..).unwrap_or_default());
        for (place, byte) in out
            .iter_mut()
            .skip(start + MARKER.len())
            .zip(length.to_le_bytes().into_iter().chain(checksum.to_le_bytes()))
        {
            *place = byte;
        }
        Ok(())
    }

    /// Reads the frame at the start of `bytes` and says how many bytes it takes; `None` if there is no whole and
    /// sound frame.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let head = Head::parse(bytes)?;
        let whole = bytes.get(..head.frame_bytes())?;
        head.is_sound(whole).then_some(())?;
        let frame = head.frame(whole)?;
        Some((frame, whole.len()))
    }
}

/// The fields before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    payload_bytes: u32,
    checksum: u32,
    pub(super) sequence: u64,
    accepted_at: i64,
}

impl Head {
    /// `None` if the marker is not there or the length is out of bounds.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        (fields.take(MARKER.len())? == MARKER).then_some(())?;
        let head = Self {
            payload_bytes: fields.u32()?,
            checksum: fields.u32()?,
            sequence: fields.u64()?,
            accepted_at: fields.i64()?,
        };
        (usize::try_from(head.payload_bytes).ok()? <= PAYLOAD_BYTES_MAX).then_some(head)
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(self) -> usize {
        HEADER_BYTES + usize::try_from(self.payload_bytes).unwrap_or(PAYLOAD_BYTES_MAX)
    }

    /// Whether the checksum holds over `whole`, the frame's own bytes.
    pub(super) fn is_sound(self, whole: &[u8]) -> bool {
        whole.get(12..).is_some_and(|covered| checksum(self.payload_bytes, covered) == self.checksum)
    }

    /// Time of acceptance, if it is one.
    pub(super) fn accepted_at(self) -> Option<Timestamp> {
        Timestamp::from_microseconds(self.accepted_at)
    }

    /// The frame made of a sound `whole`; `None` if it does not hold a message.
    pub(super) fn frame(self, whole: &[u8]) -> Option<Frame> {
        // One copy of its own, shared by key, value and headers: a frame must not keep a whole chunk of the segment
        // in memory until Kafka has taken it.
        let payload = Bytes::copy_from_slice(whole.get(HEADER_BYTES..)?);
        let message = decode_message(&payload)?;
        Some(Frame { sequence: self.sequence, accepted_at: self.accepted_at()?, message })
    }
}

/// CRC-32C over the length, then sequence, time of acceptance and payload as they stand in the frame.
fn checksum(payload_bytes: u32, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&payload_bytes.to_le_bytes()), rest)
}

/// `None` if a part is too long for its length field.
fn encode_message(message: &Message, out: &mut Vec<u8>) -> Option<()> {
    out.push(MESSAGE_ENCODING);
    for part in [message.key(), message.payload()] {
        out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&u16::try_from(message.headers().len()).ok()?.to_le_bytes());
    for header in message.headers() {
        out.extend_from_slice(&u16::try_from(header.name.len()).ok()?.to_le_bytes());
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(&u32::try_from(header.value.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&header.value);
    }
    Some(())
}

/// `None` unless `payload` is exactly one message.
fn decode_message(payload: &Bytes) -> Option<Message> {
    let mut fields = Fields::new(payload);
    (fields.u8()? == MESSAGE_ENCODING).then_some(())?;
    let key = payload.slice_ref(fields.counted()?);
    let value = payload.slice_ref(fields.counted()?);
    let count = fields.u16()?;
    let mut headers = Vec::with_capacity(usize::from(count).min(HEADERS_MAX));
    for _ in 0..count {
        let name_bytes = usize::from(fields.u16()?);
        let name = std::str::from_utf8(fields.take(name_bytes)?).ok()?;
        let value = payload.slice_ref(fields.counted()?);
        headers.push(Header::read(name, value));
    }
    fields.is_empty().then(|| Message::from_parts(key, value, headers))
}
