//! What the spool writes, byte by byte, and what it makes of bytes it did not write.

use std::borrow::Cow;
use std::fs;

use bytes::Bytes;
use proptest::prelude::*;
use recording_bridge::event::Timestamp;
use recording_bridge::message::{Header, Message};
use recording_bridge::spool::frame::{Frame, PAYLOAD_BYTES_MAX};
use recording_bridge::spool::segment::{self, Id, Unread};
use recording_bridge::spool::watermark::{self, Slot};
use recording_bridge::spool::{OpenError, Spool};

use crate::support::faulty_storage::FaultyStorage;
use crate::support::spool::{frame, small};

/// Compares with a golden file; with `RECORDING_BRIDGE_BLESS` set, writes it.
fn assert_golden(name: &str, bytes: &[u8]) {
    let path = format!("{}/tests/data/spool/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let lines: Vec<_> = bytes.chunks(16).map(hex::encode).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("RECORDING_BRIDGE_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}");
}

fn golden_header() -> segment::Header {
    segment::Header {
        spool: Id(std::array::from_fn(|index| u8::try_from(index).unwrap())),
        owner: Id([0xAB; 16]),
        first_sequence: 0x0102_0304_0506_0708,
        predecessor: 41,
        predecessor_end: 8_388_000,
        rewrite: true,
    }
}

#[test]
fn a_segment_header_is_written_as_documented() {
    assert_golden("segment_header", &golden_header().encode());
    assert_eq!(segment::Header::decode(&golden_header().encode()), Ok(golden_header()));
}

#[test]
fn a_watermark_slot_is_written_as_documented() {
    let slot = Slot { spool: golden_header().spool, generation: 3, watermark: 0x0102_0304 };
    assert_golden("watermark_slot", &slot.encode());
    assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
}

#[test]
fn a_frame_is_written_as_documented() {
    let mut bytes = Vec::new();
    let frame = frame(0x0102_0304, 5, 40);
    frame.encode(&mut bytes).unwrap();
    assert_golden("frame", &bytes);
    assert_eq!(Frame::decode(&bytes), Some((frame, bytes.len())));
}

#[test]
fn a_newer_version_is_refused_and_a_flipped_bit_is_not_one() {
    let newer = |mut block: Vec<u8>| {
        block[8] = 2;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..]);
        block[12..16].copy_from_slice(&checksum.to_le_bytes());
        block
    };
    let header = newer(golden_header().encode().to_vec());
    assert_eq!(segment::Header::decode(&header), Err(Unread::Newer(2)));
    let mut flipped = golden_header().encode();
    flipped[8] ^= 2;
    assert_eq!(segment::Header::decode(&flipped), Err(Unread::Damaged));

    let storage = FaultyStorage::new(1);
    storage.put(&segment::name(3), header);
    let refused = Spool::open(storage, small(1)).unwrap_err();
    assert!(matches!(&refused, OpenError::Newer { file, version: 2 } if *file == segment::name(3)), "{refused}");

    let storage = FaultyStorage::new(1);
    let slot = Slot { spool: Id([1; 16]), generation: 1, watermark: 1 };
    let mut file = newer(slot.encode().to_vec());
    file.resize(8192, 0);
    storage.put(watermark::NAME, file);
    assert!(matches!(Spool::open(storage, small(1)), Err(OpenError::Newer { version: 2, .. })));
}

