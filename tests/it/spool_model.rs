//! The promise of the spool, against storage that breaks at any step:
//!
//! - every frame appended, acknowledged and not committed is read after any crash, once and in order;
//! - nothing is read that was never appended, and nothing that is not synced;
//! - a sequence that was used is never given out again;
//! - what was committed comes back only if the watermark was not persisted;
//! - a full disk can be drained.

use std::collections::BTreeMap;

use recording_bridge::spool::{
    AppendError, Committed, Fault, Frame, Full, Health, Id, OpenError, Spool, frame, segment, watermark,
};

use crate::support::faulty_storage::{FaultyStorage, Survival, Trouble};
use crate::support::random::Random;
use crate::support::spool::{frame, small};

type FaultySpool = Spool<FaultyStorage>;

/// What must hold, learnt from outside.
#[derive(Default)]
struct Model {
    /// Every frame ever handed over, by sequence. A sequence that came to nothing may be used again.
    attempted: BTreeMap<u64, Vec<Frame>>,
    acknowledged: BTreeMap<u64, Frame>,
    delivered: u64,
    persisted: u64,
    /// Highest sequence that was acknowledged.
    used: u64,
    /// Highest sequence that was read.
    seen: u64,
    salt: u64,
}

impl Model {
    /// Checks frames read in one go, all above `after`.
    fn check_frames(&mut self, frames: &[Frame], after: u64, at_end: bool) {
        let mut last = after;
        for frame in frames {
            assert!(frame.sequence > last, "frame {} after {last}: out of order or twice", frame.sequence);
            for lost in self.acknowledged.range(last + 1..frame.sequence) {
                assert!(*lost.0 <= self.delivered, "acknowledged frame {} is missing", lost.0);
            }
            let known = self.attempted.get(&frame.sequence).is_some_and(|known| known.contains(frame));
            assert!(known, "frame {} was never appended", frame.sequence);
            if let Some(acknowledged) = self.acknowledged.get(&frame.sequence) {
                assert_eq!(acknowledged, frame, "another frame stands in place of the acknowledged one");
            }
            last = frame.sequence;
        }
        if at_end {
            for lost in self.acknowledged.range(last + 1..) {
                assert!(*lost.0 <= self.delivered, "acknowledged frame {} is missing at the end", lost.0);
            }
        }
        self.seen = self.seen.max(last);
    }
}

