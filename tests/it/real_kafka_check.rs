//! `check --online` and `tail` on real Apache Kafka.
//!
//! Promise: `check` finds in a real cluster what would void the promise, calls a fault what stops the bridge (exit
//! code 1) and a warning what makes an acknowledgement worth less (exit code 0); a mistake in the file is 64. `tail`
//! prints the events as they lie in the topic.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, KEY, plain};
use crate::support::command::{Ended, Setup, check_online, run};
use crate::support::kafka::{Cluster, Topic, one_broker, read_topic, three_brokers, topic_name};
use crate::support::load::Statuses;
use crate::support::secure::secure_broker;
use crate::support::wait_for;

/// What a topic of the events should be.
const SOUND: Topic<'_> = Topic { name: "", partitions: 3, replication: 3, min_isr: 2, properties: &[] };

/// Creates a topic like `wanted` and another for dead letters, and checks a configuration that names both.
fn check_topic(cluster: &Cluster, wanted: &Topic<'_>) -> (String, Ended) {
    let (name, dead) = (topic_name("checked"), topic_name("checked-dead"));
    cluster.create_topic(&Topic { name: &name, ..*wanted });
    cluster.create_topic(&Topic { name: &dead, partitions: 1, min_isr: 1, properties: &[], ..*wanted });
    let kafka = format!("{}, dead_letter_topic: {dead}", plain(&cluster.brokers(), &name));
    let ended = check_online(Setup::new(&kafka, "").config());
    cluster.delete_topic(&name);
    cluster.delete_topic(&dead);
    (name, ended)
}

/// The lines of stdout that are not "ok".
fn complaints(ended: &Ended) -> Vec<&str> {
    ended.stdout.lines().filter(|line| !line.starts_with("ok ")).collect()
}

/// The one complaint is a warning: `topic NAME` and then `sentence`.
fn assert_warns(cluster: &Cluster, wanted: &Topic<'_>, sentence: &str) {
    let (name, ended) = check_topic(cluster, wanted);
    assert_eq!(complaints(&ended), [format!("warning  topic {name} {sentence}")], "{ended:?}");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn three_replicas_of_which_two_are_needed_are_all_right() {
    let cluster = three_brokers();
    let (name, ended) = check_topic(&cluster, &SOUND);
    assert_eq!(complaints(&ended), Vec::<&str>::new(), "{ended:?}");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    for sentence in [
        "3 broker(s) known to the cluster".to_owned(),
        format!("topic {name}: 3 partition(s), 3 replica(s)"),
        format!("topic {name}: min.insync.replicas=2"),
        format!("topic {name} takes messages of 1048588 bytes"),
        format!("key tests: {} characters", KEY.len()),
    ] {
        assert!(ended.has("ok", &sentence), "{sentence}: {ended:?}");
    }
    assert!(!ended.stdout.contains(KEY), "the key itself was said: {ended:?}");
}

#[test]
fn a_topic_that_needs_one_replica_is_warned_of() {
    let sentence = "has min.insync.replicas=1: acks=all may mean one broker; 2 of 3 replicas is the usual choice";
    assert_warns(&three_brokers(), &Topic { min_isr: 1, ..SOUND }, sentence);
}

#[test]
fn a_topic_that_needs_every_replica_is_warned_of() {
    let sentence = "has min.insync.replicas=3 of 3 replicas: one broker down stops it";
    assert_warns(&three_brokers(), &Topic { min_isr: 3, ..SOUND }, sentence);
}

#[test]
fn a_topic_with_unclean_elections_is_warned_of() {
    let properties = [("unclean.leader.election.enable", "true")];
    let sentence = "allows unclean leader election: acknowledged events may be lost";
    assert_warns(&three_brokers(), &Topic { properties: &properties, ..SOUND }, sentence);
}

#[test]
fn a_compacted_topic_is_warned_of() {
    let sentence = "is compacted: only the last event of every stream is kept";
    let cluster = three_brokers();
    for policy in ["compact", "compact,delete"] {
        assert_warns(&cluster, &Topic { properties: &[("cleanup.policy", policy)], ..SOUND }, sentence);
    }
}

#[test]
fn a_topic_on_one_disk_is_warned_of() {
    let (name, ended) = check_topic(one_broker(), &Topic { replication: 1, min_isr: 1, ..SOUND });
    let one_replica = format!("warning  topic {name} has one replica: an acknowledged event rests on one disk");
    assert!(complaints(&ended).contains(&one_replica.as_str()), "{ended:?}");
    assert!(complaints(&ended).iter().all(|line| line.starts_with("warning ")), "{ended:?}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.has("ok", "1 broker(s) known to the cluster"), "{ended:?}");
}

#[test]
fn a_topic_that_can_never_acknowledge_is_a_fault() {
    let (name, ended) = check_topic(one_broker(), &Topic { replication: 1, min_isr: 2, ..SOUND });
    let sentence =
        format!("topic {name} has min.insync.replicas=2 but 1 replica(s): brokers before 3.7 refuse every event");
    assert!(ended.has("FAULT", &sentence), "{ended:?}");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "recording-bridge: 1 fault(s)\n"), "{ended:?}");
}

