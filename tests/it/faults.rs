//! Faults of Kafka promise: nothing is answered with 200 that is not in the topic, every other answer is a 503 in time
//! which leaves the callback to its sender, and the bridge heals by itself.
//!
//! The broker is librdkafka's mock cluster, which fails on demand and proves nothing about durability.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr as Code;

use crate::support_app::{ACKNOWLEDGED, Bridge, Broker, Client, Setup, ask, body, eventually, get, now, post};

/// Long enough for a broker that answers, short enough for one that does not.
const ACK_DEADLINE: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_secs(5);
/// What the sender gets for every fault of ours.
const KEEP_IT: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 60\r\n\
    content-length: 54\r\n\r\n{\"code\":503,\"message\":\"not stored, please send again\"}";

fn impatient(broker: &Broker) -> Setup {
    Setup::new(broker).with(|config| config.kafka.ack_deadline = ACK_DEADLINE)
}

/// Posts a callback that must be refused at the deadline of the acknowledgement, neither before nor long after.
fn refused_at_the_deadline(bridge: &Bridge, stream: &str) {
    let started = now();
    assert_eq!(bridge.post(body(stream)).0, KEEP_IT);
    let taken = now() - started;
    assert!(taken >= ACK_DEADLINE && taken < ACK_DEADLINE + MARGIN, "{taken:?}");
}

/// Posts the same callback as the sender does, again and again until it gets a 200.
fn accepted_in_the_end(bridge: &Bridge, stream: &str) {
    let request = body(stream);
    eventually("a retry is accepted", || bridge.post(&request).0 == ACKNOWLEDGED);
}

#[test]
fn a_passing_error_of_the_broker_is_retried_and_the_callback_accepted() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    for error in [
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        broker.fail_produce(&[error, error]);
        assert_eq!(bridge.post(body("patient")).0, ACKNOWLEDGED, "{error:?}");
    }
    assert_eq!(bridge.outcomes(), BTreeMap::from([("accepted kafka".to_owned(), 5.0)]));
    assert_eq!(bridge.metric("delivered_after_refusal_total"), 0.0);
    assert_eq!(broker.streams(5), ["patient"; 5]);
}

#[test]
fn an_error_that_lasts_is_a_503_at_the_deadline_and_a_late_delivery_is_counted_apart() {
    let broker = Broker::start();
    let bridge = impatient(&broker).start();
    broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
    refused_at_the_deadline(&bridge, "late");
    assert_eq!(bridge.metric("delivered_after_refusal_total"), 0.0);
    broker.mend_produce();
    bridge.counted("delivered_after_refusal_total", 1.0);
    bridge.counted("kafka_outstanding_messages", 0.0);
    assert_eq!(bridge.outcomes(), BTreeMap::from([("refused ack_deadline".to_owned(), 1.0)]), "it stays refused");
    assert_eq!(broker.streams(1), ["late"]);
}

#[test]
fn a_broker_slower_than_the_deadline_gets_its_callbacks_refused_and_counted_when_it_delivers() {
    let broker = Broker::start();
    let bridge = impatient(&broker).start();
    broker.slow(ACK_DEADLINE * 3);
    refused_at_the_deadline(&bridge, "slow");
    bridge.counted("delivered_after_refusal_total", 1.0);
    broker.slow(Duration::ZERO);
    accepted_in_the_end(&bridge, "fast");
    assert_eq!(
        bridge.outcome("refused", "ack_deadline") + bridge.outcome("accepted", "kafka"),
        bridge.metric("callbacks_received_total")
    );
}

#[test]
fn a_message_that_the_broker_refuses_is_a_503_and_the_bridge_goes_on() {
    for (error, failure) in [
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "not_authorised"),
        (Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "message_too_large"),
        (Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, "invalid_record"),
        (Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, "invalid_timestamp"),
    ] {
        let broker = Broker::start();
        let bridge = Bridge::start(&broker);
        broker.fail_produce(&[error]);
        assert_eq!(bridge.post(body("refused")).0, KEEP_IT, "{error:?}");
        // Whether the report or the end of its producer comes first is a matter of microseconds.
        let refused = bridge.outcome("refused", "kafka_refused") + bridge.outcome("refused", "producer_fatal");
        assert_eq!(refused, 1.0, "{error:?}: {:?}", bridge.outcomes());
        bridge.counted(&format!("kafka_delivery_failures_total{{failure=\"{failure}\"}}"), 1.0);
        // A message that will never arrive is a gap, and a gap ends a producer. The next one is counted when it is asked for,
        // a moment before it is there.
        bridge.counted("kafka_producer_rebuilds_total{reason=\"fatal\"}", 1.0);
        accepted_in_the_end(&bridge, "next");
        assert_eq!(broker.streams(1), ["next"], "{error:?}");
        assert_eq!(broker.published(), 1, "{error:?}");
    }
}

