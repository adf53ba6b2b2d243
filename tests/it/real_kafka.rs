//! The promise on real Apache Kafka.
//!
//! Promise: an answer of 200 means that the brokers have the event, with one of them killed, with two of them
//! killed, and with none there at the start; and every event lies where a consumer in Java looks for it. A Java
//! client reads what the topic holds, and a client of the tests' own sends: the bridge is watched from both ends by
//! code it does not share.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use serde_json::Value;

use crate::support::bridge::{Bridge, KEY, PATH};
use crate::support::kafka::{Cluster, Record, Topic, one_broker, read_topic, three_brokers, topic_name};
use crate::support::law::law;
use crate::support::load::{Client, Statuses, callback, seconds_now};
use crate::support::{long, unique, wait_for};

fn topic(name: &str, replication: i32, min_isr: u32) -> Topic<'_> {
    Topic { name, partitions: 12, replication, min_isr, properties: &[] }
}

// The machinery itself.

fn producer(cluster: &Cluster) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.brokers())
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", "3000")
        .create()
        .unwrap()
}

/// Produces one message a key, and gives how each ended.
fn produce(producer: &FutureProducer, topic: &str, keys: &[String]) -> Vec<Result<(), KafkaError>> {
    let header = Header { key: "subject", value: Some("é \"quoted\"\n") };
    let deliveries: Vec<_> = keys
        .iter()
        .map(|key| {
            let headers = OwnedHeaders::new().insert(header.clone());
            producer.send_result(FutureRecord::to(topic).key(key).payload(key).headers(headers)).unwrap()
        })
        .collect();
    producer.flush(Duration::from_secs(30)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut results = Vec::new();
    for delivery in deliveries {
        let report = runtime.block_on(delivery).expect("a report for every message");
        results.push(report.map(|_| ()).map_err(|(error, _)| error));
    }
    results
}

fn keys(count: u64) -> Vec<String> {
    let names = ["live_", "0", "直播-", "a \"b\"\\\t", "x"];
    (0..count).zip(names.into_iter().cycle()).map(|(number, name)| format!("{name}{number}")).collect()
}

#[test]
fn the_java_client_puts_every_key_where_murmur2_random_does() {
    let (cluster, name) = (one_broker(), topic_name("partitioner"));
    cluster.create_topic(&topic(&name, 1, 1));
    let keys = keys(500);
    for result in produce(&producer(cluster), &name, &keys) {
        result.unwrap();
    }
    let records = read_topic(cluster, &name);
    assert_eq!(records.len(), 500);
    for record in &records {
        assert_eq!(Some(record.partition), record.java_partition, "{record:?}");
        assert_eq!(record.headers, [("subject".to_owned(), "é \"quoted\"\n".to_owned())]);
        assert_eq!(record.key.as_ref(), Some(&record.value));
        assert!(record.timestamp.unsigned_abs().abs_diff(seconds_now() * 1000) < 60_000, "{record:?}");
    }
    let read: HashSet<_> = records.iter().map(|record| record.value.clone()).collect();
    assert_eq!(read, keys.into_iter().collect());
    let partitions: HashSet<_> = records.iter().map(|record| record.partition).collect();
    assert_eq!(partitions.len(), 12, "500 keys leave no partition empty");
    cluster.delete_topic(&name);
}

#[test]
fn a_topic_keeps_what_it_was_created_with() {
    let (cluster, name) = (one_broker(), topic_name("properties"));
    let properties = [("max.message.bytes", "2000")];
    cluster.create_topic(&Topic { name: &name, partitions: 2, replication: 1, min_isr: 1, properties: &properties });
    let producer = producer(cluster);
    // One after the other: a batch that is refused fails whole.
    assert_eq!(produce(&producer, &name, &["small".to_owned()]), [Ok(())]);
    let refused = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
    assert_eq!(produce(&producer, &name, &["x".repeat(4_000)]), [Err(refused)]);
    assert_eq!(read_topic(cluster, &name).len(), 1);
}

#[test]
fn three_brokers_survive_a_kill_and_a_freeze_and_come_back() {
    let (cluster, name) = (three_brokers(), topic_name("faults"));
    cluster.create_topic(&topic(&name, 3, 2));
    let first = keys(50);
    assert!(produce(&producer(&cluster), &name, &first).iter().all(Result::is_ok));

    cluster.kill(2);
    assert_eq!(read_topic(&cluster, &name).len(), 50, "two brokers hold everything");
    cluster.restart(2);
    cluster.await_in_sync(&name, 12, 3);

    (1..=3).for_each(|number| cluster.freeze(number));
    let during = produce(&producer(&cluster), &name, &keys(1));
    assert!(during[0].is_err(), "frozen brokers acknowledge nothing: {during:?}");
    (1..=3).for_each(|number| cluster.thaw(number));
    // A freeze that outlasts a session costs leaders and replicas their places for a while.
    cluster.await_in_sync(&name, 12, 3);
    assert!(produce(&producer(&cluster), &name, &first).iter().all(Result::is_ok));
    assert!(read_topic(&cluster, &name).len() >= 100);
}

#[test]
fn an_acknowledgement_needs_as_many_replicas_as_the_topic_says() {
    let (cluster, name) = (three_brokers(), topic_name("min-isr"));
    cluster.create_topic(&topic(&name, 3, 3));
    assert!(produce(&producer(&cluster), &name, &keys(50)).iter().all(Result::is_ok));
    cluster.kill(3);
    let during = produce(&producer(&cluster), &name, &keys(50));
    assert!(during.iter().all(Result::is_err), "{during:?}");
    cluster.restart(3);
    cluster.await_in_sync(&name, 12, 3);
    assert!(produce(&producer(&cluster), &name, &keys(50)).iter().all(Result::is_ok));
}

// The bridge.

/// Sends one callback after the other until one is accepted: the bridge has found the brokers (again).
fn await_acceptance(bridge: &Bridge) {
    let mut client = Client::new(bridge.callbacks());
    wait_for(
        "the bridge to accept callbacks",
        Duration::from_secs(60),
        || bridge.log_tail(),
        || {
            assert!(bridge.is_alive(), "the bridge ended\n{}", bridge.log_tail());
            let status = client.post(PATH, &callback_of("probe")).ok()?;
            assert!(status == 200 || status == 503, "{status}");
            (status == 200).then_some(())
        },
    );
}

fn callback_of(stream_id: &str) -> String {
    callback(KEY, seconds_now() + 600, stream_id, &format!("1300000000_{:032x}", unique()))
}

/// Headers and value of an event that came from `support::load::callback`.
fn assert_is_whole_event(record: &Record) {
    let value: Value = serde_json::from_str(&record.value).unwrap();
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_owned();
    assert_eq!(text("schema"), "recording-event.v1");
    assert_eq!(text("kind"), "recording.completed");
    assert_eq!(text("provider"), "tencent-cloud-css");
    assert_eq!((text("app_id"), text("push_domain")), ("1300000000".to_owned(), "push.example.com".to_owned()));
    assert_eq!(text("channel_id"), text("stream_id"));
    assert_eq!(text("record_file_id"), text("file_id"));
    assert_eq!((text("task_id"), text("template_id")), ("1807121258070784645".to_owned(), "1622658".to_owned()));
    assert_eq!((text("video_codec"), text("resolution")), ("h264".to_owned(), "1920x1080".to_owned()));
    assert_eq!((&value["file_size_bytes"], &value["duration_seconds"]), (&43_911_385.into(), &56.into()));
    assert!(text("recording_ended_at").ends_with(".880554Z") && text("recording_started_at").ends_with(".650373Z"));
    assert!(text("push_parameters").contains("txTime=69830DEC"), "{value}");
    assert!(!record.value.contains("00112233445566778899aabbccddeeff"), "the push credential leaked: {value}");
    assert!(value.get("sign").is_none() && value.get("t").is_none(), "the signature leaked: {value}");

    let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"];
    assert_eq!(names[..7], wanted);
    assert_eq!(names[7..], ["received_at", "facts_digest"]);
    assert_eq!(record.header("ce_specversion"), Some("1.0"));
    assert_eq!(record.header("ce_id"), Some(text("event_id").as_str()));
    assert_eq!(record.header("ce_type"), Some("recording.completed"));
    assert_eq!(record.header("ce_source"), Some("/tencent-cloud-css/1300000000"));
    assert_eq!(record.header("ce_subject"), record.key.as_deref());
    assert_eq!(record.header("ce_time"), Some(text("recording_ended_at").as_str()));
    assert_eq!(record.header("content-type"), Some("application/json"));
}

#[test]
fn every_accepted_callback_becomes_one_record_where_java_looks_for_it() {
    let (cluster, name) = (one_broker(), topic_name("path"));
    cluster.create_topic(&topic(&name, 1, 1));
    let bridge = Bridge::start(&cluster.brokers(), &name, "");
    let answers = bridge.load(300, 300.0).run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    assert_eq!(bridge.assert_conservation(), 300);
    assert_eq!(bridge.terminate(), 0);

    let records = read_topic(cluster, &name);
    let findings = law(&answers, &records);
    findings.assert_hold();
    assert_eq!((records.len(), findings.duplicates), (300, 0), "{findings}");
    records.iter().for_each(assert_is_whole_event);
    let ids: HashSet<_> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(ids.len(), 300, "every file has an id of its own");
    let keys: HashSet<_> = records.iter().map(|record| record.key.as_deref()).collect();
    assert_eq!(keys.len(), 40);
}

#[test]
fn nothing_is_lost_or_inverted_when_a_broker_is_killed_under_load() {
    let (rate, seconds) = if long() { (500, 60) } else { (200, 20) };
    let (cluster, name) = (three_brokers(), topic_name("broker-killed"));
    cluster.create_topic(&topic(&name, 3, 2));
    let bridge = Bridge::start(&cluster.brokers(), &name, "");
    await_acceptance(&bridge);
    let mut load = bridge.load(rate * seconds, f64::from(u32::try_from(rate).unwrap()));
    load.streams = 100;
    load.connections = 64;
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        // A timetable, not a wait for a state: the faults come at fixed times of the load.
        thread::sleep(Duration::from_secs(seconds / 4));
        cluster.kill(1);
        thread::sleep(Duration::from_secs(seconds / 2));
        cluster.restart(1);
        load.join().unwrap()
    });
    println!("{}", Statuses(&answers));
    for answer in &answers {
        assert!(matches!(answer.status, Some(200 | 503)), "{answer:?}");
        assert!(answer.status != Some(503) || answer.latency < Duration::from_secs(10), "{answer:?}");
    }
    await_acceptance(&bridge);
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    let records: Vec<Record> =
        read_topic(&cluster, &name).into_iter().filter(|record| record.key.as_deref() != Some("probe")).collect();
    let findings = law(&answers, &records);
    println!("{findings}");
    findings.assert_hold();
    assert!(findings.ordered > 0, "{findings}");
}

