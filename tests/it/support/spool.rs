//! Frames and configurations for tests of the spool.

use std::borrow::Cow;
use std::path::Path;

use bytes::Bytes;
use recording_bridge::event::Timestamp;
use recording_bridge::message::{Header, Message};
use recording_bridge::spool::{Config, Directory, Frame, Id, Spool};

/// A frame whose content is a function of its sequence and a salt.
pub(crate) fn frame(sequence: u64, salt: u64, payload_bytes: usize) -> Frame {
    let text = format!("{{\"sequence\":{sequence},\"salt\":{salt}}}");
    let payload = text.bytes().chain(std::iter::repeat(b' ')).take(payload_bytes.max(text.len()));
    let headers = vec![Header { name: Cow::Borrowed("ce_id"), value: Bytes::from(salt.to_string()) }];
    Frame {
        sequence,
        accepted_at: Timestamp::from_microseconds(1_700_000_000_000_000 + i64::try_from(sequence).unwrap()).unwrap(),
        message: Message::from_parts(Bytes::from_static(b"stream"), payload.collect(), headers),
    }
}

/// A spool in the folder at `path`, written by the library: frames 1 to `count` with 500 bytes each, one a batch.
/// Seven of them fill a segment.
pub(crate) fn write(path: &Path, count: u64) -> Spool<Directory> {
    let config = Config { bytes_max: 1 << 30, segment_bytes: 4096, ..small(7) };
    let mut spool = Spool::open(Directory::at(path), config).unwrap();
    for sequence in 1..=count {
        assert!(spool.writer.append_batch(&[frame(sequence, 1, 500)]).unwrap().covers(sequence));
    }
    spool
}

/// Limits so small that everything happens soon.
pub(crate) fn small(owner: u8) -> Config {
    Config {
        bytes_max: 1 << 14,
        disk_free_min: 0,
        segment_bytes: 1 << 10,
        owner: Id([owner; 16]),
        allocate_at_start: false,
    }
}