/// Opens the spool, as often as it takes: errors pass.
fn open(storage: &FaultyStorage, model: &mut Model, owner: u8) -> Option<FaultySpool> {
    let mut troubled = false;
    for _ in 0..50 {
        match Spool::open(storage.clone(), small(owner)) {
            Ok(spool) => {
                let next = spool.recovery.next_sequence;
                assert!(next > model.used, "sequence {next} is given out again, {} was used", model.used);
                // A frame that was never acknowledged may be seen and, if a sync fails, vanish again.
                assert!(next > model.seen || storage.ever_failed_to_sync(), "sequence {next}, {} was seen", model.seen);
                let found = spool.recovery.watermark.unwrap_or(0);
                if found < model.persisted && !storage.is_dead() {
                    assert!(troubled || storage.had_error(), "the watermark {} was lost", model.persisted);
                    model.persisted = found;
                }
                assert!(found <= model.delivered, "the watermark {found} was never committed");
                return Some(spool);
            }
            Err(OpenError::Directory(_)) if storage.is_dead() => return None,
            Err(OpenError::Directory(_)) => troubled = true,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the spool does not open");
}

/// One process: opens, works, and ends by crash or at will.
fn live(storage: &FaultyStorage, model: &mut Model, random: &mut Random, operations: u64, owner: u8) {
    // An error while a spool is opened may cost the watermark, also if the power fails before it is open.
    let Some(spool) = open(storage, model, owner) else { return };
    work(spool, storage, model, random, operations);
    storage.forget_error();
}

fn work(mut spool: FaultySpool, storage: &FaultyStorage, model: &mut Model, random: &mut Random, operations: u64) {
    let recovered_below = spool.recovery.next_sequence;
    let mut sequence = recovered_below;
    let mut position = spool.monitor.status().watermark;
    for _ in 0..operations {
        if storage.is_dead() {
            return;
        }
        match random.below(12) {
            0..6 => {
                // Messages that go to Kafka directly take numbers too.
                sequence += if random.one_in(4) { random.below(5) } else { 0 };
                let mut batch = Vec::new();
                for _ in 0..=random.below(4) {
                    model.salt += 1;
                    let bytes = usize::try_from(random.below(250)).unwrap();
                    batch.push(frame(sequence, model.salt, bytes));
                    sequence += 1;
                }
                for frame in &batch {
                    model.attempted.entry(frame.sequence).or_default().push(frame.clone());
                }
                match spool.writer.append_batch(&batch) {
                    Ok(appended) => {
                        for frame in batch {
                            assert!(appended.covers(frame.sequence));
                            model.used = model.used.max(frame.sequence);
                            model.acknowledged.insert(frame.sequence, frame);
                        }
                    }
                    Err(AppendError::Invalid(invalid)) => panic!("{invalid:?}"),
                    Err(AppendError::Full(_) | AppendError::Unhealthy(_)) => {}
                }
            }
            6..8 => {
                if random.one_in(8) {
                    position = spool.monitor.status().watermark;
                }
                let bytes_max = usize::try_from(random.below(1000)).unwrap();
                if let Ok(read) = spool.drain.read(position, bytes_max) {
                    model.check_frames(&read.frames, position, read.at_end);
                    for frame in &read.frames {
                        let synced = model.acknowledged.contains_key(&frame.sequence);
                        assert!(synced || frame.sequence < recovered_below, "{} is not synced", frame.sequence);
                        position = frame.sequence;
                    }
                }
            }
            8..10 => {
                let watermark = position - random.below(3).min(position);
                let before = spool.monitor.status().watermark;
                model.delivered = model.delivered.max(watermark);
                spool.drain.commit(watermark);
                let status = spool.monitor.status();
                assert!(status.watermark >= before && status.watermark >= watermark.min(before));
                if !storage.is_dead() {
                    model.persisted = model.persisted.max(status.watermark_persisted);
                }
            }
            10 => drop(spool.writer.probe()),
            _ => {
                let status = spool.monitor.status();
                let undelivered = model.acknowledged.range(status.watermark.max(model.delivered) + 1..).count() as u64;
                assert!(status.frames >= undelivered, "{} frames, {undelivered} are undelivered", status.frames);
                assert!(status.bytes <= status.bytes_max + 4096, "{} bytes", status.bytes);
            }
        }
    }
}

/// Everything that is still there, read by a new process on a disk that is full or not; then it is drained.
fn last_rites(storage: &FaultyStorage, model: &mut Model, full: bool) {
    storage.heal();
    storage.set_full(full);
    let mut spool = open(storage, model, 200).expect("nothing is wrong any more");
    let mut position = spool.monitor.status().watermark;
    loop {
        let read = spool.drain.read(position, 700).expect("nothing is wrong any more");
        model.check_frames(&read.frames, position, read.at_end);
        if let Some(first) = read.frames.first() {
            assert!(first.sequence > model.persisted, "committed frame {} came back", first.sequence);
        }
        position = read.frames.last().map_or(position, |frame| frame.sequence);
        if read.at_end {
            break;
        }
    }
    model.delivered = model.delivered.max(position);
    let Committed { fault, .. } = spool.drain.commit(position);
    let status = spool.monitor.status();
    assert!(status.is_empty() && status.segments <= 1, "not drained: {status:?}, {fault:?}");
    drop(spool);
    storage.restart(Survival::Synced);
    storage.set_full(false);
    let spool = open(storage, model, 201).expect("nothing is wrong any more");
    if fault.is_none() {
        assert!(spool.monitor.status().is_empty(), "{:?}", spool.monitor.status());
    }
}

/// Says with what a run failed, and after which steps.
fn in_context(context: &str, storage: &FaultyStorage, run: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        eprintln!("failed: {context}\n{}", storage.take_log().join("\n"));
        std::panic::resume_unwind(panic);
    }
}

fn is_long() -> bool {
    std::env::var_os("RECORDING_BRIDGE_LONG").is_some()
}

const TROUBLES: [Trouble; 4] = [Trouble::Crash, Trouble::Error, Trouble::NoSpace, Trouble::Short];

#[test]
fn any_single_trouble_at_any_step_loses_nothing() {
    let scripts = if is_long() { 40 } else { 1 };
    for script in 0..scripts {
        let play = |storage: &FaultyStorage, trouble: Option<(u64, Trouble)>, survival: Survival, full: bool| {
            let mut model = Model::default();
            let mut random = Random::new(script);
            if let Some((step, trouble)) = trouble {
                storage.plan(step, trouble);
            }
            for life in 0..3 {
                live(storage, &mut model, &mut random, 20, life);
                storage.restart(survival);
            }
            last_rites(storage, &mut model, full);
            storage.steps()
        };
        let steps = play(&FaultyStorage::new(script), None, Survival::Synced, false);
        for step in 0..steps {
            for trouble in TROUBLES {
                for survival in [Survival::Cache, Survival::Synced, Survival::Chance(step), Survival::Chance(!step)] {
                    let full = step % 2 == 0;
                    let storage = FaultyStorage::new(script);
                    let context = format!("script {script}, step {step}, {trouble:?}, {survival:?}, full {full}");
                    in_context(&context, &storage, || {
                        play(&storage, Some((step, trouble)), survival, full);
                    });
                }
            }
        }
    }
}

#[test]
fn many_troubles_at_random_steps_lose_nothing() {
    let seeds = if is_long() { 200_000 } else { 6_000 };
    let only: Option<u64> = std::env::var("RECORDING_BRIDGE_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let storage = FaultyStorage::new(seed);
        in_context(&format!("seed {seed}"), &storage, || {
            let mut random = Random::new(seed);
            let mut model = Model::default();
            for life in 0..5 {
                storage.heal();
                let mut step = storage.steps();
                for _ in 0..random.below(6) {
                    // Short bursts, apart: a read that fails for longer is a bad sector, and has its own test.
                    step += 10 + random.below(60);
                    let trouble = TROUBLES[usize::try_from(random.below(4)).unwrap()];
                    for offset in 0..=random.below(3) {
                        storage.plan(step + offset, trouble);
                    }
                }
                live(&storage, &mut model, &mut random, 25, life);
                storage.restart(match random.below(3) {
                    0 => Survival::Cache,
                    1 => Survival::Synced,
                    _ => Survival::Chance(random.next()),
                });
            }
            last_rites(&storage, &mut model, random.one_in(2));
        });
    }
}

/// A spool with a few batches in it, one segment for about each.
fn filled(storage: &FaultyStorage, batches: u64) -> FaultySpool {
    let mut spool = Spool::open(storage.clone(), small(1)).unwrap();
    for batch in 0..batches {
        let frames: Vec<_> = (1..=3).map(|index| frame(batch * 3 + index, 7, 200)).collect();
        assert!(spool.writer.append_batch(&frames).unwrap().covers(batch * 3 + 2));
    }
    spool
}

fn sequences(spool: &mut FaultySpool, after: u64) -> Vec<u64> {
    let read = spool.drain.read(after, usize::MAX).unwrap();
    assert!(read.at_end);
    read.frames.iter().map(|frame| frame.sequence).collect()
}

#[test]
fn frames_are_written_and_synced_before_they_are_acknowledged() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    storage.take_log();
    assert!(spool.writer.append_batch(&[frame(4, 1, 0)]).is_ok());
    assert_eq!(storage.take_log(), ["write", "sync", "link", "read"]);
}

