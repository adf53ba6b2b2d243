//! The spool on a real directory: ownership, permissions, size.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use recording_bridge::spool::inspect::{self, Content};
use recording_bridge::spool::segment::{self, Kind};
use recording_bridge::spool::{Config, Directory, Health, Id, OpenError, SEGMENT_BYTES, Spool};

use crate::support::faulty_storage::FaultyStorage;
use crate::support::spool::{frame, small, write};

fn config() -> Config {
    Config {
        bytes_max: 4 << 30,
        disk_free_min: 0,
        segment_bytes: SEGMENT_BYTES,
        owner: Id([3; 16]),
        allocate_at_start: true,
    }
}

#[test]
fn a_directory_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let spool = Spool::open(Directory::at(&path), config()).unwrap();
    let refused = Spool::open(Directory::at(&path), config()).unwrap_err();
    assert!(matches!(refused, OpenError::Owned));
    assert_eq!(refused.to_string(), "the spool directory is in use by another process");
    // The lock lives as long as any handle.
    let Spool { writer, drain, monitor, .. } = spool;
    drop((writer, monitor));
    assert!(Spool::open(Directory::at(&path), config()).is_err());
    drop(drain);
    assert!(Spool::open(Directory::at(&path), config()).is_ok());
}

#[test]
fn nobody_else_may_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/spool");
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spool = Spool::open(Directory::at(&path), config()).unwrap();
    assert!(spool.writer.append_batch(&[frame(1, 1, 100)]).unwrap().covers(1));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_file_removed_by_hand_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(Directory::at(folder.path()), config()).unwrap();
    assert_eq!(spool.monitor.status().health, Health::Ready);
    assert!(spool.writer.append_batch(&[frame(1, 1, 100)]).unwrap().covers(1));
    fs::remove_file(folder.path().join(segment::name(1))).unwrap();
    assert!(spool.writer.append_batch(&[frame(2, 1, 100)]).is_err());
}

#[test]
fn a_damaged_byte_in_a_sealed_segment_costs_one_frame_and_the_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.segment_bytes = 64 << 10;
    let mut spool = Spool::open(Directory::at(folder.path()), config.clone()).unwrap();
    for first in (1..=1000).step_by(10) {
        let frames: Vec<_> = (first..first + 10).map(|sequence| frame(sequence, 1, 500)).collect();
        assert!(spool.writer.append_batch(&frames).unwrap().covers(first));
    }
    drop(spool);
    let victim = folder.path().join(segment::name(2));
    let mut bytes = fs::read(&victim).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&victim, bytes).unwrap();

    let mut damaged = 0;
    let mut frames = 0;
    for file in inspect::survey(&Directory::at(folder.path())).unwrap().files {
        assert!(matches!(file.kind, Kind::Segment(_)) && file.header.is_ok());
        inspect::read(&Directory::at(folder.path()), &file, |content| match content {
            Content::Frame(_) => frames += 1,
            Content::Damaged(_) => damaged += 1,
            Content::Torn(_) => panic!("nothing is torn"),
        })
        .unwrap();
    }
    assert_eq!((frames, damaged), (999, 1));

    let mut spool = Spool::open(Directory::at(folder.path()), config).unwrap();
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert_eq!((read.frames.len(), read.damaged.len()), (999, 1));
    assert_eq!(spool.drain.commit(1000).segments_set_aside, 1);
    assert_eq!(spool.monitor.status().damaged_stretches, 1);
    assert!(folder.path().join("0000000000000002.damaged").exists() && !victim.exists());
    assert!(spool.monitor.status().is_empty());
}

