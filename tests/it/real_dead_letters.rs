//! Dead letters on real Apache Kafka, with the real program.
//!
//! Promise: a callback that makes no event gets its 200 once its letter is synced on disk, and the letter reaches the
//! dead-letter topic, whatever dies in between. Whatever is wrong with that topic, or with the letters' own spool,
//! never touches callbacks that make events.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use recording_bridge::spool::Directory;
use recording_bridge::spool::inspect::{self, Content};
use serde_json::Value;

use crate::dead_letters::faults;
use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::kafka::{Cluster, Record, Topic, one_broker, read_topic, topic_name};
use crate::support::load::{Client, callback, seconds_now, sign};
use crate::support::{unique, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const FURTHER: &str = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 64MiB, dead_letter_bytes_max: 16MiB}";

/// The topics of a test; that of the dead letters does not exist yet.
struct Topics {
    cluster: &'static Cluster,
    events: String,
    letters: String,
}

impl Topics {
    fn new(properties: &[(&str, &str)]) -> Self {
        let cluster = one_broker();
        let (events, letters) = (topic_name("lettered"), topic_name("dead"));
        cluster.create_topic(&Topic { name: &events, partitions: 3, replication: 1, min_isr: 1, properties });
        Self { cluster, events, letters }
    }

    fn create_letters(&self, properties: &[(&str, &str)]) {
        let topic = Topic { name: &self.letters, partitions: 3, replication: 1, min_isr: 1, properties };
        self.cluster.create_topic(&topic);
    }

    fn bridge(&self, further: &str) -> Bridge {
        let kafka = format!("{}, dead_letter_topic: {}", plain(&self.cluster.brokers(), &self.events), self.letters);
        let bridge = Bridge::start_with(&kafka, further);
        await_direct(&bridge);
        bridge
    }

    /// Waits for as many letters in their topic, and reads them. Every one fits the schema.
    fn await_letters(&self, bridge: &Bridge, count: i64) -> Vec<Record> {
        await_metric(bridge, "recording_bridge_dead_letters", &[], 0);
        assert_eq!(self.cluster.count_records(&self.letters, 3), count, "{}", bridge.log_tail());
        let records = read_topic(self.cluster, &self.letters);
        for record in &records {
            assert_eq!(faults(record.value.as_bytes()), Vec::<String>::new(), "{record:?}");
            assert_eq!(record.header("ce_type"), Some("dead-letter"));
        }
        records
    }
}

fn await_metric(bridge: &Bridge, metric: &str, labels: &[(&str, &str)], value: u64) {
    let evidence = || format!("{}\n{}", bridge.metrics(), bridge.log_tail());
    let what = format!("{metric}{labels:?} to be {value}");
    wait_for(&what, PATIENCE, evidence, || (bridge.metric(metric, labels) == value).then_some(()));
}

fn await_direct(bridge: &Bridge) {
    await_metric(bridge, "recording_bridge_delivery_state", &[("state", "direct")], 1);
}

fn state(bridge: &Bridge, state: &str) -> u64 {
    bridge.metric("recording_bridge_dead_letters_state", &[("state", state)])
}

fn dead_lettered(bridge: &Bridge) -> u64 {
    bridge.metric("recording_bridge_callbacks_total", &[("outcome", "dead_lettered")])
}

/// A body without an id of its file, of some length, that no compression makes shorter.
fn unusable(stream: &str, number: u64, filler_bytes: usize) -> String {
    let t = seconds_now() + 600;
    let sign = sign(KEY, t);
    let filler = filler(filler_bytes);
    format!(
        "{{\"event_type\":100,\"appid\":1300000000,\"stream_id\":\"{stream}\",\"duration\":{number},\
         \"stream_param\":\"txSecret=0123\",\"video_url\":\"{filler}\",\"t\":{t},\"sign\":\"{sign}\"}}"
    )
}

fn filler(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        write!(text, "{:016x}", unique()).unwrap();
    }
    text.truncate(bytes);
    text
}

fn usable(stream: &str) -> String {
    callback(KEY, seconds_now() + 600, stream, &format!("1300000000_{:032x}", unique()))
}

fn post(bridge: &Bridge, body: &str) -> u16 {
    Client::new(bridge.callbacks()).post(PATH, body).unwrap()
}

fn duration_of(record: &Record) -> u64 {
    let letter: Value = serde_json::from_str(&record.value).unwrap();
    letter["payload"]["duration"].as_u64().unwrap()
}

