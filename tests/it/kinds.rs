//! Every kind of callback on real Apache Kafka, with the real program.
//!
//! Promise: a recording, its status and its exceptions reach the topic, each under its own schema, through an outage and
//! a kill as well; repeats of each are known; any other authentic kind gets its 200 and is counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::kafka::{Cluster, Record, Topic, read_topic, topic_name};
use crate::support::load::{Client, seconds_now, sign};
use crate::support::{unique, wait_for};

const PATIENCE: Duration = Duration::from_secs(90);
const FURTHER: &str = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 64MiB, dead_letter_bytes_max: 16MiB}";

/// The body of the first case of a kind, about another stream, not signed.
fn body(kind: &str, stream_id: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/kinds/{kind}/cases.jsonl"));
    let case: Value = serde_json::from_str(fs::read_to_string(path).unwrap().lines().next().unwrap()).unwrap();
    let mut body = case["body"].clone();
    body["stream_id"] = json!(stream_id);
    body
}

fn recording(stream_id: &str) -> Value {
    json!({ "event_type": 100, "appid": 1, "stream_id": stream_id, "file_id": format!("f{:x}", unique()) })
}

fn post(bridge: &Bridge, body: &Value) {
    let t = seconds_now() + 600;
    let mut body = body.clone();
    body["t"] = json!(t);
    body["sign"] = json!(sign(KEY, t));
    assert_eq!(Client::new(bridge.callbacks()).post(PATH, &body.to_string()).unwrap(), 200, "{}", bridge.log_tail());
}

fn await_state(bridge: &Bridge, state: &str) {
    let evidence = || format!("{}\n{}", bridge.metrics(), bridge.log_tail());
    let is_so = || (bridge.metric("recording_bridge_delivery_state", &[("state", state)]) == 1).then_some(());
    wait_for(&format!("the state {state}"), PATIENCE, evidence, is_so);
}

/// How many records there are of each kind. Each fits its schema, and its headers say the same.
fn kinds(records: &[Record]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for record in records {
        let event: Value = serde_json::from_str(&record.value).unwrap();
        let name = event["schema"].as_str().unwrap();
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{name}.schema.json"));
        let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        assert!(validator.is_valid(&event), "{event}");
        assert_eq!(record.header("ce_type"), event["kind"].as_str());
        assert_eq!(record.header("ce_id"), event["event_id"].as_str());
        assert_eq!(record.key.as_deref(), event["stream_id"].as_str());
        assert_eq!(Some(record.partition), record.java_partition);
        *kinds.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

#[test]
fn every_published_kind_reaches_the_topic_through_an_outage_and_a_kill_and_any_other_is_counted() {
    let cluster = Cluster::start(1);
    let topic = topic_name("kinds");
    cluster.create_topic(&Topic { name: &topic, partitions: 3, replication: 1, min_isr: 1, properties: &[] });
    let kafka = format!("{}, ack_deadline: 1s", plain(&cluster.brokers(), &topic));
    let mut bridge = Bridge::start_with(&kafka, FURTHER);
    await_state(&bridge, "direct");
    let send_all = |bridge: &Bridge, stream_id: &str| {
        for body in [recording(stream_id), body("recording_status", stream_id), body("recording_exception", stream_id)]
        {
            post(bridge, &body);
        }
    };
    send_all(&bridge, "direct");
    // Repeats, signed anew.
    post(&bridge, &body("recording_status", "direct"));
    post(&bridge, &body("recording_exception", "direct"));
    post(&bridge, &json!({ "event_type": 987_654 }));
    post(&bridge, &json!({ "event_type": 1, "stream_id": "direct" }));
    let outcomes = |bridge: &Bridge, labels: &[(&str, &str)]| bridge.metric("recording_bridge_callbacks_total", labels);
    assert_eq!(outcomes(&bridge, &[("outcome", "duplicate")]), 2);
    assert_eq!(outcomes(&bridge, &[("outcome", "ignored"), ("reason", "unknown")]), 1);
    assert_eq!(outcomes(&bridge, &[("outcome", "ignored"), ("reason", "push_started")]), 1);
    bridge.assert_conservation();
    cluster.kill(1);
    send_all(&bridge, "spooled");
    await_state(&bridge, "spooling");
    post(&bridge, &body("recording_exception", "spooled"));
    assert_eq!(outcomes(&bridge, &[("outcome", "duplicate")]), 3, "also of what rests in the spool");
    bridge.kill();
    cluster.restart(1);
    bridge.restart();
    await_state(&bridge, "direct");
    send_all(&bridge, "after");
    let records = read_topic(&cluster, &topic);
    let expected = ["recording.completed", "recording.exception", "recording.status"].map(|kind| (kind.to_owned(), 3));
    // What was in flight when the broker died may be there twice.
    let mut seen = std::collections::HashSet::new();
    let first: Vec<Record> =
        records.iter().filter(|record| seen.insert(record.header("ce_id").unwrap())).cloned().collect();
    assert_eq!(kinds(&first), expected.into_iter().collect(), "{}", bridge.log_tail());
    bridge.assert_conservation();
}
