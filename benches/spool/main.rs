//! How fast the spool appends, recovers and reads, beside what its file system can do.
//!
//! `cargo bench --bench spool` needs nothing but a disk: that of the target folder, unless `--directory` names another.
//! The floor writes and syncs the same number of bytes into a file of the same size, and reads them back, without
//! frames, checksums or owners.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures are small beside what a float holds")]
#![allow(clippy::disallowed_methods, reason = "real disks are watched by real clocks")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table goes to stdout, the progress to stderr")]

#[path = "../ingest/report.rs"]
mod report;

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use recording_bridge::event::Timestamp;
use recording_bridge::message::{Header, Message};
use recording_bridge::spool::{Config, Directory, Frame, Id, SEGMENT_BYTES, Spool};

use report::{Report, Unit};

/// The allocator of the bridge.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Frames of a group commit: a callback that comes alone, some load, and the most that there can be.
const BATCHES: [usize; 4] = [1, 16, 256, 1024];
const READ_BYTES_MAX: usize = 4 << 20;
const FLOOR: &str = "file system";
const SPOOL: &str = "spool";

/// Measures the spool beside its file system, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of appending, for every size of a batch.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Frames that are recovered and read.
    #[arg(long, default_value_t = 100_000)]
    frames: u64,
    /// Where the disk to measure is.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    directory: PathBuf,
    /// Where the figures of every round go, as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/spool.json"))]
    json: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let span = Duration::from_secs(arguments.seconds);
    let mut report = Report::new(vec![(FLOOR, FLOOR.to_owned())]);
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let folder = tempfile::Builder::new().prefix("spool-bench-").tempdir_in(&arguments.directory).unwrap();
        for size in BATCHES {
            let batch = frames(1, size as u64);
            let bytes = encoded(&batch).len();
            // Each is the first in every other round.
            for turn in 0..2 {
                let (row, appended) = if (round + turn) % 2 == 0 {
                    (FLOOR, append_to_file(&folder.path().join("floor"), &encoded(&batch), span))
                } else {
                    (SPOOL, append_to_spool(&folder.path().join(format!("spool-{size}")), size, span))
                };
                let name = format!("append, {size} a batch");
                let rate = appended as f64 / span.as_secs_f64();
                report.add(row, &name, Unit::FramesPerSecond, rate * size as f64);
                let mebibytes = rate * bytes as f64 / f64::from(1 << 20);
                report.add(row, &format!("{name}, bytes"), Unit::MebibytesPerSecond, mebibytes);
            }
        }
        read_back(folder.path(), arguments.frames, &mut report);
    }
    println!("{report}");
    report.write(&arguments.json);
}

/// Messages like those of real callbacks: 1.2 kB with their headers.
fn frames(first: u64, count: u64) -> Vec<Frame> {
    let header = |name: &'static str, bytes: usize| Header { name: name.into(), value: Bytes::from(vec![b'h'; bytes]) };
    let headers: Vec<_> = [
        ("ce_specversion", 3),
        ("ce_id", 36),
        ("ce_type", 19),
        ("ce_source", 30),
        ("ce_subject", 20),
        ("ce_time", 27),
        ("content-type", 16),
        ("received_at", 27),
        ("facts_digest", 32),
    ]
    .map(|(name, bytes)| header(name, bytes))
    .to_vec();
    let (key, payload) = (Bytes::from(vec![b'k'; 20]), Bytes::from(vec![b'p'; 900]));
    (first..first + count)
        .map(|sequence| Frame {
            sequence,
            accepted_at: Timestamp::from_seconds(1_767_225_600, 0).unwrap(),
            message: Message::from_parts(key.clone(), payload.clone(), headers.clone()),
        })
        .collect()
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).unwrap();
    }
    bytes
}

fn open(folder: &Path) -> Spool<Directory> {
    let config = Config {
        bytes_max: 64 << 30,
        disk_free_min: 0,
        segment_bytes: SEGMENT_BYTES,
        owner: Id([7; 16]),
        allocate_at_start: true,
    };
    Spool::open(Directory::at(folder), config).unwrap()
}

/// Batches written and synced within `span`.
fn append_to_spool(folder: &Path, size: usize, span: Duration) -> u64 {
    let Spool { mut writer, mut drain, .. } = open(folder);
    let mut frames = frames(writer.next_sequence(), size as u64);
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < span {
        let appended = writer.append_batch(&frames).unwrap();
        assert!(appended.covers(frames[0].sequence), "the proof of another batch");
        for frame in &mut frames {
            frame.sequence += size as u64;
        }
        batches += 1;
    }
    // What is delivered takes no more space.
    assert!(drain.commit(frames[0].sequence - 1).fault.is_none(), "the watermark could not be written");
    batches
}

/// The same in one file after the other, each of the size of a segment.
fn append_to_file(file: &Path, batch: &[u8], span: Duration) -> u64 {
    let open = || {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(file).unwrap();
        let length = SEGMENT_BYTES.max(batch.len() as u64);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
        file.sync_all().unwrap();
        file
    };
    let (mut segment, mut position) = (open(), 0);
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < span {
        if position + batch.len() as u64 > SEGMENT_BYTES && position > 0 {
            (segment, position) = (open(), 0);
        }
        segment.write_all_at(batch, position).unwrap();
        segment.sync_data().unwrap();
        position += batch.len() as u64;
        batches += 1;
    }
    batches
}

/// Recovery and the drain's reading of `count` frames, and the reading of their files alone.
fn read_back(folder: &Path, count: u64, report: &mut Report) {
    let folder = folder.join("read");
    let mut spool = open(&folder);
    let mut last = spool.writer.next_sequence() - 1;
    while last < count {
        let batch = frames(last + 1, 1024.min(count - last));
        last = batch.last().map_or(last, |frame| frame.sequence);
        assert!(spool.writer.append_batch(&batch).unwrap().covers(last), "the proof of another batch");
    }
    drop(spool);
    let (began, mut buffer, mut bytes) = (Instant::now(), vec![0; READ_BYTES_MAX], 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let mut file = File::open(entry.unwrap().path()).unwrap();
        while let count @ 1.. = file.read(&mut buffer).unwrap() {
            bytes += count;
        }
    }
    let floor = began.elapsed().as_secs_f64();
    report.add(FLOOR, "read", Unit::FramesPerSecond, count as f64 / floor);
    report.add(FLOOR, "read, bytes", Unit::MebibytesPerSecond, bytes as f64 / floor / f64::from(1 << 20));
    let began = Instant::now();
    let Spool { mut drain, .. } = open(&folder);
    report.add(SPOOL, "open and recover", Unit::Milliseconds, began.elapsed().as_secs_f64() * 1e3);
    let (began, mut position, mut found) = (Instant::now(), 0, 0);
    while position < count {
        let read = drain.read(position, READ_BYTES_MAX).unwrap();
        assert!(read.damaged.is_empty(), "damage");
        found += read.frames.len() as u64;
        position = read.frames.last().unwrap().sequence;
    }
    assert_eq!(found, count);
    let taken = began.elapsed().as_secs_f64();
    report.add(SPOOL, "read", Unit::FramesPerSecond, count as f64 / taken);
    report.add(SPOOL, "read, bytes", Unit::MebibytesPerSecond, bytes as f64 / taken / f64::from(1 << 20));
    let began = Instant::now();
    assert!(drain.commit(count).fault.is_none(), "the watermark could not be written");
    report.add(SPOOL, "commit of all", Unit::Milliseconds, began.elapsed().as_secs_f64() * 1e3);
}
