//! The promise through outages of a real Kafka, crashes of the bridge and a full disk.
//!
//! Promise: while Kafka takes nothing, callbacks get their 200 because their events are synced in the spool; when it
//! is back they are all in the topic, in order, whatever died in between. Each test ends with the law.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use recording_bridge::spool::{Frame, segment};
use serde_json::Value;

use crate::support::bridge::{Bridge, KEY, PATH};
use crate::support::kafka::{Cluster, read_topic, three_brokers};
use crate::support::law::law;
use crate::support::load::{Answer, Client, Statuses, seconds_now, sign};
use crate::support::long;
use crate::support::spooling::{SPOOL, await_direct, conclude, make_topic};
use crate::support::volume::Volume;

fn kill_all(cluster: &Cluster) {
    (1..=3).for_each(|number| cluster.kill(number));
}

fn restart_all(cluster: &Cluster) {
    cluster.restart_together(&[1, 2, 3]);
}

#[test]
fn every_callback_gets_its_200_while_all_brokers_are_dead_and_nothing_is_lost_or_inverted() {
    let (rate, before, dead, after) = if long() { (500, 10, 180, 20) } else { (100, 4, 12, 8) };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "all-dead");
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));
    let mut load = bridge.load(rate * (before + dead + after), f64::from(u32::try_from(rate).unwrap()));
    load.streams = 200;
    load.repeat_every = 10;
    // When the outage begins, callbacks wait for the ack deadline of 5 s.
    load.connections = rate * 7;
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        thread::sleep(Duration::from_secs(before));
        kill_all(&cluster);
        thread::sleep(Duration::from_secs(dead));
        restart_all(&cluster);
        load.join().unwrap()
    });
    await_direct(&bridge, Duration::from_secs(120));
    bridge.assert_conservation();
    let metrics = bridge.metrics();
    assert_eq!(bridge.terminate(), 0);

    let findings = conclude(&cluster, &topic, &answers);
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    let slow: Vec<&Answer> = answers.iter().filter(|answer| answer.latency > Duration::from_secs(3)).collect();
    for answer in &slow {
        assert!(answer.latency < Duration::from_secs(6), "{answer:?}");
        let since = answer.sent_at.saturating_sub(Duration::from_secs(before));
        assert!(since < Duration::from_secs(10), "only the first seconds of an outage wait: {answer:?}");
    }
    // What was in flight when the brokers died may be there twice; the outage itself must not be.
    assert!(findings.duplicates <= usize::try_from(rate * 6).unwrap(), "{findings}\n{metrics}");
}

#[test]
fn nothing_acknowledged_is_missing_after_the_bridge_is_killed_again_and_again() {
    let kills = if long() { 50 } else { 10 };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "killed-bridge");
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    await_direct(&bridge, Duration::from_secs(30));
    kill_all(&cluster);
    let mut answers = Vec::new();
    for kill in 0..kills {
        if kill == kills / 2 {
            restart_all(&cluster);
        }
        let mut load = bridge.load(200, 400.0);
        load.connections = 64;
        // A different moment each time: while the first wait, while they are spooled, while the spool drains.
        let moment = Duration::from_millis(150 + 97 * (kill % 7));
        answers.extend(thread::scope(|scope| {
            let load = scope.spawn(|| load.run());
            thread::sleep(moment);
            bridge.kill();
            load.join().unwrap()
        }));
        bridge.restart();
    }
    await_direct(&bridge, Duration::from_secs(120));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
    conclude(&cluster, &topic, &answers);
}

#[test]
fn what_has_no_report_at_the_end_is_spooled_and_published_by_the_next_process() {
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "terminated");
    let further = "shutdown: {drain_delay: 0s, grace: 16s}";
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, &format!("{SPOOL}\n{further}"));
    await_direct(&bridge, Duration::from_secs(30));
    kill_all(&cluster);
    let mut load = bridge.load(100, 200.0);
    load.connections = 100;
    let answers = load.run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    assert_eq!(bridge.terminate_and_stay(), 0);
    restart_all(&cluster);
    bridge.restart();
    await_direct(&bridge, Duration::from_secs(60));
    assert_eq!(bridge.terminate(), 0);
    let findings = conclude(&cluster, &topic, &answers);
    assert_eq!(findings.duplicates, 0, "{findings}");
}

/// The frames of a segment file: where each begins, and what it holds.
fn frames_of(file: &Path) -> Vec<(usize, Frame)> {
    let bytes = fs::read(file).unwrap();
    let mut position = segment::HEADER_BYTES;
    let mut frames = Vec::new();
    while let Some((frame, length)) = Frame::decode(&bytes[position..]) {
        frames.push((position, frame));
        position += length;
    }
    frames
}