#[test]
fn a_restart_gives_back_what_its_segment_does_not_need() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: 2 * SEGMENT_BYTES, ..config() };
    // A process that another test starts just now has the lock of the last one, until it has become what it is to be.
    let open = || loop {
        match Spool::open(Directory::at(folder.path()), config.clone()) {
            Err(OpenError::Owned) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    for sequence in 1..=20 {
        let mut spool = open();
        assert_eq!((spool.recovery.frames, spool.recovery.damaged.len()), (sequence - 1, 0));
        assert!(spool.writer.append_batch(&[frame(sequence, 1, 100)]).unwrap().covers(sequence));
        let status = spool.monitor.status();
        let on_disk: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| matches!(segment::kind(entry.file_name().to_str().unwrap()), Kind::Segment(_)))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert_eq!(status.bytes, on_disk);
        assert!(status.bytes < SEGMENT_BYTES + 20 * 1024, "{}", status.bytes);
    }
    let mut spool = open();
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert_eq!(read.frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(read.damaged.is_empty() && read.at_end);
    assert_eq!(spool.drain.commit(20).segments_removed, 20);
    assert_eq!(spool.monitor.status().bytes, SEGMENT_BYTES);
}

#[test]
fn one_thread_appends_while_another_drains() {
    const COUNT: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.segment_bytes = 256 << 10;
    let Spool { mut writer, mut drain, monitor, .. } = Spool::open(Directory::at(folder.path()), config).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sequence = 1;
            while sequence <= COUNT {
                let end = (sequence + 1 + sequence % 90).min(COUNT + 1);
                let frames: Vec<_> = (sequence..end).map(|sequence| frame(sequence, 1, 300)).collect();
                assert!(writer.append_batch(&frames).unwrap().covers(sequence));
                sequence = end;
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut position = 0;
        while position < COUNT {
            assert!(Instant::now() < deadline, "stuck at {position}");
            let read = drain.read(position, 64 << 10).unwrap();
            assert!(read.damaged.is_empty());
            for frame in &read.frames {
                position += 1;
                assert_eq!(frame.sequence, position);
            }
            assert_eq!(drain.commit(position).fault, None);
        }
    });
    let status = monitor.status();
    assert!(status.is_empty() && status.segments == 1, "{status:?}");
}

#[test]
fn a_large_spool_opens_at_once() {
    let long = std::env::var_os("RECORDING_BRIDGE_LONG").is_some();
    let (count, payload_bytes) = if long { (1_000_000, 1_200) } else { (100_000, 300) };
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(Directory::at(folder.path()), config()).unwrap();
    let began = Instant::now();
    for first in (1..=count).step_by(2000) {
        let frames: Vec<_> = (first..first + 2000).map(|sequence| frame(sequence, 1, payload_bytes)).collect();
        assert!(spool.writer.append_batch(&frames).unwrap().covers(first));
    }
    let appended = began.elapsed();
    drop(spool);
    let began = Instant::now();
    let mut spool = Spool::open(Directory::at(folder.path()), config()).unwrap();
    let opened = began.elapsed();
    assert!(opened < Duration::from_secs(3), "{opened:?}");
    assert_eq!(spool.recovery.frames, count);
    assert_eq!(spool.recovery.next_sequence, count + 1);
    let began = Instant::now();
    let mut position = 0;
    loop {
        let read = spool.drain.read(position, 1 << 20).unwrap();
        for frame in &read.frames {
            position += 1;
            assert_eq!(frame.sequence, position);
        }
        spool.drain.commit(position);
        if read.at_end {
            break;
        }
    }
    assert_eq!(position, count);
    assert!(spool.monitor.status().is_empty());
    eprintln!("{count} frames: appended in {appended:?}, opened in {opened:?}, drained in {:?}", began.elapsed());
}