#[test]
fn every_flipped_bit_of_a_header_or_slot_is_noticed() {
    let header = golden_header().encode();
    for bit in 0..header.len() * 8 {
        let mut bytes = header;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(segment::Header::decode(&bytes), Err(Unread::Damaged), "bit {bit}");
    }
    let slot = Slot { spool: Id([1; 16]), generation: 1, watermark: 1 }.encode();
    for bit in 0..slot.len() * 8 {
        let mut bytes = slot;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Slot::decode(&bytes), Err(Unread::Damaged), "bit {bit}");
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_and_leaves_nothing_behind() {
    let mut bytes = vec![1, 2, 3];
    assert!(frame(1, 1, PAYLOAD_BYTES_MAX).encode(&mut bytes).is_err());
    assert_eq!(bytes, [1, 2, 3]);
    assert!(frame(1, 1, 1_000_000).encode(&mut bytes).is_ok());
}

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    let headers = prop::collection::vec((".{0,12}", bytes(20)), 0..5).prop_map(|headers| {
        headers.into_iter().map(|(name, value)| Header { name: Cow::Owned(name), value }).collect()
    });
    (any::<u64>(), 0..253_402_300_799_999_999_i64, bytes(40), bytes(300), headers).prop_map(
        |(sequence, microseconds, key, payload, headers)| Frame {
            sequence,
            accepted_at: Timestamp::from_microseconds(microseconds).unwrap(),
            message: Message::from_parts(key, payload, headers),
        },
    )
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_was(frame in frames(), behind in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        let length = bytes.len();
        bytes.extend(behind);
        prop_assert_eq!(Frame::decode(&bytes), Some((frame, length)));
    }

    #[test]
    fn a_frame_that_is_cut_or_changed_is_none(frame in frames(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        let at = at.index(bytes.len());
        prop_assert_eq!(Frame::decode(&bytes[..at]), None);
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(Frame::decode(&bytes), None);
    }

    #[test]
    fn a_payload_with_a_true_checksum_and_false_lengths_is_none_or_a_message(
        payload in prop::collection::vec(0_u8..4, 0..60)
    ) {
        // Lengths made of small bytes point into and just beyond the payload.
        let mut bytes = vec![0xF5, b'f', b'r', b'm'];
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let rest: Vec<u8> = [7_u64.to_le_bytes(), 9_i64.to_le_bytes()].concat().into_iter().chain(payload).collect();
        bytes.extend(length);
        bytes.extend(crc32c::crc32c_append(crc32c::crc32c(&length), &rest).to_le_bytes());
        bytes.extend(rest);
        if let Some((frame, _)) = Frame::decode(&bytes) {
            let mut again = Vec::new();
            frame.encode(&mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(Frame::decode(&bytes));
        segment::Header::decode(&bytes).ok();
        Slot::decode(&bytes).ok();
    }

    #[test]
    fn a_segment_of_arbitrary_bytes_opens(bytes in prop::collection::vec(any::<u8>(), 0..600), whole in any::<bool>()) {
        let storage = FaultyStorage::new(1);
        let mut file = if whole { golden_header().encode().to_vec() } else { Vec::new() };
        file.extend(bytes);
        storage.put(&segment::name(1), file);
        let mut spool = Spool::open(storage, small(1)).unwrap();
        let read = spool.drain.read(0, usize::MAX).unwrap();
        prop_assert!(read.at_end && read.frames.is_empty());
    }
}

#[test]
fn numbers_that_nobody_can_have_reached_are_not_believed() {
    let spool = || {
        let storage = FaultyStorage::new(1);
        let mut spool = Spool::open(storage.clone(), small(1)).unwrap();
        assert!(spool.writer.append_batch(&[frame(1, 5, 40), frame(2, 5, 40)]).is_ok());
        (storage, spool.recovery.spool)
    };
    for number in [1 << 47, 1 << 48, u64::MAX] {
        let (storage, id) = spool();
        let slot = Slot { spool: id, generation: 1 << 40, watermark: number }.encode();
        storage.edit(watermark::NAME, |bytes| bytes[..slot.len()].copy_from_slice(&slot));
        let opened = Spool::open(storage, small(2)).unwrap();
        assert_eq!((opened.recovery.watermark, opened.recovery.next_sequence), (None, 3), "{number}");

        let (storage, _) = spool();
        let name = storage.names().into_iter().find(|name| name.ends_with(".segment")).unwrap();
        let header = segment::Header::decode(&storage.get(&name)).unwrap();
        let forged = segment::Header { first_sequence: number, ..header }.encode();
        storage.edit(&name, |bytes| bytes[..forged.len()].copy_from_slice(&forged));
        let mut opened = Spool::open(storage, small(2)).unwrap();
        assert_eq!((opened.recovery.damaged.len(), opened.recovery.next_sequence), (1, 3), "{number}");
        let read = opened.drain.read(0, usize::MAX).unwrap();
        assert_eq!(read.frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [1, 2]);
    }
}