#[test]
fn a_segment_is_durable_before_it_has_its_name_and_a_frame_only_after() {
    let storage = FaultyStorage::new(1);
    let mut spool = Spool::open(storage.clone(), small(1)).unwrap();
    storage.take_log();
    assert!(spool.writer.append_batch(&[frame(1, 1, 0)]).is_ok());
    let unfinished = "0000000000000001.unfinished";
    let (create, rename) = (format!("create {unfinished}"), format!("rename {unfinished} {}", segment::name(1)));
    let make = ["free", &create, "allocate", "write", "sync", &rename, "sync directory"];
    assert_eq!(storage.take_log(), [&make[..], &["write", "sync", "link", "read"]].concat());
}

#[test]
fn an_empty_segment_alone_remembers_which_sequences_were_used() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    spool.monitor.report_hang();
    spool.writer.probe().unwrap();
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3]);
    storage.plan(storage.steps(), Trouble::Error);
    assert_eq!(spool.drain.commit(3).segments_removed, 1);
    drop(spool);
    storage.restart(Survival::Synced);
    assert_eq!(Spool::open(storage, small(2)).unwrap().recovery.next_sequence, 4);
}

#[test]
fn nothing_is_appended_to_a_segment_once_a_successor_may_say_where_it_ends() {
    let storage = FaultyStorage::new(1);
    let mut spool = Spool::open(storage.clone(), small(1)).unwrap();
    assert!(spool.writer.append_batch(&[frame(1, 1, 0)]).is_ok());
    // The successor gets its name, but neither can the directory be synced nor the name be taken back.
    storage.plan(storage.steps() + 6, Trouble::NoSpace);
    storage.plan(storage.steps() + 7, Trouble::NoSpace);
    assert!(spool.writer.append_batch(&[frame(2, 1, 500), frame(3, 1, 500)]).is_err());
    let small = spool.writer.append_batch(&[frame(4, 1, 0)]);
    drop(spool);
    storage.restart(Survival::Cache);
    let mut spool = Spool::open(storage, crate::support::spool::small(2)).unwrap();
    let found = sequences(&mut spool, 0);
    assert!(small.is_err() || found.contains(&4), "frame 4 was acknowledged, and {found:?} are left");
}