#[test]
fn a_damaged_byte_in_a_sealed_segment_costs_that_event_alone_and_the_file_is_kept() {
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "damaged");
    kill_all(&cluster);
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    let mut load = bridge.load(9_000, 3_000.0);
    load.connections = 64;
    let answers = load.run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    bridge.kill();
    let folder = bridge.home().join("spool");
    let sealed = folder.join(segment::name(1));
    assert!(folder.join(segment::name(2)).exists(), "one segment took it all");
    let frames = frames_of(&sealed);
    let (position, victim) = &frames[frames.len() / 2];
    let event: Value = serde_json::from_slice(victim.message.payload()).unwrap();
    let hit = event["file_id"].as_str().unwrap();
    let mut bytes = fs::read(&sealed).unwrap();
    bytes[position + 200] ^= 1;
    fs::write(&sealed, &bytes).unwrap();

    bridge.restart();
    restart_all(&cluster);
    await_direct(&bridge, Duration::from_secs(120));
    assert_eq!(bridge.metric("recording_bridge_spool_damaged_stretches", &[]), 1);
    assert_eq!(bridge.metric("recording_bridge_spool_segments_set_aside", &[]), 1);
    let log = bridge.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("a stretch of the spool is damaged")).collect();
    let (before, after) = (victim.sequence - 1, victim.sequence + 1);
    let place = format!("\"file\":\"{}\"", segment::name(1));
    let lost = format!("\"after\":{before},\"before\":{after}");
    assert!(said.len() == 1 && said[0].contains(&place) && said[0].contains(&lost), "{said:?}");
    let kept = fs::read(folder.join("0000000000000001.damaged")).unwrap();
    assert!(kept == bytes && !sealed.exists());

    // Well again: new events go straight to Kafka.
    let fresh = bridge.load(50, 100.0).run();
    assert_eq!(bridge.metric("recording_bridge_spool_frames", &[]), 0);
    assert_eq!(bridge.terminate(), 0);
    let records = read_topic(&cluster, &topic);
    let findings = law(&answers, &records);
    assert_eq!(findings.lost.len(), 1, "{findings}");
    assert!(findings.lost[0].contains(hit), "{findings}, but {hit} was hit");
    let spared: Vec<Answer> = [answers, fresh].concat().into_iter().filter(|answer| answer.file_id != hit).collect();
    let findings = law(&spared, &records);
    findings.assert_hold();
    assert_eq!(findings.duplicates, 0, "{findings}");
}

#[test]
fn a_full_disk_is_a_503_and_the_spool_drains_while_it_is_still_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Volume::mount(folder.path());
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "full-disk");
    let spool = format!(
        "spool: {{directory: {}, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}}",
        disk.path().join("spool").display()
    );
    let bridge = Bridge::start(&cluster.brokers(), &topic, &spool);
    await_direct(&bridge, Duration::from_secs(30));
    kill_all(&cluster);
    let mut load = bridge.load(500, 500.0);
    load.connections = 200;
    let mut answers = load.run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    disk.fill();
    // The segment that is being written was allocated before; what fits into it is still safe. Fill it too.
    let mut load = bridge.load(12_000, 3_000.0);
    load.connections = 64;
    let full = load.run();
    println!("on the full disk: {}", Statuses(&full));
    assert!(full.iter().all(|answer| matches!(answer.status, Some(200 | 503))), "{}", Statuses(&full));
    assert_eq!(full.last().unwrap().status, Some(503), "{}", Statuses(&full));
    assert!(bridge.metric("recording_bridge_callbacks_total", &[("reason", "spool_full")]) > 0);
    answers.extend(full);
    // Room for the first dead letters was taken at the start.
    let t = seconds_now() + 600;
    let unusable = format!("{{\"event_type\":100,\"t\":{t},\"sign\":\"{}\"}}", sign(KEY, t));
    assert_eq!(Client::new(bridge.callbacks()).post(PATH, &unusable).unwrap(), 200);

    restart_all(&cluster);
    await_direct(&bridge, Duration::from_secs(120));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
    conclude(&cluster, &topic, &answers);
}

#[test]
fn a_second_process_on_the_same_folder_is_told_so_and_harms_nothing() {
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "two-owners");
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    let config = bridge.home().join("config.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_recording-bridge")).arg("serve").arg("--config").arg(config).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another process"), "{said}");
    await_direct(&bridge, Duration::from_secs(30));
    let answers = bridge.load(50, 100.0).run();
    assert_eq!(bridge.terminate(), 0);
    conclude(&cluster, &topic, &answers);
}
