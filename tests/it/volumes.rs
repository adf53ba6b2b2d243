//! Promise: a volume that becomes read-only or fails like a dying disk is a 503 while Kafka is away, never a 200 that
//! is not true; when it works again so does the spool, without a restart.
//!
//! How the faults are made, and that they are the kernel's own, stands in `support::volume`.

use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::bridge::Bridge;
use crate::support::kafka::{Cluster, three_brokers};
use crate::support::load::{Answer, Statuses};
use crate::support::spooling::{assert_all_accepted, await_direct, conclude, make_topic};
use crate::support::volume::Volume;
use crate::support::{long, wait_for};

/// A bridge whose spool is on a volume of its own, and that has been Direct.
fn start(cluster: &Cluster, topic: &str) -> (Bridge, Volume, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::mount(folder.path());
    let directory = volume.path().join("spool");
    let directory = directory.display();
    let spool = format!(
        "spool: {{directory: {directory}, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}}"
    );
    let bridge = Bridge::start(&cluster.brokers(), topic, &spool);
    await_direct(&bridge, Duration::from_secs(30));
    (bridge, volume, folder)
}

fn kill_all(cluster: &Cluster) {
    (1..=3).for_each(|number| cluster.kill(number));
}

/// Callbacks at 100 a second, each with a connection for as long as answers may take.
fn send(bridge: &Bridge, count: u64) -> Vec<Answer> {
    let mut load = bridge.load(count, 100.0);
    load.connections = count.min(700);
    load.run()
}

fn await_readiness(bridge: &Bridge, status: u16) {
    let look = || (bridge.readiness().0 == status).then_some(());
    wait_for(&format!("readiness {status}"), Duration::from_secs(20), || bridge.log_tail(), look);
}

fn healthy(bridge: &Bridge) -> u64 {
    bridge.metric("recording_bridge_spool_healthy", &[])
}

#[track_caller]
fn assert_all_refused(answers: &[Answer]) {
    assert!(answers.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(answers));
    // Beside the ack deadline of 5 s, the word of the spool may take 1.5 s.
    assert!(answers.iter().all(|answer| answer.latency < Duration::from_secs(7)), "{}", Statuses(answers));
}

#[test]
fn a_read_only_spool_is_a_503_during_an_outage_and_works_again_without_a_restart() {
    let rounds = if long() { 10 } else { 1 };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "read-only");
    let (bridge, volume, _folder) = start(&cluster, &topic);
    kill_all(&cluster);
    let mut answers = send(&bridge, 200);
    assert_all_accepted(&answers);
    for _ in 0..rounds {
        volume.set_read_only(true);
        let refused = send(&bridge, 100);
        assert_all_refused(&refused);
        assert!(bridge.metric("recording_bridge_callbacks_total", &[("reason", "spool_unhealthy")]) > 0);
        assert_eq!(healthy(&bridge), 0);
        await_readiness(&bridge, 503);
        volume.set_read_only(false);
        await_readiness(&bridge, 200);
        let accepted = send(&bridge, 100);
        assert_all_accepted(&accepted);
        assert_eq!(healthy(&bridge), 1);
        answers.extend(refused.into_iter().chain(accepted));
    }
    cluster.restart_together(&[1, 2, 3]);
    await_direct(&bridge, Duration::from_secs(60));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
    let findings = conclude(&cluster, &topic, &answers);
    assert_eq!(findings.duplicates, 0, "{findings}");
}

#[test]
fn a_spool_that_is_read_only_when_kafka_comes_back_is_published_all_the_same() {
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "read-only-drain");
    let (mut bridge, volume, _folder) = start(&cluster, &topic);
    kill_all(&cluster);
    let mut answers = send(&bridge, 300);
    assert_all_accepted(&answers);
    let spooled = answers.len();
    volume.set_read_only(true);
    let refused = send(&bridge, 50);
    assert_all_refused(&refused);
    answers.extend(refused);
    cluster.restart_together(&[1, 2, 3]);
    // Kafka takes events, so a spool that takes none is no reason to refuse them.
    await_direct(&bridge, Duration::from_secs(60));
    let direct = send(&bridge, 100);
    assert_all_accepted(&direct);
    answers.extend(direct);
    bridge.assert_conservation();

    // That the frames were published could not be noted. A process that starts before the volume works again, or
    // before it is noted, publishes them once more: behind everything that its predecessor published.
    bridge.kill();
    volume.set_read_only(false);
    bridge.restart();
    await_direct(&bridge, Duration::from_secs(60));
    let after = send(&bridge, 50);
    assert_all_accepted(&after);
    answers.extend(after);
    assert_eq!(bridge.terminate(), 0);
    let findings = conclude(&cluster, &topic, &answers);
    assert!(findings.duplicates <= spooled, "{findings}");
}

#[test]
fn a_disk_that_fails_for_a_while_costs_nothing_that_was_acknowledged() {
    let rounds = if long() { 8 } else { 1 };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "failing-disk");
    let (mut bridge, volume, _folder) = start(&cluster, &topic);

    // It fails before Kafka does: what waits for Kafka has nowhere to go.
    volume.set_failing(true);
    kill_all(&cluster);
    let mut answers = send(&bridge, 50);
    assert_all_refused(&answers);
    volume.set_failing(false);
    await_readiness(&bridge, 200);

    // It fails and recovers while callbacks are spooled.
    for _ in 0..rounds {
        let mixed = thread::scope(|scope| {
            let load = scope.spawn(|| send(&bridge, 400));
            thread::sleep(Duration::from_millis(1_500));
            volume.set_failing(true);
            thread::sleep(Duration::from_secs(1));
            volume.set_failing(false);
            load.join().unwrap()
        });
        println!("while the disk failed and recovered: {}", Statuses(&mixed));
        assert!(mixed.iter().all(|answer| matches!(answer.status, Some(200 | 503))), "{}", Statuses(&mixed));
        assert!(mixed.iter().any(|answer| answer.status == Some(503)), "{}", Statuses(&mixed));
        answers.extend(mixed);
        await_readiness(&bridge, 200);
        let accepted = send(&bridge, 100);
        assert_all_accepted(&accepted);
        answers.extend(accepted);
        assert!(bridge.log().contains("os error 5"), "not EIO\n{}", bridge.log_tail());
    }
    bridge.assert_conservation();

    // The machine dies: what counts is on the disk, and not in the cache that a failed sync leaves behind.
    bridge.kill();
    volume.mount_again();
    bridge.restart();
    cluster.restart_together(&[1, 2, 3]);
    await_direct(&bridge, Duration::from_secs(60));
    let after = send(&bridge, 50);
    assert_all_accepted(&after);
    answers.extend(after);
    bridge.assert_conservation();
    assert_eq!(bridge.metric("recording_bridge_spool_damaged_stretches", &[]), 0, "{}", bridge.log_tail());
    assert_eq!(bridge.terminate(), 0);
    let findings = conclude(&cluster, &topic, &answers);
    assert_eq!(findings.duplicates, 0, "{findings}");
}
