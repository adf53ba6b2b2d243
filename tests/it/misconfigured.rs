//! Ten mistakes in setting the bridge up, planted one at a time with a real Apache Kafka.
//!
//! Promise: each is named in words that say what to change. What our side can see, `check --online` names before a callback
//! comes. The others show only in callbacks that arrive: then the log names them. Not every wrong push domain can be seen:
//! a domain without the template sends nothing, and what a key that is bound to no domain has signed is taken, whatever
//! domain it names.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, KEY, plain};
use crate::support::command::{Setup, check_online, run_arguments};
use crate::support::kafka::{Topic, read_topic, topic_name};
use crate::support::secure::{Door, SecureBroker, secure_broker};
use crate::support::wait_for;
use crate::support_app::{ask, epoch_seconds, post, signature};

/// The clock is looked at every 5 s.
const PATIENCE: Duration = Duration::from_secs(60);
const QUARTER: i64 = 15 * 60;

fn create_topic(broker: &SecureBroker, purpose: &str) -> String {
    let name = topic_name(purpose);
    broker.cluster.create_topic(&Topic { name: &name, partitions: 1, replication: 1, min_isr: 1, properties: &[] });
    name
}

/// The faults that `check --online` finds.
fn faults(kafka: &str, more: &str) -> Vec<String> {
    let ended = check_online(Setup::new(kafka, more).config());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let faults = ended.stdout.lines().filter_map(|line| line.strip_prefix("FAULT    "));
    faults.map(str::to_owned).collect()
}

/// The one fault says all these words.
fn assert_named(mistake: &str, kafka: &str, more: &str, words: &[&str]) {
    let faults = faults(kafka, more);
    assert_eq!(faults.len(), 1, "{mistake}: one mistake, one fault: {faults:#?}");
    println!("{mistake}\n    check --online: {}", faults[0]);
    for word in words {
        assert!(faults[0].contains(word), "{mistake}: {word:?} is not in: {}", faults[0]);
    }
}

/// Lets nobody write to a directory, not even root, until it is dropped.
struct Closed<'a>(&'a Path);

impl<'a> Closed<'a> {
    fn new(directory: &'a Path) -> Self {
        let closed = Self(directory);
        closed.change("chattr +i", "chmod 555");
        closed
    }

    fn change(&self, as_root: &str, otherwise: &str) -> bool {
        let how = if rustix::process::geteuid().is_root() { as_root } else { otherwise };
        let line = format!("PATH=$PATH:/sbin:/usr/sbin; {how} {}", self.0.display());
        let done = Command::new("sh").args(["-c", &line]).status().unwrap().success();
        assert!(done || std::thread::panicking(), "{line}: root needs e2fsprogs, and a folder on ext4");
        done
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.change("chattr -i", "chmod 755");
    }
}

/// A callback of this push domain, signed so that its signature was made so many seconds ago.
fn callback(domain: &str, signed_seconds_ago: i64) -> String {
    let t = (epoch_seconds() + 600 - signed_seconds_ago).to_string();
    let file = format!("{domain}{signed_seconds_ago}");
    let mut body = json!({ "event_type": 100, "appid": 1, "app": domain, "stream_id": "s", "file_id": file });
    body["t"] = t.parse::<i64>().unwrap().into();
    body["sign"] = signature(KEY, &t).into();
    body.to_string()
}

/// What the log advises, in the line about a refusal for this reason.
fn await_advice(bridge: &Bridge, mistake: &str, reason: &str) -> String {
    let line = wait_for(
        &format!("{reason} in the log"),
        PATIENCE,
        || bridge.log_tail(),
        || {
            let lines = bridge.log();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == "refused" && line["reason"] == reason)
        },
    );
    let advice = line["advice"].as_str().unwrap().to_owned();
    println!("{mistake}\n    log: reason={reason} advice={advice}");
    advice
}

/// The log's line about the clock that begins so.
fn await_clock(bridge: &Bridge, mistake: &str, words: &str) {
    let line = wait_for(
        words,
        PATIENCE,
        || bridge.log_tail(),
        || bridge.log().lines().find(|line| line.contains(words)).map(str::to_owned),
    );
    let line: Value = serde_json::from_str(&line).unwrap();
    println!("{mistake}\n    log: offset_seconds={} {}", line["offset_seconds"], line["message"].as_str().unwrap());
    assert!(line["message"].as_str().unwrap().contains("see that it is synchronised"), "{line}");
}

