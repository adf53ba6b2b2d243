//! `spool drain` into a real Kafka.
//!
//! Promise: a directory in hand is published as the bridge would have published it: everything that can be read, in
//! order. It may be stopped at any moment and go on later, and it never removes what it could not read.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recording_bridge::message::{Header, Message};
use recording_bridge::spool::{Config, Directory, Frame, SEGMENT_BYTES, Spool, segment};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::bridge::{Bridge, plain, write_config};
use crate::support::command::{Ended, run_arguments};
use crate::support::kafka::{Topic, one_broker, read_topic, topic_name};
use crate::support::law::law;
use crate::support::process::Supervised;
use crate::support::spool::{frame, small, write};
use crate::support::wait_for;

fn topic(purpose: &str, partitions: i32) -> String {
    let name = topic_name(purpose);
    one_broker().create_topic(&Topic { name: &name, partitions, replication: 1, min_isr: 1, properties: &[] });
    name
}

/// A configuration file in `folder` for the broker, with the spool in `folder/spool`.
fn configure(folder: &Path, topic: &str) -> PathBuf {
    let spool = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}";
    write_config(folder, &plain(&one_broker().brokers(), topic), spool)
}

fn drain(config: &Path, more: &[&str]) -> Ended {
    run_arguments(&[&["spool", "drain", "--give-up-after", "20", "--config", config.to_str().unwrap()], more].concat())
}

fn drain_orphan(config: &Path, directory: &Path) -> Ended {
    drain(config, &["--dir", directory.to_str().unwrap()])
}

/// The sequences in the values of the topic's records, as [`frame`] made them, in order of offset.
fn sequences(topic: &str) -> Vec<u64> {
    let sequence = |value: &str| serde_json::from_str::<Value>(value).unwrap()["sequence"].as_u64().unwrap();
    read_topic(one_broker(), topic).iter().map(|record| sequence(&record.value)).collect()
}

/// Each sequence where it comes first.
fn first_occurrences(sequences: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    sequences.iter().copied().filter(|sequence| seen.insert(*sequence)).collect()
}

fn files(directory: &Path, ending: &str) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

#[test]
fn everything_acknowledged_by_a_killed_bridge_is_published_from_its_orphaned_spool() {
    let name = topic("orphan", 6);
    let more = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}";
    let mut bridge = Bridge::start("127.0.0.1:1", &name, more);
    let mut load = bridge.load(1_500, 1_000.0);
    load.connections = 32;
    let answers = std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        let evidence = || bridge.log_tail();
        wait_for("events in the spool", Duration::from_secs(20), evidence, || {
            (bridge.metric("recording_bridge_spool_frames", &[]) >= 1_000).then_some(())
        });
        bridge.kill();
        load.join().unwrap()
    });
    let accepted = answers.iter().filter(|answer| answer.status == Some(200)).count();
    // Every connection may have had a callback in the spool whose answer died with the process.
    assert!((1_000 - 32..1_500).contains(&accepted), "{accepted}");

    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &name);
    let directory = bridge.home().join("spool");
    let ended = drain_orphan(&config, &directory);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(&format!("events published from {}", directory.display())), "{}", ended.stdout);
    assert!(ended.stderr.contains("events to publish, at most"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("Kafka does not take"), "nothing went wrong: {}", ended.stderr);
    let findings = law(&answers, &read_topic(one_broker(), &name));
    println!("{findings}");
    findings.assert_hold();
    assert_eq!(findings.duplicates, 0, "{findings}");
    assert_eq!(files(&directory, ".segment"), [""; 0]);
    // Once more is no mistake, and publishes nothing.
    let again = drain_orphan(&config, &directory);
    assert!(
        again.code == Some(0) && again.stdout.starts_with("0 events published"),
        "{}{}",
        again.stdout,
        again.stderr
    );
}

#[test]
fn the_bridges_own_spool_goes_on_behind_its_watermark_and_an_orphans_watermark_is_ignored() {
    for (is_orphan, expected) in [(false, (11..=20).collect::<Vec<u64>>()), (true, (8..=20).collect())] {
        let name = topic("watermark", 1);
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), &name);
        let directory = folder.path().join("spool");
        let mut made = write(&directory, 20);
        assert_eq!(made.drain.read(0, usize::MAX).unwrap().frames.len(), 20);
        // The first segment goes; three delivered frames stay in the second.
        assert_eq!(made.drain.commit(10).segments_removed, 1);
        drop(made);
        let ended = if is_orphan { drain_orphan(&config, &directory) } else { drain(&config, &[]) };
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.starts_with(&format!("{} events published", expected.len())), "{}", ended.stdout);
        assert_eq!(sequences(&name), expected);
    }
}

