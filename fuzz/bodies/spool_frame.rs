//! Bytes → a frame of the spool, and back.
//!
//! Promise: a frame counts only if its marker, its length and its checksum hold, by a second calculation. What was
//! decoded is written as it was read. What was encoded is read as it was written, and neither cut short nor with a bit
//! changed.

use std::borrow::Cow;

use bytes::Bytes;
use recording_bridge::event::Timestamp;
use recording_bridge::message::{Header, Message};
use recording_bridge::spool::Frame;
use recording_bridge::spool::frame::{HEADER_BYTES, MARKER, PAYLOAD_BYTES_MAX};

/// See the module.
pub fn run(input: &[u8]) {
    as_it_is(input);
    // With a head that is in order, the payload is reached.
    let sealed = sealed(input);
    as_it_is(&sealed);
    there_and_back(input);
}

fn as_it_is(bytes: &[u8]) {
    let Some((frame, length)) = Frame::decode(bytes) else { return };
    let whole = &bytes[..length];
    assert_eq!(whole[..4], MARKER);
    let payload_bytes = u32::from_le_bytes([whole[4], whole[5], whole[6], whole[7]]);
    assert_eq!(payload_bytes as usize, length - HEADER_BYTES);
    assert!(payload_bytes as usize <= PAYLOAD_BYTES_MAX);
    assert_eq!(u32::from_le_bytes([whole[8], whole[9], whole[10], whole[11]]), checksum(whole), "the checksum");
    let mut written = Vec::new();
    frame.encode(&mut written).expect("it was read from a frame");
    assert_eq!(written, whole);
}

/// CRC-32C over the length and everything behind the checksum, bit by bit.
fn checksum(frame: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in frame[4..8].iter().chain(&frame[12..]) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// A frame around `input`: sequence and time from its first bytes, the payload from the rest.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut fields = [0; 16];
    let (head, payload) = input.split_at(input.len().min(16));
    fields[..head.len()].copy_from_slice(head);
    // No time of acceptance is later than the year 9999.
    fields[15] &= 3;
    let length = u32::try_from(payload.len()).expect("inputs are short").to_le_bytes();
    let mut frame = [&MARKER[..], &length, &[0; 4], &fields, payload].concat();
    let checksum = checksum(&frame);
    frame[8..12].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn there_and_back(input: &[u8]) {
    let [numbers @ .., _, _, _, _] = input else { return };
    let choice = u32::from_le_bytes(input[numbers.len()..].try_into().expect("four bytes"));
    let text = String::from_utf8_lossy(numbers);
    let parts: Vec<&str> = text.split('\n').collect();
    let bytes = |place: usize| Bytes::from(parts.get(place).copied().unwrap_or_default().to_owned());
    let headers = parts.get(3..).unwrap_or_default().chunks(2).map(|pair| Header {
        name: Cow::Owned(pair[0].to_owned()),
        value: Bytes::from(pair.get(1).copied().unwrap_or_default().to_owned()),
    });
    let frame = Frame {
        sequence: u64::from(choice).rotate_left(choice % 64),
        accepted_at: Timestamp::from_seconds(u64::from(choice), 0).expect("before the year 9999"),
        message: Message::from_parts(bytes(0), bytes(1), headers.collect()),
    };
    let mut written = b"before".to_vec();
    // A name of a header may be too long for its field.
    if frame.encode(&mut written).is_err() {
        assert_eq!(written, b"before");
        return;
    }
    let mut whole = written.split_off(6);
    let length = whole.len();
    whole.extend_from_slice(b"behind");
    assert_eq!(Frame::decode(&whole), Some((frame, length)));
    whole.truncate(length);
    assert_eq!(Frame::decode(&whole[..choice as usize % length]), None, "a frame that was cut off counts");
    whole[choice as usize % length] ^= 1 << (choice >> 16 & 7);
    assert_eq!(Frame::decode(&whole), None, "a frame with a bit changed counts");
}