#[test]
fn what_our_side_can_see_is_named_by_check() {
    let broker = secure_broker();
    let topic = create_topic(broker, "misconfigured");
    // With access control the brokers show what a login may see; the dead letters' topic must be none of the faults.
    let letters = create_topic(broker, "misconfigured-dead");
    let plainly = |brokers: &str, topic: &str| format!("{}, dead_letter_topic: {letters}", plain(brokers, topic));
    let brokers = broker.cluster.brokers();

    let missing = topic_name("missing");
    let create = format!("there is no topic {missing}: create it, since the bridge never does, or correct kafka.topic");
    assert_named("topic missing", &plainly(&brokers, &missing), "", &[&create]);

    let closed = create_topic(broker, "closed");
    broker.open_only_to("User:scram-256-user", &closed);
    let login = |door, topic: &str| {
        let (brokers, authority, login) = (broker.brokers(door), broker.authority(), broker.login("SCRAM-SHA-512"));
        format!("{brokers}, topic: {topic}, dead_letter_topic: {letters}, tls: {{{authority}}}, {login}")
    };
    let words = [&format!("topic {closed} may not be seen by our login"), "let that Describe and Write it"];
    assert_named("no permission on the topic", &login(Door::Login, &closed), "", &words);

    let words = ["127.0.0.1:1: no broker answers: see that they run, that kafka.brokers names them", "blocks the port"];
    assert_named("brokers unreachable", &plainly("127.0.0.1:1", &topic), "", &words);

    let folder = tempfile::tempdir().unwrap();
    let _closed = Closed::new(folder.path());
    for directory in [folder.path().to_owned(), folder.path().join("not/there/yet")] {
        let spool = format!("spool: {{directory: {}}}", directory.display());
        let words =
            [&format!("spool.directory {}: ", directory.display()), "the user of the bridge has to be able to write"];
        assert_named("spool directory not writable", &plainly(&brokers, &topic), &spool, &words);
    }

    let words = ["no TLS with one: its certificate is not for 127.0.0.1: look at kafka.brokers, advertised.listeners"];
    assert_named("TLS name mismatch", &login(Door::LoginElsewhere, &topic), "", &words);
}

#[test]
fn what_only_callbacks_show_is_named_by_the_log() {
    let broker = secure_broker();
    let topic = create_topic(broker, "misconfigured");
    let bound = "callback: {keys: [{name: tests, file: key, push_domains: [push.example.com]}]}";
    let bridge = Bridge::start(&broker.cluster.brokers(), &topic, bound);
    let evidence = || bridge.log_tail();
    let takes = || bridge.log().contains("Kafka takes events").then_some(());
    wait_for("the bridge to find its broker", PATIENCE, evidence, takes);
    let answer = |body: String| ask(bridge.callbacks(), post(body)).status();

    // Within the grace, so that it is taken; the log tells of the clock before the first callback is lost.
    assert_eq!(answer(callback("push.example.com", QUARTER)), 200);
    await_clock(&bridge, "clock 15 minutes ahead", "our clock is ahead of the sender's");
    assert_eq!(answer(callback("push.example.com", -QUARTER)), 403);
    let advice = await_advice(&bridge, "clock 15 minutes behind", "too_far_ahead");
    assert!(advice.contains("the clock is behind; synchronise it"), "{advice}");
    await_clock(&bridge, "clock 15 minutes behind", "our clock is behind the sender's");

    fs::write(bridge.home().join("other"), "0123456789abcdef").unwrap();
    let (url, other) = (format!("http://{}", bridge.callbacks()), bridge.home().join("other"));
    let send =
        |path: &str, key: &Path| run_arguments(&["send", &format!("{url}{path}"), "--key-file", key.to_str().unwrap()]);
    assert!(send("/callbacks/recording", &other).stdout.starts_with("403 "));
    let advice = await_advice(&bridge, "wrong key", "signature_mismatch");
    assert!(advice.contains("compare the callback key of the template with the files under callback.keys"), "{advice}");

    let t = (epoch_seconds() - 3600).to_string();
    let old = json!({ "event_type": 100, "t": t.parse::<i64>().unwrap(), "sign": signature("0123456789abcdef", &t) });
    assert_eq!(answer(old.to_string()), 403);
    let advice = await_advice(&bridge, "wrong key, long ago", "expired");
    assert!(advice.contains("compare the keys before the clock"), "{advice}");

    let unsigned = json!({ "event_type": 100, "appid": 1, "stream_id": "s", "file_id": "f" });
    assert_eq!(answer(unsigned.to_string()), 403);
    let advice = await_advice(&bridge, "no key at the provider", "signature_missing");
    assert!(advice.contains("set the callback key in the provider's callback template"), "{advice}");

    assert!(send("/callbacks/recordings", &bridge.home().join("key")).stdout.starts_with("404 "));
    let advice = await_advice(&bridge, "wrong path", "path_unknown");
    assert!(advice.contains("the URL in the provider's callback template has to end with that"), "{advice}");

    assert_eq!(answer(callback("other.example.com", 0)), 403);
    let advice = await_advice(&bridge, "wrong push domain, of a key that is bound", "out_of_scope");
    assert!(advice.contains("add this one to push_domains or app_ids of the key"), "{advice}");
    assert!(!bridge.log().contains("other.example.com"), "the log repeats what nobody vouches for");
    assert_eq!(bridge.terminate(), 0);

    let unbound = Bridge::start(&broker.cluster.brokers(), &topic, "");
    wait_for(
        "events to be taken",
        PATIENCE,
        || unbound.log_tail(),
        || unbound.log().contains("Kafka takes events").then_some(()),
    );
    assert_eq!(ask(unbound.callbacks(), post(callback("other.example.com", 0))).status(), 200);
    assert_eq!(unbound.terminate(), 0);
    let records = read_topic(&broker.cluster, &topic);
    let domain = |at: usize| serde_json::from_str::<Value>(&records[at].value).unwrap()["push_domain"].clone();
    println!("wrong push domain, of a key that is not bound\n    taken: push_domain={}", domain(1));
    assert_eq!((records.len(), domain(1)), (2, json!("other.example.com")), "the event tells the domain");
}