#[test]
fn a_topic_that_takes_only_small_messages_is_a_fault() {
    // Four times http.body_bytes_max (64 KiB) and 8 KiB for the rest of a message.
    let needed = 4 * 65_536 + 8_192;
    for (largest, code) in [(needed - 1, 1), (needed, 0)] {
        let text = largest.to_string();
        let properties = [("max.message.bytes", text.as_str())];
        let wanted = Topic { replication: 1, min_isr: 1, properties: &properties, ..SOUND };
        let (name, ended) = check_topic(one_broker(), &wanted);
        let sentence = format!("topic {name} takes messages of {largest} bytes");
        assert!(ended.has(if code == 1 { "FAULT" } else { "ok" }, &sentence), "{ended:?}");
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

#[test]
fn a_missing_topic_is_a_fault_and_is_created_by_nobody() {
    // This broker creates every topic that a client asks for in earnest.
    let cluster = &secure_broker().cluster;
    let (name, dead) = (topic_name("missing"), topic_name("missing-dead"));
    let bridge = Bridge::start_with(&format!("{}, ack_deadline: 1s", plain(&cluster.brokers(), &name)), "");
    let missing = || bridge.log().contains("Kafka does not take events").then_some(());
    wait_for("the bridge to miss its topic", Duration::from_secs(30), || bridge.log_tail(), missing);
    let answers = bridge.load(5, 100.0).run();
    assert!(answers.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(&answers));
    let setup = Setup::new(&format!("{}, dead_letter_topic: {dead}", plain(&cluster.brokers(), &name)), "");
    // Twice: what the first one asked for must not be there for the second one.
    for _ in 0..2 {
        let ended = check_online(setup.config());
        let absent = |key: &str, name: &str| {
            format!("there is no topic {name}: create it, since the bridge never does, or correct kafka.{key}")
        };
        let fault = format!("FAULT    {}", absent("topic", &name));
        let warning = format!("warning  {}; dead letters will wait on disk", absent("dead_letter_topic", &dead));
        assert_eq!(complaints(&ended), [fault, warning], "{ended:?}");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "recording-bridge: 1 fault(s)\n"), "{ended:?}");
        let tailed = run("tail", setup.config(), &["--count", "1"]);
        assert_eq!(tailed.code, Some(1), "{tailed:?}");
        assert_eq!(tailed.stderr, format!("recording-bridge: there is no topic {name}\n"));
    }
}