#[test]
fn too_few_replicas_are_never_a_200_and_the_bridge_recovers_by_itself() {
    let (cluster, name) = (three_brokers(), topic_name("too-few-replicas"));
    cluster.create_topic(&topic(&name, 3, 2));
    let bridge = Bridge::start(&cluster.brokers(), &name, "");
    await_acceptance(&bridge);

    cluster.kill(1);
    cluster.kill(2);
    let mut load = bridge.load(60, 20.0);
    load.connections = 60;
    let during = load.run();
    println!("{}", Statuses(&during));
    assert!(during.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(&during));
    assert!(during.iter().all(|answer| answer.latency < Duration::from_secs(10)), "{}", Statuses(&during));

    // Neither of the two is ready before there is a majority again, which the first one makes.
    cluster.restart(1);
    await_acceptance(&bridge);
    cluster.restart(2);
    let after = bridge.load(100, 100.0).run();
    assert!(after.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&after));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    let records: Vec<Record> =
        read_topic(&cluster, &name).into_iter().filter(|record| record.key.as_deref() != Some("probe")).collect();
    law(&[during, after].concat(), &records).assert_hold();
}

#[test]
fn a_bridge_that_starts_before_its_brokers_waits_for_them() {
    let (cluster, name) = (Cluster::prepare(1), topic_name("no-broker"));
    cluster.restart(1);
    cluster.create_topic(&topic(&name, 1, 1));
    cluster.kill(1);

    let bridge = Bridge::start(&cluster.brokers(), &name, "");
    let before = bridge.load(20, 20.0).run();
    assert!(before.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(&before));
    assert!(bridge.is_alive());
    cluster.restart(1);
    await_acceptance(&bridge);
    let after = bridge.load(100, 100.0).run();
    assert!(after.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&after));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    let records: Vec<Record> =
        read_topic(&cluster, &name).into_iter().filter(|record| record.key.as_deref() != Some("probe")).collect();
    law(&[before, after].concat(), &records).assert_hold();
}