#[test]
fn what_can_be_read_in_files_kept_aside_is_published_and_they_stay() {
    // With the fourth segment still there, and without: then nobody vouches for the end of the third any more.
    for (delivered, last) in [(21, Some(22)), (22, None)] {
        let name = topic("kept-aside", 1);
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), &name);
        let directory = folder.path().join("orphan");
        drop(write(&directory, 22));
        // Frame 3, and the last frame of the third segment.
        for (number, position) in [(1, 128 + 2 * 557 + 99), (3, 128 + 6 * 557 + 99)] {
            let file = directory.join(segment::name(number));
            let mut bytes = fs::read(&file).unwrap();
            bytes[position] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        let mut made = Spool::open(Directory::at(&directory), small(8)).unwrap();
        assert_eq!(made.drain.read(0, usize::MAX).unwrap().frames.len(), 20);
        assert_eq!(made.drain.commit(delivered).segments_set_aside, 2);
        drop(made);
        let kept = files(&directory, ".damaged");
        assert_eq!(kept, ["0000000000000001.damaged", "0000000000000003.damaged"]);
        let contents = || kept.iter().map(|file| fs::read(directory.join(file)).ok()).collect::<Vec<_>>();
        let before = contents();

        let ended = drain_orphan(&config, &directory);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(1), "{said}");
        assert!(said.contains("12 readable events were in 2 damaged file(s) kept aside before"), "{said}");
        assert!(said.contains("2 damaged file(s) are left; what can be read in them is published"), "{said}");
        let aside = [1, 2, 4, 5, 6, 7, 15, 16, 17, 18, 19, 20];
        assert_eq!(sequences(&name), aside.into_iter().chain(last).collect::<Vec<u64>>(), "{said}");
        assert!(before == contents() && files(&directory, ".segment").is_empty(), "{said}");
    }
}

#[test]
fn dead_letters_and_other_events_are_counted_and_left() {
    let name = topic("left", 1);
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &name);
    let directory = folder.path().join("orphan");
    drop(write(&directory, 3));
    drop(write(&directory.join("dead-letters"), 2));
    drop(write(&directory.join("other-events"), 4));
    let ended = drain_orphan(&config, &directory);
    assert_eq!((ended.code, sequences(&name)), (Some(1), vec![1, 2, 3]), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("2 dead letter(s) are left"), "{}", ended.stderr);
    let shown = run_arguments(&["spool", "show", "--dead-letters", "--dir", directory.to_str().unwrap()]);
    assert_eq!(shown.stdout.lines().count(), 2);
    assert!(ended.stderr.contains("4 other event(s) are left"), "{}", ended.stderr);
    let shown = run_arguments(&["spool", "show", "--other-events", "--dir", directory.to_str().unwrap()]);
    assert_eq!(shown.stdout.lines().count(), 4);
}

#[test]
fn dead_letters_and_other_events_are_not_published_as_events() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &plain("127.0.0.1:1", "none"), "");
    let directory = folder.path().join("orphan");
    drop(write(&directory, 0));
    for (inside, says) in [("dead-letters", "holds dead letters"), ("other-events", "holds other events")] {
        drop(write(&directory.join(inside), 1));
        let ended = drain_orphan(&config, &directory.join(inside));
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(&format!("{inside} {says}")), "{}", ended.stderr);
    }
    // Copied to another place, their frames say what they are.
    for (kind, says) in [("dead-letter", "holds dead letters"), ("callback.push_started", "holds other events")] {
        let rescued = folder.path().join(kind);
        let mut spool = write(&rescued, 0);
        let headers = vec![Header::read("ce_type", kind.into())];
        let message = Message::from_parts("s".into(), "{}".into(), headers);
        let copied = Frame { message, ..frame(1, 1, 10) };
        assert!(spool.writer.append_batch(&[copied]).unwrap().covers(1));
        drop(spool);
        let ended = drain_orphan(&config, &rescued);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
}

#[test]
fn a_damaged_file_of_dead_letters_counts_as_left() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &plain("127.0.0.1:1", "none"), "");
    let directory = folder.path().join("orphan");
    drop(write(&directory, 0));
    let letters = directory.join("dead-letters");
    drop(write(&letters, 1));
    assert_eq!(drain_orphan(&config, &directory).code, Some(1));
    // The only letter: what is left of it is no frame, but a human may still read it.
    let victim = letters.join(segment::name(1));
    let mut bytes = fs::read(&victim).unwrap();
    bytes[128 + 99] ^= 1;
    fs::write(&victim, bytes).unwrap();
    // Sealed, so that it is no torn tail.
    let mut made = Spool::open(Directory::at(&letters), small(8)).unwrap();
    assert!(made.writer.append_batch(&[frame(2, 1, 500)]).unwrap().covers(2));
    drop(made);
    let mut made = Spool::open(Directory::at(&letters), small(9)).unwrap();
    assert_eq!(made.drain.read(0, usize::MAX).unwrap().frames.len(), 1);
    assert_eq!(made.drain.commit(2).segments_set_aside, 1);
    drop(made);
    let ended = drain_orphan(&config, &directory);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("1 file(s) of dead letters are left"), "{}", ended.stderr);
    assert_eq!(files(&letters, ".damaged").len(), 1);
}