#[test]
fn a_dead_letter_topic_of_small_messages_and_a_missing_one_of_other_events_are_warned_of() {
    let cluster = three_brokers();
    let (name, dead) = (topic_name("checked"), topic_name("checked-dead"));
    cluster.create_topic(&Topic { name: &name, ..SOUND });
    cluster.create_topic(&Topic { name: &dead, properties: &[("max.message.bytes", "100000")], ..SOUND });
    let other = topic_name("checked-other");
    let topics = format!("dead_letter_topic: {dead}, other_events_topic: {other}");
    let kafka = format!("{}, {topics}", plain(&cluster.brokers(), &name));
    let ended = check_online(Setup::new(&kafka, "spool: {directory: spool}").config());
    let small =
        format!("warning  topic {dead} takes messages of 100000 bytes, but one of the dead letters can have 270336");
    let missing = format!(
        "warning  there is no topic {other}: create it, since the bridge never does, or correct \
         kafka.other_events_topic; other events will wait on disk"
    );
    let warned = complaints(&ended);
    assert!(warned.len() == 2 && warned[0].starts_with(&small) && warned[1] == missing, "{ended:?}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn no_broker_is_a_fault_that_says_what_the_system_said() {
    // Port 1 is below the range of ports that anything here listens on.
    let ended = check_online(Setup::new(&plain("127.0.0.1:1", "recordings"), "").config());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "recording-bridge: 1 fault(s)\n"), "{ended:?}");
    assert!(ended.has("FAULT", "127.0.0.1:1: no broker answers: "), "{ended:?}");
    assert!(ended.has("FAULT", "Connection refused"), "{ended:?}");
    assert!(ended.took < Duration::from_secs(20), "{ended:?}");
}

#[test]
fn a_mistake_in_the_file_is_64_and_no_broker_is_asked() {
    let kafka = plain("127.0.0.1:1", "recordings");
    for (kafka, sentence) in [
        (format!("{kafka}, ack_deadlin: 2s"), "kafka.ack_deadlin"),
        (format!("{kafka}, tls: {{ca_file: no-such-file.pem}}"), "kafka.tls.ca_file "),
        (
            format!("{kafka}, sasl: {{mechanism: PLAIN, username: u, password_file: no-such-file}}"),
            "kafka.sasl.password_file ",
        ),
    ] {
        let ended = check_online(Setup::new(&kafka, "").config());
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!((ended.stdout.clone() + &ended.stderr).contains(sentence), "{ended:?}");
        let lines = ended.stdout.lines().chain(ended.stderr.lines());
        let said = lines.filter(|line| line.starts_with("FAULT ") || line.contains("config.yaml:")).count();
        assert_eq!(said, 1, "one mistake, one sentence: {ended:?}");
        assert!(ended.took < Duration::from_secs(8), "{ended:?}");
    }
}

#[test]
fn tail_prints_the_bytes_in_the_topic_and_where_they_lie() {
    const EVENTS: usize = 40;
    let (cluster, name) = (one_broker(), topic_name("tail"));
    cluster.create_topic(&Topic { name: &name, replication: 1, min_isr: 1, ..SOUND });
    let bridge = Bridge::start(&cluster.brokers(), &name, "");
    let ready = || bridge.log().contains("Kafka takes events").then_some(());
    wait_for("the bridge to find its broker", Duration::from_secs(30), || bridge.log_tail(), ready);
    let answers = bridge.load(EVENTS as u64, 200.0).run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    let records = read_topic(cluster, &name);
    assert_eq!(records.len(), EVENTS);

    let all = EVENTS.to_string();
    let tailed = run("tail", bridge.config(), &["--from-beginning", "--count", &all]);
    assert_eq!((tailed.code, tailed.stderr.as_str()), (Some(0), ""), "{tailed:?}");
    let mut lines: Vec<&str> = tailed.stdout.lines().collect();
    let mut values: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
    lines.sort_unstable();
    values.sort_unstable();
    assert_eq!(lines, values);

    let tailed = run("tail", bridge.config(), &["--from-beginning", "--with-metadata", "--count", &all]);
    assert_eq!((tailed.code, tailed.stderr.as_str()), (Some(0), ""), "{tailed:?}");
    let mut shown = tailed.json_lines();
    shown.sort_by_key(|line| (line["partition"].as_i64(), line["offset"].as_i64()));
    let expected: Vec<Value> = records
        .iter()
        .map(|record| {
            let headers: serde_json::Map<_, _> =
                record.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let event: Value = serde_json::from_str(&record.value).unwrap();
            json!({
                "partition": record.partition, "offset": record.offset, "key": record.key, "headers": headers,
                "event": event,
            })
        })
        .collect();
    assert_eq!(shown, expected);

    let three = run("tail", bridge.config(), &["--from-beginning", "--count", "3"]);
    assert_eq!((three.code, three.stdout.lines().count()), (Some(0), 3), "{three:?}");
    assert_eq!(bridge.terminate(), 0);
}
