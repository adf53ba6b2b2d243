//! Promise: Prometheus, with the real rules thirty times faster, watches a real bridge through normal traffic, an outage,
//! a full spool and recovery: the right alerts fire, in the right order, the others never do, and every panel of the
//! dashboard has data.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rcgen::generate_simple_self_signed;
use serde_json::Value;

use super::prometheus::Prometheus;
use super::{RULES, panels, text};
use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::kafka::{Cluster, three_brokers};
use crate::support::load::{Client, callback, seconds_now};
use crate::support::spooling::{await_direct, is_in_state, make_topic};
use crate::support::{unique, wait_for};

const JOB: &str = "recording-bridge";
/// A bridge without traffic, so that there is a certificate to be watched.
const TLS_JOB: &str = "idle-recording-bridge";
const PATIENCE: Duration = Duration::from_secs(180);
/// It is full in seconds.
const SPOOL: &str = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 24MiB, dead_letter_bytes_max: 16MiB}";

/// Traffic for as long as it lives: callbacks at a pace and of a size that can be changed.
struct Traffic {
    ends: AtomicBool,
    pause_millis: AtomicU64,
    /// Bytes of the stream parameters, which go into the event.
    parameter_bytes: AtomicU64,
}

impl Traffic {
    fn send(&self, bridge: &Bridge) {
        let mut client = Client::new(bridge.callbacks());
        let mut number: u64 = 0;
        while !self.ends.load(Ordering::Relaxed) {
            number += 1;
            let file_id = format!("1300000000_{:016x}{number:016x}", unique());
            let body = callback(KEY, seconds_now() + 600, "watched", &file_id);
            let size = usize::try_from(self.parameter_bytes.load(Ordering::Relaxed)).unwrap();
            let body = body.replace("txTime=", &format!("filler={}&txTime=", "x".repeat(size)));
            // A refusal is part of the story; Prometheus tells it.
            drop(client.post(PATH, &body));
            thread::sleep(Duration::from_millis(self.pause_millis.load(Ordering::Relaxed)));
        }
    }

    fn set(&self, pause_millis: u64, parameter_bytes: u64) {
        self.pause_millis.store(pause_millis, Ordering::Relaxed);
        self.parameter_bytes.store(parameter_bytes, Ordering::Relaxed);
    }
}

/// Ends the traffic also where the test fails, so that its thread does.
struct Ends<'a>(&'a Traffic);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
    }
}

/// A bridge with a certificate, on the same topic, that would pass on callbacks of other kinds.
fn start_idle(cluster: &Cluster, topic: &str) -> Bridge {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = format!("certificate_file: {}, key_file: {}", certificate.display(), key.display());
    let http = format!("http: {{listen: 127.0.0.1:0, path: {PATH}, tls: {{{files}}}}}\n{SPOOL}");
    let kafka = format!("{}, other_events_topic: {topic}-other", plain(&cluster.brokers(), topic));
    let bridge = Bridge::start_with(&kafka, &http);
    // It has read them; that they are gone later is no fault of the story.
    drop(folder.keep());
    bridge
}

fn await_firing(prometheus: &Prometheus, bridge: &Bridge, alert: &str) -> Value {
    let evidence = || {
        let firing = prometheus.firing(JOB);
        format!("firing: {:?}\n{}\n{}\n{}", firing.keys(), prometheus.evidence(), bridge.metrics(), bridge.log_tail())
    };
    let texts = wait_for(alert, PATIENCE, evidence, || prometheus.firing(JOB).remove(alert));
    println!("{alert}: {} {}", texts["summary"], texts["description"]);
    for (name, said) in texts.as_object().unwrap() {
        let said = said.as_str().unwrap();
        assert!(!said.contains("<no value>") && !said.contains("error"), "{alert}, {name}: {said}");
    }
    texts
}