#[test]
fn a_callback_that_makes_no_event_is_on_disk_at_its_200_and_reaches_the_dead_letter_topic() {
    let topics = Topics::new(&[]);
    let bridge = topics.bridge(FURTHER);
    assert_eq!(post(&bridge, &unusable("直播_1", 7, 10)), 200);
    assert_eq!(bridge.metric("recording_bridge_dead_letters", &[]), 1);
    // The topic is not there yet, so the frame is.
    let directory = Directory::at(bridge.home().join("spool/dead-letters"));
    let mut frames = Vec::new();
    for file in inspect::survey(&directory).unwrap().files {
        inspect::read(&directory, &file, |content| match content {
            Content::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        })
        .unwrap();
    }
    assert_eq!(frames.len(), 1);
    topics.create_letters(&[]);
    let letters = topics.await_letters(&bridge, 1);
    assert_eq!(letters[0].value.as_bytes(), frames[0].message.payload());
    assert_eq!(letters[0].key.as_deref(), Some("直播_1"));
    assert_eq!(Some(letters[0].partition), letters[0].java_partition);
    let letter: Value = serde_json::from_str(&letters[0].value).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["payload"]["stream_param"]),
        (&"member_missing".into(), &"txSecret=***".into())
    );
    assert_eq!(letters[0].header("received_at"), letter["received_at"].as_str());
    // Without a stream there is no key.
    let t = seconds_now() + 600;
    assert_eq!(post(&bridge, &format!("{{\"event_type\":\"x\",\"t\":{t},\"sign\":\"{}\"}}", sign(KEY, t))), 200);
    let letters = topics.await_letters(&bridge, 2);
    assert!(letters.iter().any(|letter| letter.key.is_none() && letter.value.contains("member_invalid")));
    assert_eq!(bridge.metric("recording_bridge_dead_letters_published_total", &[]), 2);
    assert_eq!(dead_lettered(&bridge), 2);
    assert_eq!(bridge.assert_conservation(), 2);
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn a_letter_outlives_the_process_that_is_killed_right_after_its_200() {
    let topics = Topics::new(&[]);
    let mut bridge = topics.bridge(FURTHER);
    for number in 0..5 {
        assert_eq!(post(&bridge, &unusable("s", number, 10)), 200);
        bridge.kill();
        bridge.restart();
    }
    topics.create_letters(&[]);
    let letters = topics.await_letters(&bridge, 5);
    assert_eq!(letters.iter().map(duration_of).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn without_the_dead_letter_topic_everything_else_goes_on_and_the_letters_follow_when_it_is_there() {
    let topics = Topics::new(&[]);
    let mut bridge = topics.bridge(FURTHER);
    assert_eq!(post(&bridge, &unusable("s", 0, 10)), 200);
    await_metric(&bridge, "recording_bridge_dead_letters_state", &[("state", "topic_missing")], 1);
    for number in 1..300 {
        assert_eq!(post(&bridge, &unusable("s", number, 10)), 200);
        assert_eq!(post(&bridge, &usable("s")), 200);
    }
    assert_eq!(bridge.metric("recording_bridge_dead_letters", &[]), 300);
    assert_eq!(state(&bridge, "topic_missing"), 1);
    assert_eq!(bridge.metric("recording_bridge_dead_letters_delivery_failures_total", &[]), 0, "nothing is sent to it");
    assert_eq!(bridge.metric("recording_bridge_ready", &[]), 1);
    assert_eq!(bridge.metric("recording_bridge_delivery_state", &[("state", "direct")]), 1);
    assert_eq!(bridge.metric("recording_bridge_callbacks_total", &[("reason", "kafka")]), 299);
    assert_eq!(bridge.metric("recording_bridge_spool_frames", &[]), 0);
    assert_eq!(bridge.log().matches("look at their topic").count(), 1, "said once");
    // The end does not wait for the topic.
    let asked = Instant::now();
    assert_eq!(bridge.terminate_and_stay(), 0);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    bridge.restart();
    topics.create_letters(&[]);
    let letters = topics.await_letters(&bridge, 300);
    assert_eq!(letters.iter().map(duration_of).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    assert_eq!(state(&bridge, "idle"), 1);
    // Nothing is published again by the next process.
    assert_eq!(bridge.terminate_and_stay(), 0);
    bridge.restart();
    assert_eq!(post(&bridge, &unusable("s", 300, 10)), 200);
    topics.await_letters(&bridge, 301);
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn a_full_spool_of_dead_letters_is_a_503_for_them_and_for_nobody_else() {
    let topics = Topics::new(&[]);
    let kafka = format!("{}, dead_letter_topic: {}", plain(&topics.cluster.brokers(), &topics.events), topics.letters);
    let bridge = Bridge::start_with(&kafka, FURTHER);
    await_direct(&bridge);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        assert!(statuses.len() < 2_000, "never full");
        statuses.push(post(&bridge, &unusable("s", 0, 60_000)));
    }
    let kept = statuses.len() as u64 - 1;
    assert!(statuses[..statuses.len() - 1].iter().all(|status| *status == 200), "{statuses:?}");
    let refused = [("outcome", "refused"), ("reason", "dead_letters_full")];
    assert_eq!(bridge.metric("recording_bridge_callbacks_total", &refused), 1);
    assert_eq!(bridge.metric("recording_bridge_dead_letters_append_failures_total", &[]), 1);
    assert_eq!(bridge.metric("recording_bridge_dead_letters_healthy", &[]), 0);
    for _ in 0..20 {
        assert_eq!(post(&bridge, &usable("s")), 200);
    }
    assert_eq!(bridge.metric("recording_bridge_ready", &[]), 1);
    assert_eq!(bridge.metric("recording_bridge_delivery_state", &[("state", "direct")]), 1);
    bridge.assert_conservation();
    topics.create_letters(&[]);
    topics.await_letters(&bridge, i64::try_from(kept).unwrap());
    assert_eq!(post(&bridge, &unusable("s", 0, 10)), 200);
    assert_eq!(dead_lettered(&bridge), kept + 1);
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn an_event_that_kafka_refuses_for_good_becomes_a_letter_and_those_behind_it_are_published() {
    let topics = Topics::new(&[("max.message.bytes", "4000")]);
    topics.create_letters(&[]);
    let bridge = topics.bridge(FURTHER);
    let large = {
        let file = format!("1300000000_{:032x}", unique());
        let body = callback(KEY, seconds_now() + 600, "large", &file);
        body.replace("http://bucket", &format!("http://{}bucket", filler(8_000)))
    };
    assert_eq!(post(&bridge, &large), 200);
    for _ in 0..20 {
        assert_eq!(post(&bridge, &usable("large")), 200);
    }
    await_metric(&bridge, "recording_bridge_spool_dead_lettered_total", &[], 1);
    await_metric(&bridge, "recording_bridge_spool_frames", &[], 0);
    await_direct(&bridge);
    let letters = topics.await_letters(&bridge, 1);
    let letter: Value = serde_json::from_str(&letters[0].value).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["event_kind"]),
        (&"message_too_large".into(), &"recording.completed".into())
    );
    assert_eq!((letters[0].key.as_deref(), &letter["payload"]["stream_id"]), (Some("large"), &"large".into()));
    assert!(letter["payload"]["video_url"].as_str().unwrap().len() > 8_000);
    let events = read_topic(topics.cluster, &topics.events);
    assert!(events.len() >= 20 && events.iter().all(|event| event.value.len() < 4_000), "{}", events.len());
    assert_eq!(dead_lettered(&bridge), 0, "the callback was accepted");
    assert_eq!(bridge.assert_conservation(), 21);
    assert_eq!(bridge.terminate(), 0);
}

/// Sets the longest message of a topic.
fn set_longest(topics: &Topics, bytes: &str) {
    let brokers = topics.cluster.brokers();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topics.letters)).set("max.message.bytes", bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let changed = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new())).unwrap();
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
}

