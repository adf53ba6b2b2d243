//! Logins and certificates that are wrong, and those that change, on a real Apache Kafka.
//!
//! Promise: whatever is wrong with them, callbacks are answered with 200 out of the spool, the log says what is wrong and
//! where to look, a metric shows it; and once it is mended, on either side, everything is published in order, without a
//! restart. Files that change while all is well cost no callback and no order, and files that cannot be used, or that the
//! brokers refuse, change nothing.

use std::time::Duration;

use crate::support::bridge::Bridge;
use crate::support::kafka::{Topic, read_topic, topic_name};
use crate::support::law::law;
use crate::support::load::{Answer, Client};
use crate::support::mounted::Mounted;
use crate::support::secure::{Door, PASSWORD, SecureBroker, WRONG_PASSWORD, secure_broker};
use crate::support::spooling::{SPOOL, assert_all_accepted, await_direct};
use crate::support::wait_for;

const CALLBACKS: u64 = 40;
const RATE: f64 = 100.0;
/// A poll of the files, a login, a drain: on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);
const ERRORS: &str = "recording_bridge_kafka_client_errors_total";
const CHANGES: &str = "recording_bridge_kafka_credential_changes_total";
const REBUILDS: &str = "recording_bridge_kafka_producer_rebuilds_total";
const STATE: &str = "recording_bridge_kafka_credentials";

/// A bridge with a spool, its topic, and everything it was sent.
struct Trial {
    broker: &'static SecureBroker,
    topic: String,
    bridge: Bridge,
    answers: Vec<Answer>,
}

impl Trial {
    /// `kafka` are the members of that section but for the topic.
    fn start(purpose: &str, kafka: &str) -> Self {
        let (broker, topic) = (secure_broker(), topic_name(purpose));
        broker.cluster.create_topic(&Topic {
            name: &topic,
            partitions: 2,
            replication: 1,
            min_isr: 1,
            properties: &[],
        });
        let bridge = Bridge::start_with(&format!("{kafka}, topic: {topic}, ack_deadline: 1s"), SPOOL);
        Self { broker, topic, bridge, answers: Vec::new() }
    }

    /// Sends some callbacks, every one of which gets its 200.
    fn send(&mut self) {
        let answers = self.bridge.load(CALLBACKS, RATE).run();
        assert_all_accepted(&answers);
        self.answers.extend(answers);
    }

    fn await_log(&self, words: &str) {
        let found = || self.bridge.log().contains(words).then_some(());
        wait_for(&format!("{words:?} in the log"), PATIENCE, || self.bridge.log(), found);
    }

    fn await_metric(&self, metric: &str, labels: &[(&str, &str)], least: u64) {
        let found = || (self.bridge.metric(metric, labels) >= least).then_some(());
        wait_for(
            &format!("{metric} {labels:?}"),
            PATIENCE,
            || format!("{}{}", self.bridge.metrics(), self.bridge.log()),
            found,
        );
    }

    /// Kafka takes nothing, and an operator sees why; the sender notices nothing.
    fn assert_refused(&mut self, reason: &str, words: &[&str]) {
        self.send();
        assert_eq!(self.broker.cluster.count_records(&self.topic, 2), 0);
        for words in words {
            self.await_log(words);
        }
        self.await_metric(ERRORS, &[("reason", reason)], 3);
        let (_, ready) = Client::new(self.bridge.admin()).get("/ready").unwrap();
        assert!(ready.starts_with("ready\nKafka does not take events: "), "{ready}");
        // Said, and not shouted: librdkafka repeats it several times a second.
        let said = self.bridge.log().lines().filter(|line| line.contains("\"ERROR\"")).count();
        assert!((1..=12).contains(&said), "{said} lines of errors\n{}", self.bridge.log());
        println!("{}\n{ready}", self.bridge.log());
        assert!(!self.bridge.log().contains("straight to Kafka"), "{}", self.bridge.log());
    }