#[test]
fn prometheus_tells_the_story_of_an_outage_and_of_nothing_else() {
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "watched");
    let bridge = Bridge::start(&cluster.brokers(), &topic, SPOOL);
    let idle = start_idle(&cluster, &topic);
    await_direct(&bridge, Duration::from_secs(60));
    let prometheus = Prometheus::watch(&text(RULES), &[(JOB, &bridge), (TLS_JOB, &idle)]);
    let traffic = Traffic {
        ends: AtomicBool::new(false),
        pause_millis: AtomicU64::new(100),
        parameter_bytes: AtomicU64::new(10),
    };
    thread::scope(|scope| {
        let _ends = Ends(&traffic);
        scope.spawn(|| traffic.send(&bridge));
        tell(&cluster, &bridge, &prometheus, &traffic);
    });
    bridge.assert_conservation();
    every_panel_has_data(&prometheus);
}

fn tell(cluster: &Cluster, bridge: &Bridge, prometheus: &Prometheus, traffic: &Traffic) {
    // Long enough for what fires after five minutes: ten seconds here.
    let scraped = || (prometheus.count("count_over_time(recording_bridge_ready[1h]) > 14") == 2).then_some(());
    wait_for("a while of normal traffic", PATIENCE, || prometheus.evidence(), scraped);
    assert_eq!(prometheus.fired(JOB).into_keys().collect::<Vec<_>>(), [""; 0]);

    // An outage in which hardly anything comes: there is room for hours, and nobody is woken.
    traffic.set(1000, 10);
    (1..=3).for_each(|number| cluster.kill(number));
    let texts = await_firing(prometheus, bridge, "RecordingBridgeSpooling");
    assert!(texts["description"].as_str().unwrap().contains("Nothing is lost"), "{texts}");
    assert!(!prometheus.firing(JOB).contains_key("RecordingBridgeSpoolFilling"));

    // More comes; there are minutes left, and then none.
    traffic.set(100, 20_000);
    await_firing(prometheus, bridge, "RecordingBridgeSpoolFilling");
    assert!(!prometheus.fired(JOB).contains_key("RecordingBridgeRefusing"), "refused before the spool was full");
    traffic.set(1, 50_000);
    let refused = || bridge.metric("recording_bridge_callbacks_total", &[("reason", "spool_full")]);
    wait_for("a full spool", PATIENCE, || bridge.metrics(), || (refused() > 0).then_some(()));
    traffic.set(200, 20_000);
    let texts = await_firing(prometheus, bridge, "RecordingBridgeRefusing");
    let said = texts["description"].as_str().unwrap();
    assert!(said.contains("the first events are lost in 1") && said.contains("spool_full"), "{said}");
    await_firing(prometheus, bridge, "RecordingBridgeNotReady");
    await_firing(prometheus, bridge, "RecordingBridgeSpoolUnhealthy");

    traffic.set(100, 10);
    cluster.restart_together(&[1, 2, 3]);
    await_direct(bridge, Duration::from_secs(120));
    assert!(is_in_state(bridge, "direct"));
    let silent = || prometheus.firing(JOB).is_empty().then_some(());
    wait_for("every alert to end", PATIENCE, || format!("{:?}", prometheus.firing(JOB)), silent);

    let fired = prometheus.fired(JOB);
    println!("{fired:#?}");
    let at = |alert: &str| fired[&format!("RecordingBridge{alert}")];
    assert!(at("Spooling") < at("SpoolFilling") && at("SpoolFilling") < at("Refusing"), "{fired:#?}");
    let expected = ["NotReady", "Refusing", "SpoolFilling", "SpoolUnhealthy", "Spooling"];
    let expected: BTreeSet<String> = expected.map(|alert| format!("RecordingBridge{alert}")).into();
    assert_eq!(fired.into_keys().collect::<BTreeSet<_>>(), expected);
    assert!(prometheus.fired(TLS_JOB).into_keys().all(|alert| alert == "RecordingBridgeSpooling"));
}

fn every_panel_has_data(prometheus: &Prometheus) {
    let is_told = |expression: &str| {
        prometheus.history(expression).iter().any(|(_, samples)| samples.iter().any(|(_, value)| !value.is_nan()))
    };
    let empty: Vec<_> = panels().into_iter().filter(|(_, expression)| !is_told(expression)).collect();
    assert!(empty.is_empty(), "{empty:#?}");
}
