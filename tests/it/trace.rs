//! Promise: the trace that a callback names goes with its message to Kafka, through the spool too, and with its dead
//! letter; what is no trace, and a choice between two, goes nowhere and costs the callback nothing.

use std::time::Duration;

use recording_bridge::config::SpoolConfig;
use recording_bridge::spool::Directory;

use crate::canaries::kept;
use crate::support_app::{Bridge, Broker, Setup, ask, body, eventually};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

/// A request with further lines in its head.
fn request(further: &str, body: &str) -> String {
    format!(
        "POST /callbacks/recording HTTP/1.1\r\nHost: bridge\r\n{further}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn post(bridge: &Bridge, further: &str, body: &str) {
    assert_eq!(ask(bridge.callbacks, request(further, body)).status(), 200, "{further}");
}

#[test]
fn a_trace_goes_with_the_message_and_what_is_none_is_ignored() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let cases = [
        (format!("traceparent: {TRACE}\r\n"), Some(TRACE)),
        (format!("TraceParent:   {TRACE}  \r\ntracestate: a=b\r\n"), Some(TRACE)),
        (String::new(), None),
        ("traceparent:\r\n".to_owned(), None),
        (format!("traceparent: {}\r\n", TRACE.to_uppercase()), None),
        (format!("traceparent: {TRACE}, {OTHER}\r\n"), None),
        (format!("traceparent: {TRACE}\r\ntraceparent: {OTHER}\r\n"), None),
        (format!("traceparent: {TRACE}\r\ntraceparent: {TRACE}\r\n"), None),
        (format!("traceparent: {TRACE}\r\ntraceparent: x\r\n"), None),
        ("tracestate: a=b\r\n".to_owned(), None),
    ];
    for (number, (further, _)) in cases.iter().enumerate() {
        post(&bridge, further, &body(&format!("s{number}")));
    }
    let records = broker.headers(cases.len());
    for (number, (further, expected)) in cases.iter().enumerate() {
        let record = records.iter().find(|headers| headers["ce_subject"] == format!("s{number}")).unwrap();
        assert_eq!(record.get("traceparent").map(String::as_str), *expected, "{further}");
        assert!(!record.contains_key("tracestate"));
    }
}

#[test]
fn a_trace_goes_through_the_spool_and_with_a_dead_letter() {
    let broker = Broker::start();
    broker.down();
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().to_owned();
    let setup = Setup::new(&broker).with(|config| {
        config.spool = SpoolConfig { directory: spool, disk_free_min: 0, ..SpoolConfig::default() };
        config.kafka.ack_deadline = Duration::from_millis(500);
    });
    let bridge = setup.start();
    let traced = format!("traceparent: {TRACE}\r\n");
    post(&bridge, &traced, &body("spooled"));
    post(&bridge, &traced, &body("spooled").replace("\"file_id\"", "\"no_file_id\""));
    let letters = kept(&Directory::at(folder.path().join("dead-letters")));
    let header = letters[0].headers().iter().find(|header| header.name == "traceparent").unwrap();
    assert_eq!(header.value, TRACE);
    broker.up();
    eventually("the event is published", || broker.published() > 0);
    assert_eq!(broker.headers(1)[0]["traceparent"], TRACE);
}