#[test]
fn a_message_that_the_broker_takes_for_a_repeat_of_another_is_not_safe() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    assert_eq!(bridge.post(body("first")).0, ACKNOWLEDGED);
    // To librdkafka this is a success. The mock keeps nothing of what it answers so.
    broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
    assert_eq!(bridge.post(body("second")).0, KEEP_IT);
    assert_eq!(broker.published(), 1);
    bridge.counted("kafka_delivery_failures_total{failure=\"no_offset\"}", 1.0);
    // Who has lost count is replaced.
    bridge.counted("kafka_producer_rebuilds_total{reason=\"fatal\"}", 1.0);
    accepted_in_the_end(&bridge, "second");
    assert_eq!(broker.streams(2), ["first", "second"]);
}

#[test]
fn a_message_that_was_refused_is_not_safe_because_a_later_one_is() {
    for error in [Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION] {
        let broker = Broker::start();
        // The producer is fresh: the broker, like the mock, takes its messages from any number on.
        let bridge = Bridge::start(&broker);
        broker.slow(Duration::from_millis(200));
        broker.fail_produce(&[error]);
        let mut clients = [body("stream"), body("stream")].map(|body| {
            let mut client = bridge.client();
            client.write(post(body));
            // While the first waits for its answer.
            std::thread::sleep(Duration::from_millis(50));
            client
        });
        for client in &mut clients {
            assert_eq!(client.answer().0, ACKNOWLEDGED, "{error:?}");
        }
        assert_eq!(bridge.metric("kafka_delivery_failures_total{failure=\"no_offset\"}"), 0.0, "{error:?}");
        assert_eq!(broker.published(), 2, "{error:?}: both were acknowledged");
    }
}

#[test]
fn without_brokers_callbacks_are_refused_in_time_and_accepted_again_without_a_restart() {
    let broker = Broker::start();
    let bridge = impatient(&broker).start();
    accepted_in_the_end(&bridge, "before");
    let before = bridge.outcome("refused", "ack_deadline");
    broker.down();
    let mut clients: Vec<Client> = (0..20).map(|_| bridge.client()).collect();
    let started = now();
    for client in &mut clients {
        client.write(post(body("during")));
    }
    for mut client in clients {
        assert_eq!(client.answer().0, KEEP_IT);
    }
    assert!(now() - started < ACK_DEADLINE + MARGIN, "{:?}", now() - started);
    assert_eq!(bridge.outcome("refused", "ack_deadline") - before, 20.0);
    broker.up();
    accepted_in_the_end(&bridge, "after");
    bridge.counted("kafka_outstanding_messages", 0.0);
    // What was refused has reached the topic all the same, once each, and is counted as that.
    bridge.counted("delivered_after_refusal_total", bridge.outcome("refused", "ack_deadline"));
    assert_eq!(bridge.metric("kafka_producer_rebuilds_total{reason=\"fatal\"}"), 0.0);
    let accepted = bridge.outcome("accepted", "kafka") + bridge.metric("delivered_after_refusal_total");
    assert_eq!(f64::from(i32::try_from(broker.published()).expect("a few")), accepted);
}

#[test]
fn a_fatal_error_costs_one_callback_and_one_producer() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    // A sequence number can only be out of order behind another one.
    assert_eq!(bridge.post(body("first")).0, ACKNOWLEDGED);
    broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    assert_eq!(bridge.post(body("fatal")).0, KEEP_IT);
    let refused = || bridge.outcome("refused", "producer_fatal") + bridge.outcome("refused", "kafka_refused");
    assert_eq!(refused(), 1.0, "{:?}", bridge.outcomes());
    bridge.counted("kafka_producer_rebuilds_total{reason=\"fatal\"}", 1.0);
    // The new producer is counted a moment before it is there.
    accepted_in_the_end(&bridge, "after-0");
    for number in 1..10 {
        assert_eq!(bridge.post(body(&format!("after-{number}"))).0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.metric("kafka_producer_rebuilds_total{reason=\"fatal\"}"), 1.0);
    assert_eq!(bridge.outcome("accepted", "kafka"), 11.0);
    assert_eq!(broker.published(), 11);
}

