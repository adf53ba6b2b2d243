//! Callbacks of kinds that are not published, passed on to a topic of their own.
//!
//! Promise: with `kafka.other_events_topic`, a 200 means that such a callback is synced on disk, and it reaches that topic
//! as masked JSON with its kind in a header, whatever dies in between. Whatever is wrong with that topic or with its
//! spool never touches events.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use recording_bridge::callback::{
    Config, Key, Keyring, Normalised, Published, Redaction, Scope, Window, authenticate, sign as signature,
};
use recording_bridge::event::Timestamp;
use recording_bridge::http::other;
use recording_bridge::message::Message;
use serde_json::{Value, json};

use crate::callback::write_down;
use crate::dead_letters::{assert_golden_in, data, faults_by, golden, value};
use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::kafka::{Cluster, Record, Topic, one_broker, read_topic, topic_name};
use crate::support::load::{Client, callback, seconds_now, sign};
use crate::support::random::Random;
use crate::support::{unique, wait_for};

const NOW: u64 = 1_700_000_000;
const MESSAGE_BYTES_MAX: usize = 1_000_000;
const SCHEMA: &str = "other-event.v1";
const PATIENCE: Duration = Duration::from_secs(60);

/// The message of a body in which `SIGNED` stands for its proof.
fn message_of(body: &str) -> Message {
    let key = Key::new("a", "Xz4ZgayTr7rMgWQrH", Scope::default());
    let t = (NOW + 600).to_string();
    let proof = signature(&key, &t);
    let body = body.replace("SIGNED", &format!("\"t\":{t},\"sign\":\"{proof}\""));
    let received_at = Timestamp::from_seconds(NOW, 123_456).unwrap();
    let (keyring, window) = (Keyring::new(vec![key]), Window::new(&Config::new(Vec::new())));
    let authentic = authenticate(body.as_bytes(), &keyring, window, received_at).expect("the body is signed");
    let redaction = Redaction::default();
    let Ok(Normalised::Ignored(ignored)) = authentic.normalise(&redaction, Published::default()) else {
        panic!("{body} is of another kind")
    };
    let message = other::write(&authentic, &ignored, &redaction, received_at);
    assert!(!golden(&message).contains(&proof));
    message
}

fn assert_sound(message: &Message, about: &str) {
    assert!(message.size_bytes() <= MESSAGE_BYTES_MAX, "{about}: {} bytes", message.size_bytes());
    assert_eq!(faults_by(SCHEMA, message.payload()), Vec::<String>::new(), "{about}");
    assert!(!golden(message).contains("S3CR3T"), "{about}: {}", golden(message));
}

#[test]
fn every_other_callback_becomes_its_golden_message_without_its_secrets() {
    let cases = fs::read_to_string(data("callbacks/other.jsonl")).unwrap();
    let mut lines = Vec::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let message = message_of(case["body"].as_str().unwrap());
        assert_golden_in("other", name, &message);
        assert_sound(&message, name);
        lines.extend([message.payload(), &b"\n"[..]].concat());
    }
    write_down("other-event.v1.golden", &lines);
    assert_eq!(fs::read_dir(data("other")).unwrap().count(), cases.lines().count(), "a golden file has no case");
    // The schema itself can say no.
    for wrong in [json!({}), json!({"event_type": -1}), json!({"event_type": "x"}), json!({"event_type": 1, "sign": 1})]
    {
        assert!(!faults_by(SCHEMA, wrong.to_string().as_bytes()).is_empty(), "{wrong}");
    }
}

/// As large and as bad as a body may be, and 500 made at random.
#[test]
fn a_hostile_body_becomes_a_message_that_is_bounded_valid_and_without_its_secrets() {
    const BODY_BYTES: usize = 247_000;
    let filled = |unit: &str| unit.repeat(BODY_BYTES / unit.len());
    for (number, value) in [
        format!("{}{}", "[".repeat(BODY_BYTES / 2), "]".repeat(BODY_BYTES / 2)),
        format!("[{}0]", filled("[],")),
        format!("\"{}\"", filled("\\u0001")),
        format!("\"{}\"", filled("token=1&")),
        "1".repeat(BODY_BYTES),
    ]
    .into_iter()
    .enumerate()
    {
        let message = message_of(&format!("{{\"event_type\":7777,\"x\":{value},SIGNED}}"));
        assert_sound(&message, &number.to_string());
        assert!(message.headers().iter().any(|header| header.name == "left_out"), "{number}");
    }
    // What tells it apart stands first, whatever comes before it.
    let zeros = "0,".repeat(5_000);
    let body =
        format!("{{\"callback_ext\":[{zeros}0],\"stream_id\":\"s\",\"appid\":[{zeros}0],\"event_type\":7777,SIGNED}}");
    let message = message_of(&body);
    assert_sound(&message, "late type");
    assert!(message.payload().starts_with(b"{\"event_type\":7777,"), "{}", golden(&message));
    let mut lines = Vec::new();
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let mut members = String::new();
        for name in ["app", "stream_param", "detail", "event_time", "push_ext"] {
            write!(members, "\"{name}\":{},", value(&mut random, 5)).unwrap();
        }
        let message = message_of(&format!("{{\"event_type\":1,\"stream_id\":\"s\",{members}SIGNED}}"));
        assert_sound(&message, &format!("seed {seed}"));
        lines.extend([message.payload(), &b"\n"[..]].concat());
    }
    write_down("other-event.v1.generated", &lines);
}

