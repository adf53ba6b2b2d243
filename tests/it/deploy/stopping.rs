//! The end of a replica at the worst moment, with what the manifests give it, and what the Job makes of its volume.

use std::path::Path;
use std::time::{Duration, Instant};

use recording_bridge::config::Config;
use serde_json::Value;

use super::overlay::{Overlay, list, text};
use super::workload::{self, bridge};
use crate::support::bridge::Bridge;
use crate::support::command::{Ended, run_arguments};
use crate::support::kafka::three_brokers;
use crate::support::spooling::{SPOOL, await_direct, conclude, make_topic};
use crate::support::wait_for;

/// The Job's own command, with the paths of this machine for those of the container.
fn run_job(overlay: &Overlay, config: &Config, file: &Path, directory: &Path) -> Ended {
    let jobs = workload::workloads(overlay);
    let job = jobs.iter().find(|workload| workload.object["kind"] == "Job").unwrap();
    let given: Vec<&str> = list(&job.container["args"]).iter().map(text).collect();
    let replaced = given.iter().map(|argument| match *argument {
        "/etc/recording-bridge/bridge.yaml" => file.to_str().unwrap(),
        argument if Path::new(argument) == config.spool.directory => directory.to_str().unwrap(),
        argument => argument,
    });
    let arguments: Vec<&str> = replaced.collect();
    assert_eq!(arguments.iter().zip(&given).filter(|(now, before)| now != before).count(), 2, "{given:?}");
    run_arguments(&arguments)
}

/// Frames in a spool directory, by the program itself.
fn frames(directory: &Path) -> u64 {
    let listed = run_arguments(&["spool", "list", "--json", "--dir", directory.to_str().unwrap()]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
    listed["events"]["frames"].as_u64().unwrap()
}

#[test]
fn a_replica_that_is_ended_under_load_with_kafka_away_loses_nothing_once_the_job_has_drained_its_volume() {
    let overlay = Overlay::named("drain-orphan");
    let replica = bridge(&overlay);
    let config = replica.configuration().unwrap();
    let killed_after = Duration::from_secs(replica.pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    let shutdown =
        format!("shutdown: {{drain_delay: {:?}, grace: {:?}}}", config.shutdown.drain_delay, config.shutdown.grace);

    let cluster = three_brokers();
    let topic = make_topic(&cluster, "ended-replica");
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, &format!("{SPOOL}\n{shutdown}"));
    await_direct(&bridge, Duration::from_secs(60));
    let mut load = bridge.load(3_000, 300.0);
    load.connections = 32;
    let (answers, took) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        wait_for(
            "events in the topic",
            Duration::from_secs(60),
            || bridge.log_tail(),
            || {
                let accepted =
                    bridge.metric("recording_bridge_callbacks_total", &[("outcome", "accepted"), ("reason", "kafka")]);
                (accepted >= 100).then_some(())
            },
        );
        (1..=3).for_each(|number| cluster.kill(number));
        // At once: what is on its way has no report, and no state has been left yet.
        let asked = Instant::now();
        assert_eq!(bridge.terminate_within(killed_after), 0, "{}", bridge.log_tail());
        (load.join().unwrap(), asked.elapsed())
    });
    println!("ended within {took:?} of {killed_after:?}");
    assert!(took < killed_after, "{took:?}");
    let directory = bridge.home().join("spool");
    let waiting = frames(&directory);
    assert!(waiting > 100, "{waiting} events in the spool: this test tries nothing\n{}", bridge.log_tail());

    cluster.restart_together(&[1, 2, 3]);
    let ended = run_job(&overlay, &config, bridge.config(), &directory);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    println!("{}", ended.stdout);
    conclude(&cluster, &topic, &answers);
    assert_eq!(frames(&directory), 0);
}