    /// Everything is published, in order; and from here on directly.
    fn conclude(mut self) {
        await_direct(&self.bridge, PATIENCE);
        self.send();
        await_direct(&self.bridge, PATIENCE);
        self.bridge.assert_conservation();
        law(&self.answers, &read_topic(&self.broker.cluster, &self.topic)).assert_hold();
        for text in [self.bridge.log(), self.bridge.metrics()] {
            assert!(!text.contains(PASSWORD) && !text.contains(WRONG_PASSWORD), "a password was said: {text}");
        }
        assert_eq!(self.bridge.terminate(), 0);
    }
}

fn login(user: &str, mechanism: &str, file: &str) -> String {
    format!("sasl: {{mechanism: {mechanism}, username: {user}, password_file: {file}}}")
}

#[test]
fn a_wrong_password_is_mended_in_its_file() {
    let broker = secure_broker();
    for (mechanism, user) in [("SCRAM-SHA-512", "scram-512-user"), ("PLAIN", "plain-user")] {
        let secret = Mounted::with(&[("password", WRONG_PASSWORD.as_bytes())]);
        let login = login(user, mechanism, &secret.path("password"));
        let kafka = format!("{}, tls: {{{}}}, {login}", broker.brokers(Door::Login), broker.authority());
        let mut trial = Trial::start("mended-password", &kafka);
        trial.assert_refused("authentication", &["a broker refuses our login: compare kafka.sasl and what its"]);
        secret.replace(&[("password", PASSWORD.as_bytes())]);
        trial.await_log("new producers log in with what the files hold now");
        trial.conclude();
    }
}

#[test]
fn a_wrong_password_is_mended_at_the_brokers() {
    let broker = secure_broker();
    broker.set_password("late-user", WRONG_PASSWORD);
    let secret = Mounted::with(&[("password", PASSWORD.as_bytes())]);
    let login = login("late-user", "SCRAM-SHA-512", &secret.path("password"));
    let kafka = format!("{}, tls: {{{}}}, {login}", broker.brokers(Door::Login), broker.authority());
    let mut trial = Trial::start("late-password", &kafka);
    trial.assert_refused("authentication", &["a broker refuses our login"]);
    broker.set_password("late-user", PASSWORD);
    trial.conclude();
}

#[test]
fn an_expired_certificate_of_a_broker_is_mended_at_the_broker() {
    let broker = secure_broker();
    let login = broker.login("SCRAM-SHA-512");
    let kafka = format!("{}, tls: {{{}}}, {login}", broker.brokers(Door::Expired), broker.authority());
    let mut trial = Trial::start("expired", &kafka);
    trial.assert_refused("tls", &["compare kafka.tls with the brokers' certificates", "its certificate expired on"]);
    broker.renew_certificate();
    trial.conclude();
}

#[test]
fn an_unknown_authority_is_mended_in_its_file() {
    let broker = secure_broker();
    let secret = Mounted::with(&[("ca.pem", &broker.content("stranger.pem"))]);
    let login = broker.login("SCRAM-SHA-512");
    let kafka = format!("{}, tls: {{ca_file: {}}}, {login}", broker.brokers(Door::Login), secret.path("ca.pem"));
    let mut trial = Trial::start("mended-authority", &kafka);
    trial.assert_refused("tls", &["none of the authorities in kafka.tls.ca_file stands behind its certificate"]);
    secret.replace(&[("ca.pem", &broker.content("authority.pem"))]);
    trial.conclude();
}