fn post(bridge: &Bridge, body: &Value) -> u16 {
    let t = seconds_now() + 600;
    let mut body = body.clone();
    body["t"] = json!(t);
    body["sign"] = json!(sign(KEY, t));
    Client::new(bridge.callbacks()).post(PATH, &body.to_string()).unwrap()
}

fn recording(stream_id: &str) -> Value {
    let file = format!("1300000000_{:032x}", unique());
    serde_json::from_str(&callback(KEY, seconds_now() + 600, stream_id, &file)).unwrap()
}

fn await_metric(bridge: &Bridge, metric: &str, labels: &[(&str, &str)], value: u64) {
    let evidence = || format!("{}\n{}", bridge.metrics(), bridge.log_tail());
    let what = format!("{metric}{labels:?} to be {value}");
    wait_for(&what, PATIENCE, evidence, || (bridge.metric(metric, labels) == value).then_some(()));
}

fn await_direct(bridge: &Bridge) {
    await_metric(bridge, "recording_bridge_delivery_state", &[("state", "direct")], 1);
}

fn outcomes(bridge: &Bridge, labels: &[(&str, &str)]) -> u64 {
    bridge.metric("recording_bridge_callbacks_total", labels)
}

/// What a record says its callback was, first occurrences only: a broker that died may have it twice.
fn first_of(records: &[Record]) -> Vec<(Option<&str>, Option<&str>, Value)> {
    let mut seen = std::collections::HashSet::new();
    let first = records.iter().filter(|record| seen.insert(record.header("ce_id").unwrap()));
    first
        .map(|record| {
            assert_eq!(faults_by(SCHEMA, record.value.as_bytes()), Vec::<String>::new(), "{record:?}");
            assert_eq!(record.key.as_deref(), record.header("ce_subject"));
            assert!(record.key.is_none() || Some(record.partition) == record.java_partition, "{record:?}");
            (record.header("ce_type"), record.header("event_type"), serde_json::from_str(&record.value).unwrap())
        })
        .collect()
}

#[test]
fn callbacks_of_other_kinds_reach_their_topic_through_its_absence_an_outage_and_kills_and_touch_no_event() {
    let cluster = Cluster::start(1);
    let (events, others) = (topic_name("events"), topic_name("others"));
    let create = |name| {
        cluster.create_topic(&Topic { name, partitions: 3, replication: 1, min_isr: 1, properties: &[] });
    };
    create(&events);
    let kafka = format!("{}, other_events_topic: {others}, ack_deadline: 1s", plain(&cluster.brokers(), &events));
    let further = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 64MiB, other_events_bytes_max: 16MiB}\n\
                   callback: {keys: [{name: tests, file: key}], published_kinds: [recording, recording_exception]}";
    let mut bridge = Bridge::start_with(&kafka, further);
    await_direct(&bridge);
    // Their topic is not there: they wait, and events go on.
    let secret = json!("txSecret=S3CR3T&txTime=1");
    assert_eq!(
        post(&bridge, &json!({"event_type": 1, "appid": 1, "stream_id": "直播_1", "stream_param": secret})),
        200
    );
    assert_eq!(post(&bridge, &json!({"event_type": 987_654})), 200);
    // A kind that could be published, and is not.
    assert_eq!(
        post(&bridge, &json!({"event_type": 332, "stream_id": "s", "record_detail": "{\"token\":\"S3CR3T\"}"})),
        200
    );
    assert_eq!(post(&bridge, &recording("s")), 200);
    await_metric(&bridge, "recording_bridge_other_events_state", &[("state", "topic_missing")], 1);
    for number in 0..20 {
        assert_eq!(post(&bridge, &json!({"event_type": 0, "stream_id": "s", "number": number})), 200);
        assert_eq!(post(&bridge, &recording("s")), 200);
    }
    assert_eq!(outcomes(&bridge, &[("reason", "kafka")]), 21, "no event was spooled: {}", bridge.log_tail());
    assert_eq!(bridge.metric("recording_bridge_ready", &[]), 1);
    assert_eq!(bridge.metric("recording_bridge_other_events", &[]), 23);
    let passed_on = |reason| outcomes(&bridge, &[("outcome", "passed_on"), ("reason", reason)]);
    assert_eq!(["push_started", "unknown", "recording_status", "push_ended"].map(passed_on), [1, 1, 1, 20]);
    assert_eq!(outcomes(&bridge, &[("outcome", "ignored")]), 0);
    assert_eq!(bridge.log().matches("other events wait on disk: look at their topic").count(), 1, "said once");
    assert_eq!(bridge.assert_conservation(), 44);
    // Killed right after the last 200.
    bridge.kill();
    create(&others);
    bridge.restart();
    await_direct(&bridge);
    await_metric(&bridge, "recording_bridge_other_events", &[], 0);
    assert_eq!(bridge.metric("recording_bridge_other_events_published_total", &[]), 23);
    // An outage, and another kill in it.
    cluster.kill(1);
    assert_eq!(post(&bridge, &json!({"event_type": 200, "stream_id": "outage"})), 200);
    assert_eq!(post(&bridge, &recording("outage")), 200);
    assert_eq!(outcomes(&bridge, &[("outcome", "passed_on"), ("reason", "screenshot")]), 1);
    bridge.kill();
    cluster.restart(1);
    bridge.restart();
    await_direct(&bridge);
    await_metric(&bridge, "recording_bridge_other_events", &[], 0);
    assert_everything_is_there(&read_topic(&cluster, &others));
    let recordings = read_topic(&cluster, &events);
    assert!(recordings.iter().all(|record| record.header("ce_type") == Some("recording.completed")));
    assert!(recordings.len() >= 22, "{}", recordings.len());
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}