#[test]
fn what_a_recovery_shows_survives_a_power_cut_after_it() {
    for seed in 0..20 {
        let storage = FaultyStorage::new(seed);
        let mut spool = filled(&storage, 1);
        // The process dies in the sync; the frame is in the page cache, and nobody was told anything.
        storage.plan(storage.steps() + 1, Trouble::Crash);
        assert!(spool.writer.append_batch(&[frame(4, 1, 0)]).is_err());
        drop(spool);
        storage.restart(Survival::Cache);
        let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
        assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4]);
        drop(spool);
        storage.restart(Survival::Synced);
        let mut spool = Spool::open(storage, small(3)).unwrap();
        assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4]);
        assert_eq!(spool.recovery.next_sequence, 5);
    }
}

#[test]
fn the_good_slot_of_the_watermark_outlives_a_failure_of_the_other() {
    for seed in 0..50 {
        let storage = FaultyStorage::new(seed);
        let mut spool = filled(&storage, 1);
        assert_eq!(spool.drain.commit(1).fault, None);
        storage.plan(storage.steps() + 1, Trouble::Error);
        assert!(spool.drain.commit(2).fault.is_some());
        storage.plan(storage.steps() + 1, Trouble::Crash);
        spool.drain.commit(3);
        drop(spool);
        storage.restart(Survival::Chance(seed));
        let spool = Spool::open(storage, small(2)).unwrap();
        assert!(spool.recovery.watermark >= Some(1), "{:?}", spool.recovery);
    }
}

#[test]
fn the_watermark_is_on_disk_before_a_segment_is_removed() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 3);
    assert_eq!(sequences(&mut spool, 0), (1..=9).collect::<Vec<_>>());
    storage.take_log();
    let committed = spool.drain.commit(6);
    assert_eq!((committed.segments_removed, committed.fault), (2, None));
    let unlinks = [segment::name(1), segment::name(2)].map(|name| format!("unlink {name}"));
    assert_eq!(storage.take_log(), ["write", "sync", &unlinks[0], &unlinks[1], "sync directory"]);
}

#[test]
fn a_segment_is_removed_even_if_the_watermark_cannot_be_written_but_never_the_newest() {
    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 3));
    let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
    assert_eq!(sequences(&mut spool, 0).len(), 9);
    storage.plan(storage.steps(), Trouble::Error);
    let committed = spool.drain.commit(9);
    assert!(matches!(committed.fault, Some(Fault::Storage { .. })));
    assert_eq!(committed.segments_removed, 2);
    drop(spool);
    storage.restart(Survival::Synced);
    let spool = Spool::open(storage, small(3)).unwrap();
    assert_eq!(spool.recovery.next_sequence, 10);
}