#[test]
fn a_file_that_is_missing_in_the_middle_counts_as_left() {
    let name = topic("missing", 1);
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &name);
    let directory = folder.path().join("orphan");
    drop(write(&directory, 20));
    fs::create_dir(directory.join("lost+found")).unwrap();
    // As a filesystem check does.
    fs::rename(directory.join(segment::name(2)), directory.join("lost+found/#12")).unwrap();
    let ended = drain_orphan(&config, &directory);
    assert_eq!((ended.code, sequences(&name).len()), (Some(1), 13), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("are missing: 0000000000000002.segment"), "{}", ended.stderr);
}

#[test]
fn a_drain_without_kafka_gives_up_when_told_to_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &plain("127.0.0.1:1", "none"), "");
    let directory = folder.path().join("orphan");
    drop(write(&directory, 20));
    let more = ["--config", config.to_str().unwrap(), "--dir", directory.to_str().unwrap()];
    let ended = run_arguments(&[["spool", "drain", "--give-up-after", "2"].as_slice(), &more].concat());
    assert_eq!((ended.code, ended.stdout.starts_with("0 events published")), (Some(1), true), "{}", ended.stdout);
    assert!(ended.stderr.contains("nothing was published for 2 s: about 20 events are left"), "{}", ended.stderr);
    let whole = run_arguments(&["spool", "verify", "--dir", directory.to_str().unwrap()]);
    assert!(whole.has("ok", "20 sound frame(s)"), "{}", whole.stdout);
}

#[test]
fn a_drain_that_is_terminated_leaves_the_rest_to_the_next() {
    const COUNT: u64 = 100_000;
    let name = topic("terminated-drain", 1);
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &name);
    let directory = folder.path().join("orphan");
    let limits = Config { bytes_max: 1 << 30, segment_bytes: SEGMENT_BYTES, ..small(7) };
    let mut made = Spool::open(Directory::at(&directory), limits).unwrap();
    for first in (1..=COUNT).step_by(1_000) {
        let frames: Vec<Frame> = (first..first + 1_000).map(|sequence| frame(sequence, 1, 500)).collect();
        assert!(made.writer.append_batch(&frames).unwrap().covers(first));
    }
    drop(made);
    let all = files(&directory, ".segment").len();
    assert!(all > 5, "{all}");

    let home = folder.path().join("process/drain");
    fs::create_dir_all(&home).unwrap();
    let program = env!("CARGO_BIN_EXE_recording-bridge");
    let (config_text, directory_text) = (config.to_str().unwrap(), directory.to_str().unwrap());
    let command = [program, "spool", "drain", "--config", config_text, "--dir", directory_text].map(str::to_owned);
    let mut process = Supervised::new(&home, &command);
    process.start();
    wait_for(
        "the first segment to go",
        Duration::from_secs(60),
        || process.log_tail(),
        || {
            // Whoever looks meanwhile sees files vanish, and nothing wrong.
            let listed = run_arguments(&["spool", "list", "--dir", directory_text]);
            assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), ""));
            assert!(listed.has("events", "  0        0           "), "{}", listed.stdout);
            (files(&directory, ".segment").len() < all).then_some(())
        },
    );
    process.signal(Signal::TERM);
    let code = process.reap(Duration::from_secs(20));
    let log = process.log();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("stopped by a signal: about ") && log.contains("the same command goes on"), "{log}");
    let left = files(&directory, ".segment").len();
    assert!((1..all).contains(&left), "{left} of {all} segments are left");
    let published = sequences(&name).len();
    assert!(published < usize::try_from(COUNT).unwrap(), "it was published before it could be stopped");

    let ended = drain_orphan(&config, &directory);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(files(&directory, ".segment"), [""; 0]);
    let sequences = sequences(&name);
    assert_eq!(first_occurrences(&sequences), (1..=COUNT).collect::<Vec<u64>>());
    // What is repeated stands in segments that were not delivered in full.
    let repeated = u64::try_from(sequences.len()).unwrap() - COUNT;
    println!("{published} of {COUNT} published before the signal, {repeated} twice");
    assert!(repeated < 2 * SEGMENT_BYTES / 557, "{repeated} were published twice");
}
