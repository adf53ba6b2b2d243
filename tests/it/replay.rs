//! The commands `replay` and `explain`, with the real program and the embedded broker, once with real Kafka.
//!
//! Promise: what was mended comes to the topic as the event that it would have been, with key, identity and headers, marked
//! as replayed; nothing else is published; and what is explained is what the bridge does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use recording_bridge::callback::Scope;
use recording_bridge::refusal::Refusal;
use serde_json::{Value, json};

use crate::support::bridge::{self, Bridge, plain};
use crate::support::command::{Ended, run};
use crate::support::kafka::{Topic, one_broker, read_topic, topic_name};
use crate::support::load::{Client, sign};
use crate::support::spooling::{SPOOL, await_direct};
use crate::support::unique;
use crate::support_app::{Broker, KEY, TOPIC, config_file, epoch_seconds, signature};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The value and the headers of a golden message.
fn golden(name: &str) -> (String, BTreeMap<String, String>) {
    let text = fs::read_to_string(data(name)).unwrap();
    let (head, value) = text.split_once("\n\n").unwrap();
    let headers = head.lines().skip(1).map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (value.trim_end().to_owned(), headers)
}

struct Desk {
    broker: Broker,
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
        let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], "");
        Self { broker, folder, config }
    }

    fn file(&self, text: &str) -> String {
        let path = self.folder.path().join("records.jsonl");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn replay(&self, from: &str, more: &[&str]) -> Ended {
        run("replay", &self.config, &[&["--from", from], more].concat())
    }
}

fn letter(reason: &str, received_at: &str, payload: &Value) -> Value {
    json!({ "reason": reason, "detail": "d", "event_kind": null, "received_at": received_at, "payload": payload })
}