#[test]
fn a_failed_sync_moves_the_answered_frames_to_a_new_segment() {
    for seed in 0..50 {
        let storage = FaultyStorage::new(seed);
        let mut spool = filled(&storage, 1);
        storage.plan(storage.steps() + 1, Trouble::Error);
        let appended = spool.writer.append_batch(&[frame(4, 1, 0)]).unwrap();
        assert_eq!(appended.frames_moved(), 3);
        assert_eq!(storage.names(), [segment::name(2), watermark::NAME.to_owned()]);
        drop(spool);
        storage.restart(Survival::Synced);
        let mut spool = Spool::open(storage, small(2)).unwrap();
        assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4]);
    }
}

#[test]
fn a_spool_whose_disk_stays_broken_is_unhealthy_until_a_probe_succeeds_and_can_still_be_read() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    for offset in 0..100 {
        storage.plan(storage.steps() + offset, Trouble::Error);
    }
    assert!(matches!(spool.writer.append_batch(&[frame(4, 1, 0)]), Err(AppendError::Unhealthy(_))));
    assert!(matches!(spool.writer.append_batch(&[frame(5, 1, 0)]), Err(AppendError::Unhealthy(_))));
    assert!(spool.writer.probe().is_err());
    assert!(matches!(spool.monitor.status().health, Health::Unhealthy(_)));
    // From memory: the page cache may have lost them.
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3]);
    storage.heal();
    spool.writer.probe().unwrap();
    assert_eq!(spool.monitor.status().health, Health::Ready);
    assert!(spool.writer.append_batch(&[frame(6, 1, 0)]).is_ok());
    assert_eq!(sequences(&mut spool, 3), [6]);
}

#[test]
fn overlapping_segments_are_merged_and_equal_sequences_removed() {
    // The failed segment and what replaces it both survive, one with damage in the middle.
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    let failed = storage.get(&segment::name(1));
    storage.plan(storage.steps() + 1, Trouble::Error);
    assert!(spool.writer.append_batch(&[frame(4, 1, 0)]).is_ok());
    drop(spool);
    storage.put(&segment::name(1), failed);
    storage.edit(&segment::name(1), |bytes| bytes[400] ^= 1);
    let mut spool = Spool::open(storage, small(2)).unwrap();
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4]);
}

#[test]
fn a_good_frame_behind_a_bad_one_is_kept_and_the_damaged_file_set_aside() {
    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 2));
    for name in [segment::name(1), segment::name(2)] {
        storage.edit(&name, |bytes| bytes[450] ^= 0x40);
    }
    let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
    assert_eq!(spool.recovery.next_sequence, 7);
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert_eq!(read.frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [1, 3, 4, 6]);
    let lost: Vec<_> = read.damaged.iter().map(|damaged| (damaged.after, damaged.before)).collect();
    assert_eq!(lost, [(1, Some(3)), (4, Some(6))]);
    assert_eq!(spool.monitor.status().damaged_stretches, 2);
    assert_eq!(spool.drain.commit(6).segments_set_aside, 2);
    assert_eq!(storage.names(), ["0000000000000001.damaged", "0000000000000002.damaged", watermark::NAME]);
    assert!(spool.monitor.status().is_empty());
}

#[test]
fn a_length_that_lies_costs_its_own_frame_alone() {
    let next = encoded_bytes(2, 7, 200);
    let payload = encoded_bytes(1, 7, 200) - frame::HEADER_BYTES;
    // Up to the frame after the next, into the middle of it, shorter than it is, nothing, and as long as may be.
    for lie in [payload + next, payload + next + 100, payload - 100, 0, frame::PAYLOAD_BYTES_MAX] {
        let storage = FaultyStorage::new(1);
        drop(filled(&storage, 1));
        let length = segment::HEADER_BYTES + frame::MARKER.len();
        let claimed = u32::try_from(lie).unwrap().to_le_bytes();
        storage.edit(&segment::name(1), |bytes| bytes[length..length + 4].copy_from_slice(&claimed));
        let mut spool = Spool::open(storage, small(2)).unwrap();
        assert_eq!(spool.recovery.next_sequence, 4, "{lie}");
        assert_eq!(sequences(&mut spool, 0), [2, 3], "{lie}");
    }
}

