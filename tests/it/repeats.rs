//! Promise: a callback that is sent again is published once, and its 200 still means that the event is safe. Whatever
//! takes that safety away (a refusal, a damaged spool, time) makes the next repeat a delivery of its own.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr as Code;
use recording_bridge::callback::{self, Key, Keyring, Normalised, Published, Redaction, Scope, Window};
use recording_bridge::clock::SystemClock;
use recording_bridge::config::SpoolConfig;
use recording_bridge::delivery::{self, Delivery, DeliveryError, Spools, window};
use recording_bridge::event::Timestamp;
use recording_bridge::kafka::{Observer, ProbeError, Producer, Producers, Purpose, SendError, StartError};
use recording_bridge::message::Message;
use recording_bridge::metrics::Metrics;
use recording_bridge::spool::{self, Spool};

use crate::support::faulty_storage::{FaultyStorage, Trouble};
use crate::support::spool::small;
use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, Setup, ask, body, epoch_seconds, eventually, facts, get, post, series,
    signature,
};

/// A broker takes this long where a test needs a message that is in flight.
const SLOW: Duration = Duration::from_secs(2);

/// The same facts, signed anew as the provider does for each attempt.
fn signed(facts: &str, later: i64) -> String {
    let t = (epoch_seconds() + 600 + later).to_string();
    format!(r#"{{{facts},"t":{t},"sign":"{}"}}"#, signature(KEY, &t))
}

fn outcomes(expected: &[(&str, u32)]) -> BTreeMap<String, f64> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), f64::from(*count))).collect()
}

/// A gauge as operators see it.
fn gauge(bridge: &Bridge, name: &str) -> f64 {
    series(ask(bridge.admin, get("/metrics")).body())[&format!("recording_bridge_{name}")]
}

fn with_spool(broker: &Broker, folder: &Path) -> Setup {
    Setup::new(broker).with(|config| {
        config.kafka.ack_deadline = Duration::from_millis(500);
        config.spool = SpoolConfig {
            enabled: true,
            directory: folder.to_owned(),
            bytes_max: 256 << 20,
            disk_free_min: 0,
            dead_letter_bytes_max: 16 << 20,
            ..SpoolConfig::default()
        };
    })
}

/// Waits until events go straight to Kafka: the spool has been published.
fn direct(bridge: &Bridge) {
    bridge.counted("delivery_state{state=\"direct\"}", 1.0);
}

#[test]
fn a_callback_that_is_sent_again_is_published_once() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let facts = facts("again");
    for later in 0..3 {
        assert_eq!(bridge.post(signed(&facts, later)).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 1), ("duplicate repeat", 2)]));
    assert_eq!(bridge.metric("conflicts_total"), 0.0);
    assert_eq!(broker.published(), 1);
    assert_eq!(gauge(&bridge, "repeats_entries"), 1.0);
    assert_eq!(gauge(&bridge, "repeats_entries_max"), 65_536.0);
}

#[test]
fn a_repeat_of_a_callback_in_flight_waits_for_its_outcome() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.kafka.ack_deadline = SLOW * 5).start();
    assert_eq!(bridge.post(body("first, so that the producer knows its brokers")).0, ACKNOWLEDGED);
    broker.slow(SLOW);
    let facts = facts("twice");
    let (mut first, mut second) = (bridge.client(), bridge.client());
    first.write(post(signed(&facts, 0)));
    bridge.counted("kafka_outstanding_messages", 1.0);
    second.write(post(signed(&facts, 1)));
    bridge.counted("callbacks_in_flight", 2.0);
    assert_eq!(bridge.outcome("duplicate", "repeat"), 0.0);
    assert_eq!([first.answer().0, second.answer().0], [ACKNOWLEDGED; 2]);
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 2), ("duplicate repeat", 1)]));
    assert_eq!(broker.published(), 2);
}

#[test]
fn a_repeat_shares_the_refusal_of_a_callback_in_flight_and_the_next_one_is_published() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.kafka.ack_deadline = SLOW).start();
    broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
    let facts = facts("refused");
    let (mut first, mut second) = (bridge.client(), bridge.client());
    first.write(post(signed(&facts, 0)));
    bridge.counted("kafka_outstanding_messages", 1.0);
    second.write(post(signed(&facts, 1)));
    bridge.counted("callbacks_in_flight", 2.0);
    assert_eq!([first.answer().status(), second.answer().status()], [503; 2]);
    assert_eq!(bridge.outcomes(), outcomes(&[("refused ack_deadline", 2)]));
    assert_eq!(gauge(&bridge, "repeats_entries"), 0.0);
    // Kafka takes it after all, but the callback was refused: its repeat is a delivery of its own.
    broker.mend_produce();
    bridge.counted("delivered_after_refusal_total", 1.0);
    assert_eq!(bridge.post(signed(&facts, 2)).0, ACKNOWLEDGED);
    assert_eq!(bridge.outcomes(), outcomes(&[("refused ack_deadline", 2), ("accepted kafka", 1)]));
    assert_eq!(broker.published(), 2);
}