#[test]
fn mended_letters_and_events_come_to_the_topic_as_they_would_have_and_say_that_they_are_replayed() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let desk = Desk::new();
    // The file was missing; now it is put in.
    let (text, _) = golden("letters/no-file.txt");
    let mut mended: Value = serde_json::from_str(&text).unwrap();
    mended["payload"]["file_id"] = json!("f");
    let status = fs::read_to_string(data("kinds/recording_status/cases.jsonl")).unwrap();
    let status: Value = serde_json::from_str(status.lines().next().unwrap()).unwrap();
    let status = letter("member_invalid", "2023-11-14T22:13:21.000000Z", &status["body"]);
    let with_headers = json!({
        "partition": 0, "offset": 1, "key": "lesson-7", "headers": { "ce_id": "of the letter", "traceparent": TRACE },
        "event": status,
    });
    let (refused, _) = golden("letters/refused-event.txt");
    let (exception, exception_headers) = golden("kinds/recording_exception/example.txt");
    let dumped = json!({ "key": "lesson-7", "headers": exception_headers, "event": null });
    let dumped = dumped.to_string().replace("\"event\":null", &format!("\"event\":{exception}"));
    let from = desk.file(&format!("{mended}\n\n{with_headers}\n{refused}\n{dumped}\n"));
    let dry = desk.replay(&from, &["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert_eq!(dry.stdout.lines().filter(|line| line.starts_with("would publish ")).count(), 4);
    assert!(dry.has("4 read", "4 would be published"), "{dry:?}");
    assert_eq!(desk.broker.published(), 0);
    let done = desk.replay(&from, &["--rate", "1000"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.has("4 read", "0 left out, 4 published"), "{done:?}");
    let records = desk.broker.headers(4);
    let of = |kind: &str, stream: &str| {
        let found = records.iter().find(|headers| headers["ce_type"] == kind && headers["ce_subject"] == stream);
        found.unwrap_or_else(|| panic!("{kind} of {stream} in {records:?}"))
    };
    for record in &records {
        assert!(record["replayed"].ends_with('Z'), "{record:?}");
    }
    let (_, first) = golden("kinds/recording_status/example.txt");
    let again = of("recording.status", "lesson-7");
    for name in ["ce_id", "ce_time", "ce_source", "facts_digest"] {
        assert_eq!(again[name], first[name], "{name}: the event that it would have been");
    }
    assert_eq!((again["received_at"].as_str(), again["traceparent"].as_str()), ("2023-11-14T22:13:21.000000Z", TRACE));
    let again = of("recording.exception", "lesson-7");
    for (name, value) in &exception_headers {
        assert_eq!(&again[name], value, "{name} of an event stays");
    }
    let refused: Value = serde_json::from_str(&refused).unwrap();
    let refused_id = refused["payload"]["event_id"].as_str().unwrap();
    assert!(records.iter().any(|headers| headers["ce_id"] == refused_id), "the event in a letter is whole");
    assert!(!of("recording.completed", "直播_1")["received_at"].is_empty());
}

#[test]
fn a_callback_that_looks_like_an_event_is_read_as_the_callback_that_it_is() {
    let desk = Desk::new();
    let forged = json!({
        "event_type": 100, "appid": 1, "app": "push.example.com", "stream_id": "s", "file_id": "f",
        "schema": "recording-event.v1", "kind": "recording.completed", "event_id": "of another", "app_id": "2",
    });
    let from = desk.file(&letter("member_missing", "2023-11-14T22:13:21.000000Z", &forged).to_string());
    let done = desk.replay(&from, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let record = &desk.broker.headers(1)[0];
    assert_ne!(record["ce_id"], "of another");
    assert!(record["ce_source"].ends_with("/1"), "{record:?}");
}

#[test]
fn only_what_is_asked_for_is_replayed_and_what_is_not_mended_is_told() {
    let desk = Desk::new();
    let recording = |stream: &str| json!({ "event_type": 100, "appid": 1, "stream_id": stream, "file_id": "f" });
    let letters = [
        letter("member_missing", "2026-01-01T00:00:00.000000Z", &recording("a")),
        letter("member_invalid", "2026-01-01T00:00:00.000000Z", &recording("b")),
        letter("member_missing", "2026-01-01T00:00:01.000000Z", &recording("c")),
        letter("member_missing", "2026-01-01T00:00:02.000000Z", &recording("d")),
        letter("member_missing", "2026-01-01T00:00:01.000000Z", &recording("e")),
    ];
    let from = desk.file(&letters.map(|letter| letter.to_string()).join("\n"));
    let filters = ["--reason", "member_missing", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-01T00:00:02Z"];
    let done = desk.replay(&from, &[&filters[..], &["--stream", "a", "--stream", "c", "--stream", "d"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.has("5 read", "3 not asked for, 0 left out, 2 published"), "{done:?}");
    assert_eq!(desk.broker.streams(2), ["a", "c"]);
    // What is still unusable, of a kind that makes no event, or nothing of ours, is said, and the rest goes on.
    let odd = [
        letter("member_missing", "2026-01-01T00:00:00.000000Z", &json!({ "event_type": 100, "appid": 1 })).to_string(),
        letter("member_missing", "2026-01-01T00:00:00.000000Z", &json!({ "event_type": 1 })).to_string(),
        "{\"a\":1}".to_owned(),
        "no JSON".to_owned(),
        letter("other", "2026-01-01T00:00:00.000000Z", &recording("f")).to_string(),
    ];
    let done = desk.replay(&desk.file(&odd.join("\n")), &[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.has("4 read", "4 left out, 1 published"), "{done:?}");
    for told in [
        "line 1: left out: no event can be made of it: stream_id is absent",
        "line 2: left out: push_started is not among",
        "line 3: left out: it is neither",
        "line 4: left out: it is no JSON",
    ] {
        assert!(done.stderr.contains(told), "{told} in {}", done.stderr);
    }
    assert_eq!(desk.broker.published(), 3);
}

/// What a topic of other events holds is what its senders wrote: one of them must not speak for another account.
#[test]
fn a_callback_of_another_kind_that_looks_like_an_event_or_a_letter_is_left_out() {
    let desk = Desk::new();
    let event = json!({
        "event_type": 9, "schema": "recording-event.v1", "kind": "recording.completed", "event_id": "e", "app_id": "2",
        "stream_id": "s",
    });
    let recording = json!({ "event_type": 100, "appid": 2, "stream_id": "s", "file_id": "f" });
    let mut like_a_letter = letter("member_missing", "2026-01-01T00:00:00.000000Z", &recording);
    like_a_letter["event_type"] = json!(9);
    let mut without_type = event.clone();
    without_type.as_object_mut().unwrap().remove("event_type");
    let named = json!({ "headers": { "ce_type": "callback.unknown" }, "event": without_type });
    // One that its topic refused is a dead letter, and still what its sender wrote.
    let mut refused = letter("message_too_large", "2026-01-01T00:00:00.000000Z", &without_type);
    refused["event_kind"] = json!("callback.unknown");
    for record in [event, like_a_letter, named, refused] {
        let done = desk.replay(&desk.file(&record.to_string()), &[]);
        assert!(done.code == Some(1) && done.stderr.contains("line 1: left out: it is neither"), "{record}: {done:?}");
    }
    assert_eq!(desk.broker.published(), 0);
}

/// What an identity is made of is masked in letters, so what becomes of it as it stands would be another event.
#[test]
fn a_letter_whose_identity_is_masked_is_left_out_until_what_was_sent_is_put_in() {
    let desk = Desk::new();
    for (kind, members) in [
        ("recording_status", &["domain", "appname", "session_id", "task_id", "seq", "record_event"][..]),
        ("recording_exception", &["domain", "path", "session_id", "file_format", "exception_level", "interface"][..]),
    ] {
        let cases = fs::read_to_string(data(&format!("kinds/{kind}/cases.jsonl"))).unwrap();
        let case: Value = serde_json::from_str(cases.lines().next().unwrap()).unwrap();
        for member in members {
            for text in ["token=***", "cut short…"] {
                let mut body = case["body"].clone();
                body[*member] = json!(text);
                let letter = letter("member_invalid", "2023-11-14T22:13:21.000000Z", &body).to_string();
                let done = desk.replay(&desk.file(&letter), &["--dry-run"]);
                let told = format!("line 1: left out: {member} is masked or cut short in the letter");
                assert!(done.code == Some(1) && done.stderr.contains(&told), "{kind} {text}: {done:?}");
            }
        }
        // Of the callback with secrets in its identity; here they are put in again.
        let cases: Vec<Value> = cases.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let case = cases.iter().find(|case| case["name"] == "secrets").unwrap();
        let letter = letter("member_invalid", "2023-11-14T22:13:21.000000Z", &case["body"]).to_string();
        let (value, _) = golden(&format!("kinds/{kind}/secrets.txt"));
        let event: Value = serde_json::from_str(&value).unwrap();
        let done = desk.replay(&desk.file(&letter), &["--dry-run"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.contains(event["event_id"].as_str().unwrap()), "{done:?}");
        assert!(!done.stdout.contains("S3CR3T"), "{done:?}");
    }
    let cut = json!({ "event_type": 100, "appid": 1, "stream_id": "a", "file_id": "f…" });
    let done = desk.replay(&desk.file(&letter("member_invalid", "2023-11-14T22:13:21.000000Z", &cut).to_string()), &[]);
    assert!(done.code == Some(1) && done.stderr.contains("file_id is masked or cut short"), "{done:?}");
    assert_eq!(desk.broker.published(), 0);
}

/// Callbacks of every kind with a fault, on real Kafka: their letters are dumped, mended by hand and replayed; then the
/// provider sends each again as it should have been.
#[test]
fn a_mended_letter_is_the_event_that_its_callback_would_have_been() {
    let cluster = one_broker();
    let [events, letters] = ["mended", "mended-letters"].map(topic_name);
    for name in [&events, &letters] {
        cluster.create_topic(&Topic { name, partitions: 3, replication: 1, min_isr: 1, properties: &[] });
    }
    let kafka = format!("{}, dead_letter_topic: {letters}", plain(&cluster.brokers(), &events));
    let bridge = Bridge::start_with(&kafka, SPOOL);
    await_direct(&bridge, Duration::from_secs(60));
    let example = |kind: &str| {
        let cases = fs::read_to_string(data(&format!("kinds/{kind}/cases.jsonl"))).unwrap();
        let case: Value = serde_json::from_str(cases.lines().next().unwrap()).unwrap();
        case["body"].clone()
    };
    let recording = json!({
        "event_type": 100, "appid": 1_300_000_000, "app": "push.example.com", "stream_id": "lesson-7", "file_size": 7,
        "file_id": format!("f{:x}", unique()), "stream_param": "txSecret=S3CR3T", "end_time": 1_772_697_600,
    });
    let faults = [
        (recording, "\"file_size\":\"seven\"", "\"file_size\":7"),
        (example("recording_status"), "\"event_time\":\"now\"", "\"event_time\":1772697600"),
        (example("recording_exception"), "\"timestamp\":[1]", "\"timestamp\":1772697630"),
    ];
    let post = |body: &str| {
        let t = epoch_seconds().unsigned_abs() + 600;
        let proof = format!("{{\"t\":{t},\"sign\":\"{}\",", sign(bridge::KEY, t));
        assert_eq!(Client::new(bridge.callbacks()).post(bridge::PATH, &body.replacen('{', &proof, 1)).unwrap(), 200);
    };
    for (body, wrong, right) in &faults {
        let body = body.to_string();
        assert!(body.contains(right), "{body}");
        post(&body.replace(right, wrong));
    }
    let dump =
        run("tail", bridge.config(), &["--topic", &letters, "--from-beginning", "--count", "3", "--with-metadata"]);
    assert_eq!((dump.code, dump.stdout.lines().count()), (Some(0), 3), "{dump:?}");
    assert_eq!(read_topic(cluster, &events).len(), 0);
    let mended = faults.iter().fold(dump.stdout, |text, (_, wrong, right)| text.replace(wrong, right));
    let file = bridge.home().join("mended.jsonl");
    fs::write(&file, mended).unwrap();
    let done = run("replay", bridge.config(), &["--from", file.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.has("3 read", "0 left out, 3 published"), "{done:?}");
    for (body, ..) in &faults {
        post(&body.to_string());
    }
    let records = read_topic(cluster, &events);
    assert_eq!(records.len(), 6, "{records:?}");
    for kind in ["recording.completed", "recording.status", "recording.exception"] {
        let of_kind: Vec<_> = records.iter().filter(|record| record.header("ce_type") == Some(kind)).collect();
        let [one, other] = of_kind[..] else { panic!("{kind}: {of_kind:?}") };
        let (replayed, sent) = if one.header("replayed").is_some() { (one, other) } else { (other, one) };
        assert!(replayed.header("replayed").is_some() && sent.header("replayed").is_none(), "{kind}: {of_kind:?}");
        let event: Value = serde_json::from_str(&sent.value).unwrap();
        assert_eq!(sent.header("ce_id"), event["event_id"].as_str());
        println!("{kind}: sent as {:?}, replayed as {:?}", sent.header("ce_id"), replayed.header("ce_id"));
        assert_eq!(replayed.header("ce_id"), sent.header("ce_id"), "{kind}: the same identity");
        assert_eq!((&replayed.value, replayed.partition), (&sent.value, sent.partition), "{kind}: the same bytes");
        assert_eq!(replayed.header("facts_digest"), sent.header("facts_digest"));
    }
    assert_eq!(bridge.assert_conservation(), 6);
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn a_topic_is_replayed_to_its_present_end_and_a_name_that_is_nothing_is_a_failure() {
    let desk = Desk::new();
    let recording = json!({ "event_type": 100, "appid": 1, "stream_id": "a", "file_id": "f" });
    let letters: Vec<String> = (0..20)
        .map(|number| {
            let mut recording = recording.clone();
            recording["file_id"] = json!(format!("f{number}"));
            letter("other", "2026-01-01T00:00:00.000000Z", &recording).to_string()
        })
        .collect();
    assert_eq!(desk.replay(&desk.file(&letters.join("\n")), &[]).code, Some(0));
    // From the topic to the topic: it must not follow its own tail.
    let done = desk.replay(TOPIC, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.has("20 read", "20 published"), "{done:?}");
    let records = desk.broker.headers(40);
    let ids: std::collections::HashSet<&String> = records.iter().map(|headers| &headers["ce_id"]).collect();
    assert_eq!(ids.len(), 20, "the same events again");
    assert_eq!(desk.replay("no-such-topic-or-file", &[]).code, Some(1));
}

#[test]
fn nothing_is_said_to_be_replayed_that_kafka_has_not_acknowledged() {
    let desk = Desk::new();
    let recording = json!({ "event_type": 100, "appid": 1, "stream_id": "a", "file_id": "f" });
    let from = desk.file(&letter("other", "2026-01-01T00:00:00.000000Z", &recording).to_string());
    desk.broker.down();
    let done = desk.replay(&from, &["--give-up-after", "2"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.has("1 read", "0 published") && done.stderr.contains("nothing was acknowledged for 2 s"), "{done:?}");
}

#[test]
fn a_topic_that_gives_nothing_out_is_given_up() {
    let desk = Desk::new();
    let (event, _) = golden("events/edition-2018.txt");
    assert_eq!(desk.replay(&desk.file(&event), &[]).code, Some(0));
    desk.broker.fail_fetch(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    let done = desk.replay(TOPIC, &["--give-up-after", "2"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&format!("nothing could be read of topic {TOPIC} for 2 s")), "{done:?}");
}

fn explain(folder: &Path, body: &str, key: &str, more: &[&str]) -> (Option<i32>, String) {
    let (file, key_file) = (folder.join("request.json"), folder.join("key"));
    fs::write(&file, body).unwrap();
    fs::write(&key_file, key).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_recording-bridge"))
        .args(["explain", "--file", file.to_str().unwrap(), "--key-file", key_file.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

fn signed(mut body: Value, t: u64) -> String {
    body["t"] = json!(t);
    body["sign"] = json!(signature(KEY, &t.to_string()));
    body.to_string()
}

#[test]
fn every_member_of_every_kind_is_explained_with_the_value_that_is_published() {
    let folder = tempfile::tempdir().unwrap();
    for (schema, cases, golden_file) in [
        ("recording-event.v1", "callbacks/normalise.jsonl", "events/edition-2018.txt"),
        ("recording-status.v1", "kinds/recording_status/cases.jsonl", "kinds/recording_status/example.txt"),
        ("recording-exception.v1", "kinds/recording_exception/cases.jsonl", "kinds/recording_exception/example.txt"),
    ] {
        let case: Value =
            serde_json::from_str(fs::read_to_string(data(cases)).unwrap().lines().next().unwrap()).unwrap();
        let body = signed(case["body"].clone(), 1_700_000_600);
        let (code, text) = explain(folder.path(), &body, KEY, &["--at", "2023-11-14T22:13:20Z"]);
        assert_eq!(code, Some(0), "{text}");
        let (value, headers) = golden(golden_file);
        let event: serde_json::Map<String, Value> = serde_json::from_str(&value).unwrap();
        let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("member     ")).collect();
        let names: Vec<&str> = told.iter().map(|line| line.split_once(" = ").unwrap().0).collect();
        let schema: Value =
            serde_json::from_str(&fs::read_to_string(data(&format!("../../schema/{schema}.schema.json"))).unwrap())
                .unwrap();
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, required);
        for (line, name) in told.iter().zip(&names) {
            assert!(line.starts_with(&format!("{name} = {} (from ", event[*name])), "{line}");
        }
        for (name, value) in headers {
            assert!(text.contains(&format!("header     {name}: {value}\n")), "{name}");
        }
        assert!(text.contains("signature  made with the key key\n"), "{text}");
        assert!(text.contains("in time"), "{text}");
        assert!(text.contains("answer     200 when Kafka or the spool has the event"), "{text}");
        for secret in [KEY, &signature(KEY, "1700000600"), "00112233445566778899aabbccddeeff"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}

#[test]
fn a_refusal_is_explained_by_its_reason_and_the_rest_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let recording = json!({ "event_type": 100, "appid": 1, "stream_id": "abc", "file_id": "f" });
    let good = signed(recording.clone(), 1_700_000_600);
    let at = |time| ["--at", time];
    for (body, key, time, told) in [
        (good.clone(), "anotherKey0123456789", "2023-11-14T22:13:20Z", "signature_mismatch"),
        (good.clone(), KEY, "2023-11-14T22:30:21Z", "expired"),
        (good.clone(), KEY, "2023-11-14T22:11:19Z", "too_far_ahead"),
        (recording.to_string(), KEY, "2023-11-14T22:13:20Z", "signature_missing"),
        (good.replace("1700000600", "\"1700000600\""), KEY, "2023-11-14T22:13:20Z", "signature_malformed"),
    ] {
        let (code, text) = explain(folder.path(), &body, key, &at(time));
        assert_eq!(code, Some(1), "{told}: {text}");
        assert!(text.contains(&format!("403 ({told})")), "{told}: {text}");
        let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.label() == told).unwrap();
        assert!(text.contains(&format!("advice     {}\n", refusal.advice())), "{told}: {text}");
        // murmur2 of "abc" is 479470107.
        assert!(text.contains("partition  3 of 12"), "{text}");
    }
    for time in ["2023-11-14T22:30:20Z", "2023-11-14T22:11:20Z"] {
        assert_eq!(explain(folder.path(), &good, KEY, &at(time)).0, Some(0), "{time}: the last second");
    }
    for t in ["-9223372036854775000", "9223372036854775000"] {
        let (code, text) = explain(folder.path(), &good.replace("1700000600", t), KEY, &[]);
        assert!(code == Some(1) && text.contains("signature_malformed"), "{text}");
    }
    let (code, text) = explain(folder.path(), "[1]", KEY, &[]);
    assert!(code == Some(1) && text.contains("400"), "{text}");
    let now = |members: Value| {
        let t = epoch_seconds() + 600;
        explain(folder.path(), &signed(members, t.unsigned_abs()), KEY, &[])
    };
    let (code, text) = now(json!({ "event_type": 1 }));
    assert!(code == Some(0) && text.contains("200, counted as ignored (push_started)"), "{text}");
    let (code, text) =
        now(json!({ "event_type": 332, "appid": 1, "stream_id": "s", "stream_param": "txSecret=S3CR3T" }));
    assert!(code == Some(0) && text.contains("record_event is absent") && text.contains("dead letter"), "{text}");
    assert!(!text.contains("S3CR3T"), "{text}");
}

#[test]
fn a_key_of_the_configuration_is_explained_with_what_it_is_bound_to() {
    let folder = tempfile::tempdir().unwrap();
    let bound = Scope { app_ids: vec![], push_domains: vec!["push.example.com".to_owned()] };
    let config = config_file(folder.path(), "127.0.0.1:1", &[("live", KEY, bound)], "");
    let of_domain = |domain: Value| {
        let body = json!({ "event_type": 100, "appid": 1, "app": domain, "stream_id": "s", "file_id": "f" });
        let file = folder.path().join("request.json");
        fs::write(&file, signed(body, epoch_seconds().unsigned_abs() + 600)).unwrap();
        run("explain", &config, &["--file", file.to_str().unwrap()])
    };
    let good = of_domain(json!("push.example.com"));
    assert!(good.code == Some(0) && good.has("signature", "made with the key live"), "{good:?}");
    for (domain, refusal) in
        [(json!("other.example.com"), Refusal::OutOfScope), (Value::Null, Refusal::ScopeMemberMissing)]
    {
        let bad = of_domain(domain);
        assert_eq!(bad.code, Some(1), "{bad:?}");
        assert!(bad.has("answer", &format!("403 ({})", refusal.label())), "{bad:?}");
        assert!(bad.has("advice", "push_domains"), "{bad:?}");
    }
}
