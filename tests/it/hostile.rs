//! The promises of the HTTP edge to everybody else while somebody abuses it: no client keeps a connection, memory, the
//! log or the process for longer than its deadlines say.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::time::Duration;

use crate::support_app::{ACKNOWLEDGED, Bridge, Broker, Client, Setup, body, get, now, post};

// ----------------------------------------------------------------------------------------------------- never reading

#[test]
fn a_client_that_never_reads_is_dropped_long_before_the_age_of_its_connection() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.http.header_deadline = Duration::from_secs(1)).start();
    let mut deaf = bridge.client();
    deaf.stuff(post("[]"));
    bridge.counted("connections", 0.0);
    assert_eq!(bridge.metric("connection_faults_total{reason=\"broken\"}"), 1.0);
    assert_eq!(bridge.post(body("next")).0, ACKNOWLEDGED);
}

#[test]
fn a_connection_beyond_its_age_ends_whatever_its_client_does() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker)
        .with(|config| {
            config.http.connection_age_max = Duration::from_secs(2);
            config.http.header_deadline = Duration::from_secs(3);
            config.http.request_deadline = Duration::from_secs(1);
        })
        .start();
    let mut deaf = bridge.client();
    deaf.stuff(post("[]"));
    bridge.counted("connections", 0.0);
}

#[test]
fn an_operator_who_never_reads_cannot_keep_the_process() {
    let broker = Broker::start();
    let mut bridge = Bridge::start(&broker);
    let mut deaf = Client::connect(bridge.admin);
    deaf.stuff(get("/metrics"));
    let started = now();
    bridge.stop();
    let taken = now() - started;
    assert!(taken < Duration::from_millis(3500), "the end took {taken:?}");
}