#[test]
fn damage_that_was_delivered_before_a_crash_is_still_set_aside() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 3);
    storage.edit(&segment::name(1), |bytes| bytes[450] ^= 0x40);
    assert_eq!(sequences(&mut spool, 0).len(), 8);
    storage.plan(storage.steps() + 2, Trouble::Crash);
    spool.drain.commit(6);
    drop(spool);
    storage.restart(Survival::Synced);
    let spool = Spool::open(storage.clone(), small(2)).unwrap();
    assert_eq!(spool.recovery.set_aside, 1);
    assert!(storage.names().contains(&"0000000000000001.damaged".to_owned()));
}

#[test]
fn a_lost_end_of_a_sealed_segment_is_damage_not_a_torn_tail() {
    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 3));
    storage.edit(&segment::name(1), |bytes| bytes[700..].fill(0));
    let mut spool = Spool::open(storage, small(2)).unwrap();
    let read = spool.drain.read(0, usize::MAX).unwrap();
    assert_eq!(read.frames.len(), 8);
    assert_eq!(read.damaged.len(), 1);
}

#[test]
fn a_torn_tail_is_no_frame_and_no_damage() {
    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 1));
    let mut torn = Vec::new();
    frame(4, 7, 50).encode(&mut torn).unwrap();
    let end = {
        let frames: usize = (1..=3).map(|sequence| encoded_bytes(sequence, 7, 200)).sum();
        segment::HEADER_BYTES + frames
    };
    for cut in 1..torn.len() {
        storage.edit(&segment::name(1), |bytes| {
            bytes[end..].fill(0);
            bytes[end..end + cut].copy_from_slice(&torn[..cut]);
        });
        let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
        // Trailing zeros of a cut-off frame look like those behind it.
        assert!(spool.recovery.torn_bytes > 0);
        assert_eq!(spool.recovery.next_sequence, 4);
        assert_eq!(sequences(&mut spool, 0), [1, 2, 3]);
        assert!(spool.recovery.damaged.is_empty());
        // Nor is it damage once a newer segment follows.
        assert!(spool.writer.append_batch(&[frame(4, 9, 50)]).unwrap().covers(4));
        drop(spool);
        let mut spool = Spool::open(storage.clone(), small(3)).unwrap();
        let read = spool.drain.read(0, usize::MAX).unwrap();
        assert_eq!((read.frames.len(), read.damaged.len()), (4, 0));
        drop(spool);
        storage.remove(&segment::name(2));
    }
}

fn encoded_bytes(sequence: u64, salt: u64, payload_bytes: usize) -> usize {
    let mut bytes = Vec::new();
    frame(sequence, salt, payload_bytes).encode(&mut bytes).unwrap();
    bytes.len()
}

#[test]
fn the_watermark_of_another_spool_is_not_believed() {
    let other = FaultyStorage::new(2);
    let mut config = small(9);
    config.owner = Id([77; 16]);
    let mut spool = Spool::open(other.clone(), config).unwrap();
    for sequence in 1..=50 {
        assert!(spool.writer.append_batch(&[frame(sequence, 1, 0)]).is_ok());
    }
    spool.drain.commit(50);
    drop(spool);

    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 2));
    storage.put(watermark::NAME, other.get(watermark::NAME));
    let mut spool = Spool::open(storage, small(2)).unwrap();
    assert_eq!((spool.recovery.watermark, spool.recovery.next_sequence), (None, 7));
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_segment_of_another_spool_is_reported_and_left_alone() {
    let other = FaultyStorage::new(2);
    let mut config = small(9);
    config.owner = Id([77; 16]);
    let mut spool = Spool::open(other.clone(), config).unwrap();
    assert!(spool.writer.append_batch(&[frame(2, 99, 0)]).is_ok());
    drop(spool);
    let storage = FaultyStorage::new(1);
    drop(filled(&storage, 2));
    storage.put(&segment::name(40), other.get(&segment::name(1)));
    let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
    assert_eq!(spool.recovery.foreign, [segment::name(40)]);
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3, 4, 5, 6]);
    spool.drain.commit(6);
    assert!(storage.names().contains(&segment::name(40)));
    assert!(spool.writer.append_batch(&[frame(7, 1, 0)]).is_ok());
    assert!(storage.names().contains(&segment::name(41)));
}