#[test]
fn fatal_errors_one_after_another_are_each_healed() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    for round in 1..=3 {
        accepted_in_the_end(&bridge, "between");
        broker.fail_produce(&[Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        assert_eq!(bridge.post(body("fatal")).0, KEEP_IT);
        bridge.counted("kafka_producer_rebuilds_total{reason=\"fatal\"}", f64::from(round));
    }
    accepted_in_the_end(&bridge, "last");
}

#[test]
fn a_full_queue_is_an_answer_at_once() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker)
        .with(|config| {
            // The least that librdkafka takes is 1 KiB, less than two messages.
            config.kafka.queue_bytes_max = 1024;
            config.kafka.ack_deadline = Duration::from_secs(8);
        })
        .start();
    broker.down();
    let mut waiting = bridge.client();
    waiting.write(post(body("waiting")));
    bridge.counted("kafka_outstanding_messages", 1.0);
    let started = now();
    eventually("the queue is full", || {
        // What is queued would be answered at the deadline, so nobody waits for it.
        bridge.client().write(post(body("too much")));
        bridge.outcome("refused", "queue_full") > 0.5
    });
    assert_eq!(bridge.post(body("too much")).0, KEEP_IT);
    assert!(now() - started < Duration::from_secs(7), "{:?}", now() - started);
    broker.up();
    assert_eq!(waiting.answer().0, ACKNOWLEDGED);
    accepted_in_the_end(&bridge, "room again");
}

#[test]
fn silence_of_a_connected_broker_gets_the_producer_replaced() {
    let broker = Broker::start();
    let bridge = impatient(&broker).with(|config| config.kafka.watchdog = Duration::from_secs(2)).start();
    broker.slow(Duration::from_secs(600));
    refused_at_the_deadline(&bridge, "lost");
    bridge.counted("kafka_producer_rebuilds_total{reason=\"watchdog\"}", 1.0);
    broker.slow(Duration::ZERO);
    accepted_in_the_end(&bridge, "found");
    assert_eq!(ask(bridge.admin, get("/live")).status(), 200);
}

// -------------------------------------------------------------------------------------------------------- readiness

/// The status of `/ready` and of the health path, which always agree.
fn readiness(bridge: &Bridge) -> u16 {
    let status = || (ask(bridge.admin, get("/ready")).status(), ask(bridge.callbacks, get("/healthz")).status());
    // They may be asked on two sides of a change.
    eventually("both say the same", || {
        let (admin, callbacks) = status();
        admin == callbacks
    });
    assert_eq!(ask(bridge.admin, get("/live")).body(), "live\n");
    ask(bridge.admin, get("/ready")).status()
}

#[test]
fn readiness_follows_the_brokers_and_liveness_does_not() {
    let broker = Broker::start();
    let bridge = impatient(&broker).start();
    assert_eq!(readiness(&bridge), 200);
    broker.down();
    eventually("not ready without brokers", || readiness(&bridge) == 503);
    let verdict = "not ready: no event could be made safe now\n";
    assert_eq!(ask(bridge.callbacks, get("/healthz")).body(), verdict, "strangers are told no more");
    eventually("operators are told why", || {
        ask(bridge.admin, get("/ready"))
            .body()
            .strip_prefix(verdict)
            .is_some_and(|why| why.starts_with("Kafka does not take events: "))
    });
    assert_eq!(bridge.metric("ready"), 0.0);
    broker.up();
    eventually("ready with brokers", || readiness(&bridge) == 200);
    // Probes are no callbacks.
    assert_eq!(bridge.metric("callbacks_received_total"), 0.0);
}

#[test]
fn without_brokers_at_the_start_the_bridge_runs_and_becomes_ready_when_they_come() {
    let broker = Broker::start();
    broker.down();
    let bridge = impatient(&broker).start_unready();
    assert_eq!(readiness(&bridge), 503);
    refused_at_the_deadline(&bridge, "early");
    broker.up();
    eventually("ready with brokers", || readiness(&bridge) == 200);
    accepted_in_the_end(&bridge, "then");
}

#[test]
fn a_missing_topic_is_not_created_and_not_ready() {
    let broker = Broker::without_topic();
    let bridge = impatient(&broker).start_unready();
    refused_at_the_deadline(&bridge, "nowhere");
    assert_eq!(readiness(&bridge), 503);
    broker.create_topic();
    eventually("ready with the topic", || readiness(&bridge) == 200);
    accepted_in_the_end(&bridge, "somewhere");
}

#[test]
fn a_topic_that_may_not_be_seen_is_not_ready() {
    let broker = Broker::start();
    let bridge = impatient(&broker).start();
    broker.fail_topic(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    eventually("not ready", || readiness(&bridge) == 503);
    broker.fail_topic(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
    eventually("ready again", || readiness(&bridge) == 200);
}