#[test]
fn an_expired_certificate_of_our_own_is_mended_in_its_files() {
    let broker = secure_broker();
    let pair = |name: &str| (broker.content(&format!("{name}.pem")), broker.content(&format!("{name}.key")));
    let (certificate, key) = pair("client-expired");
    let secret = Mounted::with(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let files = format!("certificate_file: {}, key_file: {}", secret.path("tls.crt"), secret.path("tls.key"));
    let kafka = format!("{}, tls: {{{}, {files}}}", broker.brokers(Door::Mutual), broker.authority());
    let mut trial = Trial::start("mended-certificate", &kafka);
    trial.assert_refused("tls", &["our certificate (kafka.tls.certificate_file) expired on"]);
    let (certificate, key) = pair("client");
    secret.replace(&[("tls.crt", &certificate), ("tls.key", &key)]);
    trial.conclude();
}

#[test]
fn a_login_changes_without_a_refusal_and_bad_files_change_nothing() {
    let (broker, old, new) = (secure_broker(), "old-password-0123456789", "new-password-0123456789");
    broker.set_password("turning-user", old);
    let secret = Mounted::with(&[("password", old.as_bytes())]);
    let login = login("turning-user", "SCRAM-SHA-512", &secret.path("password"));
    let kafka = format!("{}, tls: {{{}}}, {login}", broker.brokers(Door::Login), broker.authority());
    let mut trial = Trial::start("turning", &kafka);
    trial.await_log("Kafka takes events");
    trial.send();

    // A file without a password, and one that the brokers refuse: the producer that works goes on.
    for (state, content, words) in [
        ("unusable", "\n", "holds no password"),
        ("refused", WRONG_PASSWORD, "do not accept what the files of Kafka's login and TLS hold now"),
    ] {
        secret.replace(&[("password", content.as_bytes())]);
        trial.await_log(words);
        trial.await_metric(STATE, &[("state", state)], 1);
        trial.send();
        assert_eq!(trial.bridge.log().matches(words).count(), 1, "{}", trial.bridge.log());
    }
    assert_eq!(trial.bridge.metric(CHANGES, &[("result", "rejected")]), 1);
    assert_eq!(trial.bridge.metric(CHANGES, &[("result", "taken")]), 0);
    assert_eq!(trial.bridge.metric(REBUILDS, &[("reason", "credentials")]), 0);

    // The brokers first: connections live on. Then the file, under load: the producer is replaced.
    broker.set_password("turning-user", new);
    trial.send();
    let load = trial.bridge.load(1_000, RATE);
    let answers = std::thread::scope(|threads| {
        let load = threads.spawn(|| load.run());
        secret.replace(&[("password", new.as_bytes())]);
        trial.await_metric(CHANGES, &[("result", "taken")], 1);
        load.join().unwrap()
    });
    assert_all_accepted(&answers);
    trial.answers.extend(answers);
    trial.await_metric(STATE, &[("state", "current")], 1);
    trial.await_metric(REBUILDS, &[("reason", "credentials")], 1);
    for password in [old, new] {
        assert!(!trial.bridge.log().contains(password));
    }
    trial.conclude();
}

#[test]
fn a_certificate_that_may_not_see_the_topic_changes_nothing() {
    let broker = secure_broker();
    let pair = |name: &str| (broker.content(&format!("{name}.pem")), broker.content(&format!("{name}.key")));
    let (certificate, key) = pair("client");
    let secret = Mounted::with(&[("tls.crt", &certificate), ("tls.key", &key)]);
    let files = format!("certificate_file: {}, key_file: {}", secret.path("tls.crt"), secret.path("tls.key"));
    let kafka = format!("{}, tls: {{{}, {files}}}", broker.brokers(Door::Mutual), broker.authority());
    let mut trial = Trial::start("closed", &kafka);
    broker.open_only_to("User:CN=client", &trial.topic);
    trial.await_log("Kafka takes events");
    trial.send();
    let (other_certificate, other_key) = pair("client-other");
    secret.replace(&[("tls.crt", &other_certificate), ("tls.key", &other_key)]);
    trial.await_metric(STATE, &[("state", "refused")], 1);
    trial.await_log("the topic does not exist, or may not be seen");
    trial.send();
    assert_eq!(trial.bridge.metric(CHANGES, &[("result", "taken")]), 0);
    assert_eq!(trial.bridge.metric(REBUILDS, &[("reason", "credentials")]), 0);
    // Once the brokers let it, the new certificate is taken without another change of the files.
    broker.open_only_to("User:CN=client-other", &trial.topic);
    trial.await_metric(CHANGES, &[("result", "taken")], 1);
    trial.conclude();
}