#[test]
fn a_damaged_header_hides_no_frame() {
    for damaged in 1..=3 {
        let storage = FaultyStorage::new(1);
        drop(filled(&storage, 3));
        storage.edit(&segment::name(damaged), |bytes| bytes[20] ^= 1);
        let mut spool = Spool::open(storage.clone(), small(2)).unwrap();
        assert_eq!(spool.recovery.next_sequence, 10);
        assert_eq!(sequences(&mut spool, 0), (1..=9).collect::<Vec<_>>());
        assert_eq!(spool.drain.commit(9).segments_set_aside, 1);
    }
}

#[test]
fn a_segment_that_somebody_removed_acknowledges_nothing() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    storage.remove(&segment::name(1));
    assert_eq!(spool.writer.append_batch(&[frame(4, 1, 0)]), Err(AppendError::Unhealthy(Fault::Disowned)));
    assert_eq!(spool.writer.probe(), Err(AppendError::Unhealthy(Fault::Disowned)));
    assert_eq!(sequences(&mut spool, 0), [1, 2, 3]);
}

#[test]
fn a_segment_with_another_owner_acknowledges_nothing() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    storage.edit(&segment::name(1), |bytes| {
        let header = segment::Header::decode(bytes).unwrap();
        bytes[..segment::HEADER_BYTES].copy_from_slice(&segment::Header { owner: Id([9; 16]), ..header }.encode());
    });
    assert_eq!(spool.writer.append_batch(&[frame(4, 1, 0)]), Err(AppendError::Unhealthy(Fault::Disowned)));
}

#[test]
fn a_full_spool_says_why_and_takes_frames_again_once_it_is_drained() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 16);
    let refused = spool.writer.append_batch(&[frame(49, 1, 200), frame(50, 1, 200)]);
    assert_eq!(refused, Err(AppendError::Full(Full::Cap)));
    assert_eq!(spool.monitor.status().health, Health::Full(Full::Cap));
    assert_eq!(spool.writer.probe(), Err(AppendError::Full(Full::Cap)));
    storage.set_full(true);
    storage.set_free_bytes(0);
    assert_eq!(sequences(&mut spool, 0).len(), 48);
    assert_eq!(spool.drain.commit(48).segments_removed, 15);
    assert_eq!(spool.writer.probe(), Err(AppendError::Full(Full::Disk)));
    storage.set_free_bytes(u64::MAX);
    assert_eq!(spool.writer.probe(), Err(AppendError::Full(Full::Disk)));
    storage.heal();
    spool.writer.probe().unwrap();
    assert_eq!(spool.monitor.status().health, Health::Ready);
}

#[test]
fn a_bad_sector_is_given_up_after_some_attempts_and_costs_its_frames_alone() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 3);
    let mut errors = 0;
    // Every read of the first segment fails, in bulk and page by page, for a while.
    let read = loop {
        storage.heal();
        for offset in 0..8 {
            storage.plan(storage.steps() + offset, Trouble::Error);
        }
        match spool.drain.read(0, usize::MAX) {
            Ok(read) => break read,
            Err(_) => errors += 1,
        }
        assert!(errors < 20, "it never gives up");
    };
    assert!(errors >= 3);
    assert!(!read.damaged.is_empty());
    assert_eq!(read.frames.last().map(|frame| frame.sequence), Some(9));
}

#[test]
fn a_hang_is_reported_until_an_append_comes_back() {
    let storage = FaultyStorage::new(1);
    let mut spool = filled(&storage, 1);
    spool.monitor.report_hang();
    assert_eq!(spool.monitor.status().health, Health::Unhealthy(Fault::Hung));
    assert!(spool.writer.append_batch(&[frame(4, 1, 0)]).is_err());
    spool.writer.probe().unwrap();
    assert_eq!(spool.monitor.status().health, Health::Ready);
}