#[test]
fn a_request_deadline_ends_the_waiting_and_not_the_claim() {
    let broker = Broker::start();
    // No file can say so: the deadline of a request comes first where a spool hangs.
    let bridge = Setup::new(&broker)
        .with(|config| {
            config.http.request_deadline = Duration::from_millis(500);
            // A producer that has to ask for everything at this pace must not run into it.
            config.kafka.ack_deadline = SLOW * 9;
        })
        .start();
    let facts = facts("overtime");
    broker.slow(SLOW);
    for later in 0..2 {
        assert_eq!(bridge.post(signed(&facts, later)).status(), 503);
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("refused request_deadline", 2)]));
    bridge.counted("delivered_after_refusal_total", 1.0);
    assert_eq!(bridge.post(signed(&facts, 2)).0, ACKNOWLEDGED);
    assert_eq!(bridge.outcomes(), outcomes(&[("refused request_deadline", 2), ("duplicate repeat", 1)]));
    broker.slow(Duration::ZERO);
    assert_eq!(broker.published(), 1);
}

#[test]
fn changed_facts_are_published_with_a_word_of_conflict_and_remembered_too() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let facts = facts("changed");
    let other = facts.replace("43911385", "43911386");
    for version in [&facts, &other, &other, &facts] {
        assert_eq!(bridge.post(signed(version, 0)).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 2), ("duplicate repeat", 2)]));
    assert_eq!(bridge.metric("conflicts_total"), 1.0);
    let records = broker.headers(2);
    let header = |record: usize, name: &str| records[record].get(name).cloned();
    assert_eq!(header(0, "ce_id"), header(1, "ce_id"));
    assert_ne!(header(0, "facts_digest"), header(1, "facts_digest"));
    assert_eq!((header(0, "conflict"), header(1, "conflict")), (None, header(0, "facts_digest")));
}

#[test]
fn a_repeat_of_a_spooled_event_is_not_spooled_again() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let bridge = with_spool(&broker, folder.path()).start();
    broker.down();
    let facts = facts("spooled");
    for later in 0..3 {
        assert_eq!(bridge.post(signed(&facts, later)).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted spool", 1), ("duplicate repeat", 2)]));
    assert_eq!(gauge(&bridge, "spool_frames"), 1.0);
    broker.up();
    direct(&bridge);
    assert_eq!(bridge.post(signed(&facts, 3)).0, ACKNOWLEDGED);
    assert_eq!(bridge.metric("spool_drained_total"), 1.0);
    assert_eq!(bridge.outcome("duplicate", "repeat"), 3.0);
}

#[test]
fn a_repeat_of_a_spooled_event_whose_frame_is_damaged_is_published() {
    // On a busy machine the drain may have come to the damage before the repeat does.
    assert!((0..5).any(|_| repeat_a_damaged_frame()), "the drain was always faster");
}

/// Gives whether the drain had not found the damage yet when the first repeat came.
fn repeat_a_damaged_frame() -> bool {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let bridge = with_spool(&broker, folder.path()).start();
    broker.down();
    // One stream, so that the drain can hold but 1 MiB of this in memory and has to read the rest again; so much of
    // it that the first segment is full.
    let large = |_| facts("damaged").replace("bucket.example.com", &"long.".repeat(10_000));
    let all: Vec<String> = (0..200).map(large).collect();
    let mut client = bridge.client();
    for facts in &all {
        assert_eq!(client.ask(post(signed(facts, 0))).0, ACKNOWLEDGED);
    }
    // Behind the 1 MiB that the drain reads at once: it must not come to the damage before the repeat does.
    let (damaged, sound) = (&all[33], &all[34]);
    corrupt(&folder.path().join("0000000000000001.segment"), damaged);
    assert_eq!(bridge.post(signed(damaged, 1)).0, ACKNOWLEDGED);
    let is_unknown = bridge.outcome("duplicate", "repeat") == 1.0;
    // A damaged frame is no reason to call anything a repeat.
    assert_eq!(bridge.outcome("accepted", "spool"), if is_unknown { 200.0 } else { 201.0 }, "{:?}", bridge.outcomes());
    broker.up();
    direct(&bridge);
    assert_eq!(gauge(&bridge, "spool_damaged_stretches"), 1.0);
    let before = (bridge.outcome("accepted", "kafka"), broker.published());
    for facts in [damaged, damaged, sound] {
        assert_eq!(bridge.post(signed(facts, 2)).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.outcome("duplicate", "repeat"), 3.0);
    // Otherwise the first repeat had been spooled, and published with the rest.
    let (again, published) = if is_unknown { (1.0, 1) } else { (0.0, 0) };
    assert_eq!((bridge.outcome("accepted", "kafka"), broker.published()), (before.0 + again, before.1 + published));
    is_unknown
}

/// Changes one byte of the frame that tells these facts.
fn corrupt(segment: &Path, facts: &str) {
    let file_id = facts.split("\"file_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let mut bytes = fs::read(segment).unwrap();
    let at = bytes.windows(file_id.len()).position(|window| window == file_id.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(segment, bytes).unwrap();
}

#[test]
fn after_the_period_a_repeat_is_published_again() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.repeats.period = Duration::from_secs(1)).start();
    let facts = facts("late");
    for later in 0..2 {
        assert_eq!(bridge.post(signed(&facts, later)).0, ACKNOWLEDGED);
    }
    eventually("the entry has expired", || gauge(&bridge, "repeats_entries") == 0.0);
    assert_eq!(bridge.post(signed(&facts, 2)).0, ACKNOWLEDGED);
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 2), ("duplicate repeat", 1)]));
    assert_eq!(broker.published(), 2);
    assert_eq!(gauge(&bridge, "repeats_covered_seconds"), 1.0);
}

