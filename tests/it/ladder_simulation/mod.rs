//! The promise: whatever producers, brokers, disks and crashes do, every message that was answered with a 200 is in
//! the topic or among the dead letters, and so is the event of every repeat that was; by first occurrence, the messages
//! of a stream are there in the order in which they were accepted; every callback is answered once and in time; duplicates are explained one by one; and
//! when faults end, the ladder comes back to Direct.
//!
//! A schedule is a pure function of its seed. `RECORDING_BRIDGE_SEED=n` runs one schedule again with its trace;
//! `RECORDING_BRIDGE_LONG=1` runs twenty times as many.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::unchecked_time_subtraction,
    clippy::struct_excessive_bools,
    reason = "a panic is how a simulation fails, and its numbers are small"
)]

mod dice;
mod disk;
mod kafka;
mod scripted;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

const SCHEDULES: u64 = 100_000;
const THREADS: u64 = 2;
/// States, dead letters and kinds of repeats.
const REACHED: usize = 5 + 1 + 5;

#[test]
fn no_schedule_of_faults_loses_inverts_or_strands_a_message() {
    if let Ok(seed) = std::env::var("RECORDING_BRIDGE_SEED") {
        World::new(seed.parse().expect("RECORDING_BRIDGE_SEED is a number"), true).run();
        return;
    }
    let long = std::env::var_os("RECORDING_BRIDGE_LONG").is_some();
    let schedules = SCHEDULES * if long { 20 } else { 1 };
    let failed = std::sync::atomic::AtomicU64::new(u64::MAX);
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn({
                    let failed = &failed;
                    move || run_share(worker, schedules, failed)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("failures are caught")).collect::<Vec<_>>()
    });
    let seed = failed.into_inner();
    if seed != u64::MAX {
        eprintln!("seed {seed} fails; its trace:");
        World::new(seed, true).run();
        panic!("seed {seed} failed once, but not again: a schedule is not a function of its seed");
    }
    // A simulation that never reaches a state proves nothing about it.
    let total = |index: usize| totals.iter().map(|reached| reached[index]).sum::<usize>();
    for index in 0..REACHED {
        let (reached, few) = (total(index), usize::try_from(schedules / 200).expect("few"));
        println!("{index}: {reached} times");
        assert!(reached > few, "{index} was hardly reached: {reached} times");
    }
}

/// Runs every schedule of one thread's share; gives how often each state was entered, what was dead-lettered, and what
/// came of repeats.
fn run_share(worker: u64, schedules: u64, failed: &std::sync::atomic::AtomicU64) -> [usize; REACHED] {
    use std::sync::atomic::Ordering::Relaxed;
    let mut totals = [0; REACHED];
    for seed in (worker..schedules).step_by(usize::try_from(THREADS).expect("few")) {
        if failed.load(Relaxed) != u64::MAX {
            break;
        }
        let mut world = World::new(seed, false);
        if catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
            failed.fetch_min(seed, Relaxed);
            break;
        }
        for (total, reached) in
            totals.iter_mut().zip(world.reached.iter().chain([&world.dead_lettered]).chain(&world.repeats))
        {
            *total += reached;
        }
    }
    totals
}