/// What the test above has sent, each once, in order.
fn assert_everything_is_there(records: &[Record]) {
    let said = first_of(records);
    assert_eq!(said.len(), 24, "{records:?}");
    let one = |kind, number| {
        let mut of_kind = said.iter().filter(|(ce_type, ..)| *ce_type == Some(kind));
        let (_, event_type, value) = of_kind.next().unwrap_or_else(|| panic!("no {kind} in {said:?}"));
        assert_eq!((*event_type, of_kind.next()), (Some(number), None), "{kind}");
        value.clone()
    };
    let started = json!({"event_type": 1, "appid": 1, "stream_id": "直播_1", "stream_param": "txSecret=***&txTime=1"});
    assert_eq!(one("callback.push_started", "1"), started);
    assert_eq!(one("callback.unknown", "987654"), json!({"event_type": 987_654}));
    assert_eq!(one("callback.recording_status", "332")["record_detail"], json!("{\"token\":\"***\"}"));
    assert_eq!(one("callback.screenshot", "200")["stream_id"], "outage");
    let numbers: Vec<&Value> = said.iter().filter_map(|(.., value)| value.get("number")).collect();
    assert_eq!(numbers, (0..20).map(|number| json!(number)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn a_full_spool_of_other_events_is_a_503_for_them_and_for_nobody_else() {
    let cluster = one_broker();
    let (events, others) = (topic_name("events"), topic_name("no-others"));
    cluster.create_topic(&Topic { name: &events, partitions: 3, replication: 1, min_isr: 1, properties: &[] });
    let kafka = format!("{}, other_events_topic: {others}", plain(&cluster.brokers(), &events));
    let further = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 64MiB, other_events_bytes_max: 16MiB}";
    let mut bridge = Bridge::start_with(&kafka, further);
    await_direct(&bridge);
    let large: Vec<String> = (0..4).map(|_| "x".repeat(15_000)).collect();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        assert!(statuses.len() < 2_000, "never full");
        statuses.push(post(&bridge, &json!({"event_type": 1, "stream_id": "s", "large": large})));
    }
    assert!(statuses[..statuses.len() - 1].iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(outcomes(&bridge, &[("outcome", "refused"), ("reason", "other_events_full")]), 1);
    assert_eq!(bridge.metric("recording_bridge_other_events_healthy", &[]), 0);
    assert_eq!(bridge.metric("recording_bridge_dead_letters_healthy", &[]), 1);
    assert_eq!(post(&bridge, &recording("s")), 200);
    assert_eq!(post(&bridge, &json!({"event_type": 100, "stream_id": "unusable"})), 200, "the dead letters have room");
    assert_eq!(outcomes(&bridge, &[("reason", "kafka")]), 1);
    assert_eq!(bridge.metric("recording_bridge_ready", &[]), 1);
    assert_eq!(bridge.assert_conservation(), statuses.len() as u64 + 2);
    assert_eq!(bridge.terminate_and_stay(), 0);
    // Without the topic nobody publishes what waits, and it stays in sight.
    let configured = fs::read_to_string(bridge.config()).unwrap();
    let configure = |bridge: &Bridge, from: &str, to: &str| {
        assert!(configured.contains(from), "{configured}");
        fs::write(bridge.config(), configured.replace(from, to)).unwrap();
    };
    configure(&bridge, &format!(", other_events_topic: {others}"), "");
    bridge.restart();
    await_direct(&bridge);
    assert_eq!(bridge.metric("recording_bridge_other_events", &[]), statuses.len() as u64 - 1);
    assert!(bridge.log().contains("nobody publishes them"), "{}", bridge.log_tail());
    assert_eq!(post(&bridge, &json!({"event_type": 1, "stream_id": "s"})), 200);
    assert_eq!(outcomes(&bridge, &[("outcome", "ignored")]), 1);
    assert_eq!(bridge.terminate_and_stay(), 0);
    // A volume that events may need as a whole has no room for others.
    fs::remove_dir_all(bridge.home().join("spool/other-events")).unwrap();
    configure(&bridge, "bytes_max: 64MiB", "bytes_max: 8000GiB");
    bridge.restart();
    await_direct(&bridge);
    assert_eq!(post(&bridge, &json!({"event_type": 1, "stream_id": "s"})), 503);
    assert_eq!(outcomes(&bridge, &[("outcome", "refused"), ("reason", "other_events_full")]), 1);
    assert_eq!(post(&bridge, &recording("s")), 200);
    assert_eq!(bridge.terminate_and_stay(), 0);
    // A folder that is none keeps nobody else out.
    fs::remove_dir_all(bridge.home().join("spool/other-events")).unwrap();
    fs::write(bridge.home().join("spool/other-events"), "no folder").unwrap();
    configure(&bridge, "bytes_max: 64MiB", "bytes_max: 64MiB");
    bridge.restart();
    await_direct(&bridge);
    assert_eq!(post(&bridge, &json!({"event_type": 1, "stream_id": "s"})), 503);
    assert_eq!(outcomes(&bridge, &[("outcome", "refused"), ("reason", "other_events_unhealthy")]), 1);
    assert_eq!(post(&bridge, &recording("s")), 200);
    assert_eq!(bridge.metric("recording_bridge_ready", &[]), 1);
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn one_that_its_topic_refuses_for_good_becomes_a_dead_letter_and_holds_nothing() {
    let cluster = one_broker();
    let [events, others, letters] = ["events", "small-others", "letters"].map(topic_name);
    let create = |name, properties| {
        cluster.create_topic(&Topic { name, partitions: 3, replication: 1, min_isr: 1, properties });
    };
    create(&events, &[]);
    create(&letters, &[]);
    let topics = format!("other_events_topic: {others}, dead_letter_topic: {letters}");
    let kafka = format!("{}, {topics}", plain(&cluster.brokers(), &events));
    let bridge = Bridge::start_with(&kafka, "spool: {directory: spool, disk_free_min: 0B, bytes_max: 64MiB}");
    await_direct(&bridge);
    // All are there before the topic is, so they go in one batch, which fails whole.
    for number in 0..5 {
        let text = if number == 2 { unique_text(9_000) } else { String::new() };
        assert_eq!(post(&bridge, &json!({"event_type": 1, "stream_id": "s", "number": number, "text": text})), 200);
    }
    create(&others, &[("max.message.bytes", "4000")]);
    await_metric(&bridge, "recording_bridge_other_events", &[], 0);
    await_metric(&bridge, "recording_bridge_dead_letters_published_total", &[], 1);
    assert_eq!(bridge.metric("recording_bridge_other_events_refused", &[]), 0);
    let records = read_topic(cluster, &others);
    let numbers: Vec<Value> = first_of(&records).into_iter().map(|(.., value)| value["number"].clone()).collect();
    assert_eq!(numbers, [0, 1, 3, 4]);
    let letters = read_topic(cluster, &letters);
    assert_eq!(faults_by("dead-letter.v1", letters[0].value.as_bytes()), Vec::<String>::new());
    let letter: Value = serde_json::from_str(&letters[0].value).unwrap();
    assert_eq!(
        (&letter["reason"], &letter["event_kind"]),
        (&json!("message_too_large"), &json!("callback.push_started"))
    );
    assert_eq!((&letter["payload"]["number"], letters.len()), (&json!(2), 1));
    assert_eq!(bridge.terminate(), 0);
}

/// Text that no compression makes shorter.
fn unique_text(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        write!(text, "{:016x}", unique()).unwrap();
    }
    text
}