#[test]
fn an_orphan_that_is_opened_and_left_gives_no_sequence_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = |limits: Config| Spool::open(Directory::at(folder.path()), limits).unwrap();
    drop(write(folder.path(), 20));
    let victim = folder.path().join(segment::name(1));
    let mut bytes = fs::read(&victim).unwrap();
    bytes[128 + 2 * 557 + 99] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let mut spool = open(small(8));
    assert_eq!(spool.drain.read(0, usize::MAX).unwrap().frames.len(), 19);
    assert_eq!(spool.drain.commit(20).segments_set_aside, 1);
    drop(spool);
    // A drain of the orphan that is stopped before it has done anything; and then its bridge comes back after all.
    drop(Spool::open_orphan(Directory::at(folder.path()), small(9)).unwrap());
    let mut spool = open(small(10));
    let next = spool.writer.next_sequence();
    assert!(spool.writer.append_batch(&[frame(next, 2, 100)]).unwrap().covers(next));
    drop(spool);
    let mut spool = Spool::open_orphan(Directory::at(folder.path()), small(11)).unwrap();
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert!(read.frames.contains(&frame(next, 2, 100)), "the new event {next} is not published");
    assert!(next > 20, "{next} was given out before");
}

#[test]
fn going_back_a_little_does_not_read_the_whole_spool_again() {
    let storage = FaultyStorage::new(1);
    let limits = Config { bytes_max: 1 << 30, segment_bytes: 4096, ..small(7) };
    let mut spool = Spool::open(storage.clone(), limits).unwrap();
    let mut append = |sequence: u64| assert!(spool.writer.append_batch(&[frame(sequence, 1, 500)]).is_ok());
    (1..=1000).for_each(&mut append);
    assert_eq!(spool.drain.read(0, usize::MAX).unwrap().frames.len(), 1000);
    // A frame more was handed out than the caller had asked for; it goes back to before that one.
    append(1001);
    let before = storage.steps();
    let read = spool.drain.read(999, usize::MAX).unwrap();
    assert_eq!(read.frames, [frame(1000, 1, 500), frame(1001, 1, 500)]);
    let steps = storage.steps() - before;
    assert!(steps < 10, "{steps} steps on the disk");
    // Whatever place it goes back to, everything above it is there.
    for after in (0..1001).step_by(50) {
        let read = spool.drain.read(after, usize::MAX).unwrap();
        assert!(read.frames.iter().map(|frame| frame.sequence).eq(after + 1..=1001), "{after}");
    }
}

#[test]
fn the_room_is_told_to_the_frame_by_the_limit_and_by_the_volume() {
    let limits = Config { bytes_max: 3 * 4096, disk_free_min: 1000, segment_bytes: 4096, ..small(7) };
    let storage = FaultyStorage::new(1);
    let mut spool = Spool::open(storage.clone(), limits).unwrap();
    let room = |spool: &Spool<FaultyStorage>| spool.monitor.status().room_bytes;
    assert_eq!(room(&spool), 3 * 4096);
    storage.set_free_bytes(1000 + 2 * 4096 + 5);
    assert_eq!(room(&spool), 3 * 4096, "nobody has looked");
    spool.monitor.look_at_volume();
    assert_eq!(room(&spool), 2 * 4096, "half a segment takes nothing");
    storage.set_free_bytes(999);
    spool.monitor.look_at_volume();
    assert_eq!(room(&spool), 0);
    storage.set_free_bytes(u64::MAX);
    spool.monitor.look_at_volume();

    let (mut rooms, mut sequence) = (vec![room(&spool)], 1);
    while spool.writer.append_batch(&[frame(sequence, 1, 500)]).is_ok() {
        rooms.push(room(&spool));
        sequence += 1;
    }
    let spent: Vec<u64> = rooms.windows(2).map(|pair| pair[0] - pair[1]).collect();
    // Seven frames to a segment; the first of each also costs the header, and what the one before could not take.
    assert_eq!(spent.len(), 21);
    let frame_bytes = spent[1];
    assert!((500..600).contains(&frame_bytes));
    assert!(spent.iter().enumerate().all(|(at, spent)| at % 7 == 0 || *spent == frame_bytes), "{spent:?}");
    assert!(rooms.last().is_some_and(|room| *room < frame_bytes), "{rooms:?}");
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert_eq!(read.frames.len(), 21);
    spool.drain.commit(7);
    assert_eq!(room(&spool), rooms.last().unwrap() + 4096);
}
