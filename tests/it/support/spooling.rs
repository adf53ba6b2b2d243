//! What tests of outages share: a bridge with its spool on, its way back, and the law at the end.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::bridge::{Bridge, PATH, black_box};
use super::kafka::{Cluster, Record, Topic, read_topic, topic_name};
use super::law::{Findings, law};
use super::load::{Answer, Statuses};
use super::wait_for;

/// The section `spool` of a bridge whose spool is small and beside its configuration.
pub(crate) const SPOOL: &str =
    "spool: {directory: spool, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}";
/// Sections `http` and `shutdown` with which the end of a process takes 9 s at most, and not 25.
pub(crate) fn short_grace() -> String {
    format!(
        "http: {{listen: 127.0.0.1:0, path: {PATH}, request_deadline: 8s}}\nshutdown: {{drain_delay: 0s, grace: 9s}}"
    )
}
/// Partitions of the topics that [`make_topic`] makes.
pub(crate) const PARTITIONS: i32 = 12;

/// A topic as the README asks for it, under a name of its own.
pub(crate) fn make_topic(cluster: &Cluster, name: &str) -> String {
    let name = topic_name(name);
    cluster.create_topic(&Topic { name: &name, partitions: PARTITIONS, replication: 3, min_isr: 2, properties: &[] });
    name
}

/// Whether `state` is the present one of the delivery.
pub(crate) fn is_in_state(bridge: &Bridge, state: &str) -> bool {
    bridge.metric("recording_bridge_delivery_state", &[("state", state)]) == 1
}

/// Waits until everything in the spool is published and events go straight to Kafka again.
pub(crate) fn await_direct(bridge: &Bridge, patience: Duration) {
    wait_for(
        "the spool to drain",
        patience,
        || format!("{}\n{}", bridge.metrics(), bridge.log_tail()),
        || {
            let empty = bridge.metric("recording_bridge_spool_frames", &[]) == 0;
            (is_in_state(bridge, "direct") && empty).then_some(())
        },
    );
}

/// Panics if the law is broken, with what the bridge that is at its end has said.
#[track_caller]
fn assert_law(findings: &Findings) {
    if !findings.hold() {
        println!("{}", black_box());
    }
    findings.assert_hold();
}

/// Tries the law on what the topic holds now.
#[track_caller]
pub(crate) fn conclude(cluster: &Cluster, topic: &str, answers: &[Answer]) -> Findings {
    let findings = law(answers, &read_topic(cluster, topic));
    println!("{}{findings}", Statuses(answers));
    assert_law(&findings);
    findings
}

/// The same, for senders that wait for each 200 before the next callback of a stream: the topic has exactly their order.
#[track_caller]
pub(crate) fn conclude_in_order(cluster: &Cluster, topic: &str, answers: &[Answer]) -> Findings {
    let records = read_topic(cluster, topic);
    let findings = law(answers, &records);
    println!("{}{findings}", Statuses(answers));
    assert_law(&findings);
    assert_eq!(published_order(&records), sent_order(answers));
    findings
}

/// Panics unless every answer is a 200.
#[track_caller]
pub(crate) fn assert_all_accepted(answers: &[Answer]) {
    let others: Vec<_> = answers.iter().filter(|answer| answer.status != Some(200)).take(5).collect();
    assert!(others.is_empty(), "{}{others:#?}", Statuses(answers));
}

/// The files of each stream in the order in which they were sent, by senders that wait for each answer.
pub(crate) fn sent_order(answers: &[Answer]) -> BTreeMap<String, Vec<String>> {
    let mut by_time: Vec<&Answer> = answers.iter().collect();
    by_time.sort_by_key(|answer| answer.sent_at);
    let mut streams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for answer in by_time {
        let files = streams.entry(answer.stream_id.clone()).or_default();
        // A file that is sent again keeps its place.
        if files.last() != Some(&answer.file_id) {
            files.push(answer.file_id.clone());
        }
    }
    streams
}

/// The files of each stream in the order of their first records.
pub(crate) fn published_order(records: &[Record]) -> BTreeMap<String, Vec<String>> {
    let mut streams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen: HashSet<String> = HashSet::new();
    for record in records {
        let value: Value = serde_json::from_str(&record.value).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        if seen.insert(text("file_id")) {
            streams.entry(text("stream_id")).or_default().push(text("file_id"));
        }
    }
    streams
}