#[test]
fn a_letter_that_its_topic_refuses_is_kept_and_holds_nobody_up() {
    let topics = Topics::new(&[]);
    let mut bridge = topics.bridge(FURTHER);
    // All are there before the topic is, so they go in one batch, which fails whole.
    let sizes = [10, 10, 9_000, 10, 10, 9_000, 10];
    for (number, size) in (0..).zip(sizes) {
        assert_eq!(post(&bridge, &unusable("s", number, size)), 200);
    }
    topics.create_letters(&[("max.message.bytes", "4000")]);
    await_metric(&bridge, "recording_bridge_dead_letters_refused", &[], 2);
    await_metric(&bridge, "recording_bridge_dead_letters", &[], 2);
    let letters = read_topic(topics.cluster, &topics.letters);
    assert_eq!(letters.iter().map(duration_of).collect::<Vec<_>>(), [0, 1, 3, 4, 6]);
    assert_eq!(post(&bridge, &unusable("s", 7, 10)), 200);
    await_metric(&bridge, "recording_bridge_dead_letters_published_total", &[], 6);
    assert_eq!(bridge.metric("recording_bridge_dead_letters", &[]), 2);
    assert!(
        bridge.metric("recording_bridge_dead_letters_delivery_failures_total", &[("failure", "message_too_large")])
            >= 2
    );
    assert_eq!(post(&bridge, &usable("s")), 200);
    // The topic is mended; a restart tries at once what is kept, and what was published beyond it comes again.
    assert_eq!(bridge.terminate_and_stay(), 0);
    set_longest(&topics, "100000");
    bridge.restart();
    await_metric(&bridge, "recording_bridge_dead_letters", &[], 0);
    assert_eq!(bridge.metric("recording_bridge_dead_letters_refused", &[]), 0);
    let letters = read_topic(topics.cluster, &topics.letters);
    assert_eq!(letters.iter().map(duration_of).collect::<Vec<_>>(), [0, 1, 3, 4, 6, 7, 2, 3, 4, 5, 6, 7]);
    assert_eq!(bridge.terminate(), 0);
}