#[test]
fn without_entries_every_repeat_is_published() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.repeats.entries_max = 0).start();
    let facts = facts("off");
    for later in 0..2 {
        assert_eq!(bridge.post(signed(&facts, later)).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 2)]));
    assert_eq!(broker.published(), 2);
}

#[test]
fn many_at_once_are_published_once() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    for _ in 0..20 {
        let facts = facts("crowd");
        thread::scope(|scope| {
            for later in 0..8 {
                let request = post(signed(&facts, later));
                scope.spawn(|| assert_eq!(Client::connect(bridge.callbacks).ask(request).0, ACKNOWLEDGED));
            }
        });
    }
    assert_eq!(bridge.outcomes(), outcomes(&[("accepted kafka", 20), ("duplicate repeat", 140)]));
    assert_eq!(broker.published(), 20);
}

/// Producers that take messages and never say what became of them.
struct Silent;

impl Producer for Silent {
    fn send(&self, _token: u64, _message: &Message) -> Result<(), SendError> {
        Ok(())
    }

    fn probe(&self, _deadline: Duration) -> Result<(), ProbeError> {
        Ok(())
    }

    fn close(self: Arc<Self>) {}
}

impl Producers for Silent {
    fn check(&self) -> Result<(), StartError> {
        Ok(())
    }

    fn start(&self, _: u64, _: Purpose, _: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        Ok(Arc::new(Self))
    }
}

/// The message of a callback with these facts.
fn message(facts: &str) -> Message {
    let keyring = Keyring::new(vec![Key::new("live", KEY, Scope::default())]);
    let config = callback::Config::new(Vec::new());
    let now = Timestamp::from_seconds(epoch_seconds().unsigned_abs(), 0).unwrap();
    let body = signed(facts, 0);
    let authentic = callback::authenticate(body.as_bytes(), &keyring, Window::new(&config), now).unwrap();
    match authentic.normalise(&Redaction::new(&[]), Published::default()).unwrap() {
        Normalised::Recording { event, .. } => Message::encode(&event, now),
        Normalised::Notice { .. } | Normalised::Ignored(_) => panic!("it is a recording"),
    }
}

fn open_spool(storage: &FaultyStorage) -> Spool<FaultyStorage> {
    let limits = spool::Config { bytes_max: 1 << 20, segment_bytes: 1 << 16, ..small(1) };
    Spool::open(storage.clone(), limits).unwrap()
}

#[test]
fn while_a_spool_cannot_write_nobody_vouches_for_what_rests_on_it() {
    let storage = FaultyStorage::new(1);
    let spools = Spools { messages: open_spool(&storage), dead_letters: open_spool(&FaultyStorage::new(2)) };
    let settings = delivery::Config {
        ack_deadline: Duration::from_millis(100),
        watchdog: Duration::from_secs(60),
        repeats: window::Config::default(),
    };
    let metrics = Arc::new(Metrics::new(&[], &[], ""));
    let delivery =
        Delivery::start(Box::new(Silent), None, Some(spools), metrics, Arc::new(SystemClock), settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accepted_at = Timestamp::from_seconds(0, 0).unwrap();
    let deliver = |facts: &str| {
        let receipt = runtime.block_on(delivery.deliver(message(facts), accepted_at));
        receipt.map(|receipt| receipt.is_repeat())
    };
    let (one, other) = (facts("vouched"), facts("other"));
    assert_eq!([deliver(&one), deliver(&one)], [Ok(false), Ok(true)]);
    for step in 0..10_000 {
        storage.plan(storage.steps() + step, Trouble::Error);
    }
    assert_eq!(deliver(&other), Err(DeliveryError::SpoolUnhealthy));
    assert_eq!(deliver(&one), Err(DeliveryError::SpoolUnhealthy));
    storage.heal();
    eventually("the spool is well", || deliver(&one).is_ok());
    assert_eq!(deliver(&one), Ok(true));
    delivery.stop(Duration::ZERO, || true);
}
