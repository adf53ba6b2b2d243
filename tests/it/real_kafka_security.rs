//! TLS and logins on a real Apache Kafka.
//!
//! Promise: with the right authority and the right login a callback is acknowledged and its event is in the topic;
//! with a wrong password, an unknown authority, a certificate for another host or no certificate of our own it is
//! never a 200. `check --online` says what is wrong, and nothing ever says a password.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer};

use crate::support::bridge::{Bridge, plain};
use crate::support::command::{Ended, Setup, check_online, run};
use crate::support::kafka::{Topic, read_topic, topic_name};
use crate::support::law::law;
use crate::support::load::Statuses;
use crate::support::secure::{Door, PASSWORD, SecureBroker, WRONG_PASSWORD, secure_broker};
use crate::support::wait_for;

const CALLBACKS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// For bridges that are to refuse: they need not be patient.
const HASTY: &str = "ack_deadline: 1s";

/// A broker and a topic of it with two partitions.
fn broker_with_topic(purpose: &str) -> (&'static SecureBroker, String) {
    let (broker, name) = (secure_broker(), topic_name(purpose));
    broker.cluster.create_topic(&Topic { name: &name, partitions: 2, replication: 1, min_isr: 1, properties: &[] });
    (broker, name)
}

fn await_log(bridge: &Bridge, words: &str) {
    let evidence = || bridge.log_tail();
    wait_for(&format!("{words:?} in the log"), PATIENCE, evidence, || bridge.log().contains(words).then_some(()));
}

/// Everything accepted is in the topic, seen by two clients, and `check` finds no fault.
fn assert_events_pass(broker: &SecureBroker, topic: &str, kafka: &str) {
    let bridge = Bridge::start_with(&format!("{kafka}, topic: {topic}"), "");
    await_log(&bridge, "Kafka takes events");
    let answers = bridge.load(CALLBACKS, 200.0).run();
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    assert_eq!(bridge.assert_conservation(), CALLBACKS);

    let checked = check_online(bridge.config());
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.has("ok", &format!("topic {topic}: 2 partition(s), 1 replica(s)")), "{checked:?}");

    let count = CALLBACKS.to_string();
    let tailed = run("tail", bridge.config(), &["--from-beginning", "--count", &count]);
    assert_eq!(tailed.code, Some(0), "{tailed:?}");
    let records = read_topic(&broker.cluster, topic);
    let mut tailed_lines: Vec<&str> = tailed.stdout.lines().collect();
    let mut values: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
    tailed_lines.sort_unstable();
    values.sort_unstable();
    assert_eq!(tailed_lines, values, "the bytes of the events, through TLS and through the plain listener");
    let findings = law(&answers, &records);
    findings.assert_hold();
    assert_eq!((records.len(), findings.duplicates), (answers.len(), 0), "{findings}");

    assert_silent(&bridge, &[&checked, &tailed]);
    assert_eq!(bridge.terminate(), 0);
}

/// No password is in the log, in the metrics or in what commands wrote.
fn assert_silent(bridge: &Bridge, commands: &[&Ended]) {
    let said = commands.iter().flat_map(|ended| [ended.stdout.clone(), ended.stderr.clone()]);
    for text in said.chain([bridge.log(), bridge.metrics()]) {
        assert!(!text.contains(PASSWORD) && !text.contains(WRONG_PASSWORD), "a password was said: {text}");
    }
}

/// Every callback is answered with 503, nothing is in the topic, and the log and `check` name the reason.
fn assert_nothing_passes(topic: &str, kafka: &str, more: &str, reason: &str) -> Bridge {
    let bridge = Bridge::start_with(&format!("{kafka}, topic: {topic}, {HASTY}"), more);
    let mut load = bridge.load(CALLBACKS, 200.0);
    load.connections = CALLBACKS;
    let answers = load.run();
    assert!(answers.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(&answers));
    await_log(&bridge, reason);
    assert_eq!(bridge.assert_conservation(), CALLBACKS);

    let checked = check_online(bridge.config());
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.has("FAULT", reason), "{checked:?}");
    assert_silent(&bridge, &[&checked]);
    assert!(bridge.is_alive());
    assert_eq!(secure_broker().cluster.count_records(topic, 2), 0);
    bridge
}

