//! The consumers in `examples`, on real Apache Kafka.
//!
//! Promise: after an outage, with every duplicate that there can be, each of them ends with exactly one row for each file
//! that was acknowledged, and all with the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::kafka::{Cluster, Topic, read_topic, topic_name};
use crate::support::load::{Client, seconds_now, sign};
use crate::support::spooling::{SPOOL, await_direct};

const LANGUAGES: [&str; 4] = ["python", "go", "java", "rust"];

fn post(bridge: &Bridge, mut body: Value) {
    let t = seconds_now() + 600;
    body["t"] = json!(t);
    body["sign"] = json!(sign(KEY, t));
    assert_eq!(Client::new(bridge.callbacks()).post(PATH, &body.to_string()).unwrap(), 200, "{}", bridge.log_tail());
}

#[test]
fn every_consumer_ends_with_one_row_for_each_file_and_all_with_the_same() {
    let cluster = Cluster::start(1);
    let topic = topic_name("consumers");
    cluster.create_topic(&Topic { name: &topic, partitions: 6, replication: 1, min_isr: 1, properties: &[] });
    // No repeat is known, so every one is published: a consumer must not need the bridge's memory.
    let further = format!("{SPOOL}\nrepeats: {{entries_max: 0}}\n");
    let bridge = Bridge::start_with(&format!("{}, ack_deadline: 1s", plain(&cluster.brokers(), &topic)), &further);
    await_direct(&bridge, Duration::from_secs(60));
    let mut load = bridge.load(600, 60.0);
    load.repeat_every = 3;
    load.streams = 20;
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        thread::sleep(Duration::from_secs(3));
        cluster.kill(1);
        thread::sleep(Duration::from_secs(4));
        cluster.restart(1);
        load.join().unwrap()
    });
    await_direct(&bridge, Duration::from_secs(120));
    let mut sent: BTreeSet<String> =
        answers.iter().filter(|answer| answer.status == Some(200)).map(|answer| answer.file_id.clone()).collect();
    // Other kinds, and a file whose size no signed integer holds.
    post(&bridge, json!({ "event_type": 332, "appid": 1, "stream_id": "s", "record_event": "record_ended" }));
    post(&bridge, json!({ "event_type": 341, "appid": 1, "stream_id": "s", "exception": { "type": -9 } }));
    post(
        &bridge,
        json!({ "event_type": 100, "appid": 1, "stream_id": "s\u{76f4}", "record_file_id": "large", "file_size": u64::MAX }),
    );
    sent.insert("large".to_owned());
    await_direct(&bridge, Duration::from_secs(60));
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for record in read_topic(&cluster, &topic) {
        *copies.entry(record.header("ce_id").unwrap().to_owned()).or_default() += 1;
    }
    assert!(copies.values().filter(|copies| **copies > 1).count() > 50, "there is hardly a duplicate to be dropped");

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&topic);
    fs::create_dir_all(&folder).unwrap();
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/check");
    let ended = Command::new(check).args([&cluster.brokers(), &topic]).arg(&folder).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let rows = LANGUAGES.map(|language| fs::read_to_string(folder.join(format!("{language}.tsv"))).unwrap());
    fs::remove_dir_all(&folder).unwrap();
    for (language, text) in LANGUAGES.iter().zip(&rows) {
        let files: Vec<String> = text.lines().map(|row| row.split('\t').nth(3).unwrap().to_owned()).collect();
        let distinct: BTreeSet<String> = files.iter().cloned().collect();
        assert_eq!(distinct.len(), files.len(), "{language} has a file twice");
        assert_eq!(distinct, sent, "{language}: left what it has, right what was acknowledged");
        assert_eq!(text, &rows[0], "{language}: other rows than {}", LANGUAGES[0]);
    }
    assert!(rows[0].contains("\t18446744073709551615\t"));
}