fn with_login(broker: &SecureBroker, door: Door, authority: &str, login: &str) -> String {
    format!("{}, tls: {{{authority}}}, {login}", broker.brokers(door))
}

fn assert_mechanism_passes(mechanism: &str) {
    let (broker, name) = broker_with_topic(&mechanism.to_lowercase());
    let kafka = with_login(broker, Door::Login, &broker.authority(), &broker.login(mechanism));
    assert_events_pass(broker, &name, &kafka);
}

#[test]
fn events_pass_through_tls_with_scram_sha_512() {
    assert_mechanism_passes("SCRAM-SHA-512");
}

#[test]
fn events_pass_through_tls_with_scram_sha_256() {
    assert_mechanism_passes("SCRAM-SHA-256");
}

#[test]
fn events_pass_through_tls_with_plain() {
    assert_mechanism_passes("PLAIN");
}

#[test]
fn events_pass_with_a_certificate_of_our_own_and_not_without() {
    let (broker, name) = broker_with_topic("mutual");
    let brokers = broker.brokers(Door::Mutual);
    let (authority, own) = (broker.authority(), broker.client_certificate());
    // First without, since the other one leaves events in the topic.
    assert_nothing_passes(&name, &format!("{brokers}, tls: {{{authority}}}"), "", "SSL alert number");
    assert_events_pass(broker, &name, &format!("{brokers}, tls: {{{authority}, {own}}}"));
}

#[test]
fn a_wrong_password_is_never_a_200_and_is_named_without_being_said() {
    // As an operator in search of the fault would have it: with all that librdkafka can say.
    let eloquent = "log: {format: json, level: debug}";
    for (mechanism, reason) in
        [("SCRAM-SHA-512", "invalid credentials"), ("PLAIN", "Authentication failed: Invalid username or password")]
    {
        let (broker, name) = broker_with_topic("wrong-password");
        let login = broker.wrong_login(mechanism);
        let kafka = with_login(broker, Door::Login, &broker.authority(), &login);
        let kafka = format!("{kafka}, properties: {{debug: \"security,broker\"}}");
        let bridge = assert_nothing_passes(&name, &kafka, eloquent, reason);
        let tailed = run("tail", bridge.config(), &["--from-beginning", "--count", "1"]);
        assert_eq!((tailed.code, tailed.stdout.as_str()), (Some(1), ""), "{tailed:?}");
        assert!(tailed.stderr.contains(reason), "{tailed:?}");
        assert_silent(&bridge, &[&tailed]);
    }
}

#[test]
fn an_unknown_authority_is_never_a_200() {
    let (broker, name) = broker_with_topic("unknown-authority");
    let login = broker.login("SCRAM-SHA-512");
    let kafka = with_login(broker, Door::Login, &broker.stranger(), &login);
    assert_nothing_passes(&name, &kafka, "", "certificate verify failed");

    let system = with_login(broker, Door::Login, "", &login);
    let checked = check_online(Setup::new(&format!("{system}, topic: {name}"), "").config());
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.has("FAULT", "certificate verify failed"), "{checked:?}");
}

#[test]
fn a_certificate_for_another_host_is_never_a_200() {
    let (broker, name) = broker_with_topic("another-host");
    let kafka = with_login(broker, Door::LoginElsewhere, &broker.authority(), &broker.login("SCRAM-SHA-512"));
    assert_nothing_passes(&name, &kafka, "", "certificate verify failed");

    // Nothing else is wrong with that listener: a client that does not look at the name is served.
    let careless: BaseProducer = broker.careless(Door::LoginElsewhere).create().unwrap();
    let metadata = careless.client().fetch_metadata(Some(&name), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 2);
}

#[test]
fn the_proof_of_a_brokers_name_cannot_be_turned_off() {
    for property in ["ssl.endpoint.identification.algorithm: none", "enable.ssl.certificate.verification: false"] {
        let kafka = format!("{}, tls: {{}}, properties: {{{property}}}", plain("127.0.0.1:1", "recordings"));
        let checked = run("check", Setup::new(&kafka, "").config(), &[]);
        assert_eq!(checked.code, Some(64), "{checked:?}");
        assert!(checked.stderr.contains(property.split(':').next().unwrap()), "{checked:?}");
    }
}
