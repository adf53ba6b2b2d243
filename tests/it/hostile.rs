//! The promises of the HTTP edge to everybody else while somebody abuses it: no client keeps a connection, memory, the
//! log or the process for longer than its deadlines say.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::time::Duration;

use recording_bridge::callback::Scope;
use recording_bridge::http::Network;

use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, PATH, Program, Setup, body, config_file, eventually, get, now, post,
};

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

// ------------------------------------------------------------------------------------------------------------ flooding

#[test]
fn refusals_of_old_and_new_requests_share_one_limit_of_log_lines() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let mut program =
        Program::serve(&config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], ""));
    program.ready();
    let address = program.address("callbacks");
    let begin = || {
        let mut client = Client::connect(address);
        client.write(format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: 2\r\n\r\n["));
        client
    };
    let mut old: Vec<Client> = (0..100).map(|_| begin()).collect();
    eventually("the old ones have begun", || program.metric("callbacks_in_flight") > 99.5);
    std::thread::sleep(Duration::from_millis(1100));
    let mut new: Vec<Client> = (0..100).map(|_| begin()).collect();
    eventually("the new ones have begun", || program.metric("callbacks_in_flight") > 199.5);
    let started = now();
    for (old, new) in old.iter_mut().zip(&mut new) {
        assert_eq!(old.ask("]").status(), 400);
        assert_eq!(new.ask("]").status(), 400);
    }
    // A second begun and a second not ended count in full.
    let seconds = (now() - started).as_secs() + 2;
    program.terminate();
    assert_eq!(program.exit_code(), 0);
    let lines = program.log().matches("\"message\":\"refused\"").count() as u64;
    assert!((20..=20 * seconds).contains(&lines), "{lines} lines in {seconds} s");
}

#[test]
fn bodies_that_never_end_have_a_bounded_part_of_the_memory() {
    const MIB: usize = 1024 * 1024;
    let broker = Broker::start();
    // Few large bodies stand for many small ones.
    let bridge = Setup::new(&broker).with(|config| config.http.body_bytes_max = 64 * MIB).start();
    let begin = |bytes: usize| {
        let mut client = bridge.client();
        client.write(format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n", bytes + 1));
        client.write(vec![b' '; bytes]);
        client
    };
    let hoarders = [begin(30 * MIB), begin(30 * MIB), begin(8 * MIB)];
    bridge.counted("callbacks_total{outcome=\"refused\",reason=\"too_many_in_flight\"}", 1.0);
    bridge.counted("callbacks_in_flight", 2.0);
    assert_eq!(bridge.post(body("small")).0, ACKNOWLEDGED, "real callbacks need no budget");
    // What was taken is given back, by those who leave and by those who end.
    drop(hoarders);
    bridge.counted("callbacks_in_flight", 0.0);
    for _ in 0..3 {
        assert_eq!(bridge.post(vec![b'x'; 30 * MIB]).status(), 400);
    }
    assert_eq!(bridge.outcome("refused", "too_many_in_flight"), 1.0);
}

#[test]
fn messages_that_wait_for_kafka_have_a_bounded_part_of_the_memory() {
    const CALLBACKS: u32 = 80;
    const BYTES: usize = 900_000;
    let broker = Broker::start();
    // Few large messages stand for many small ones, and neither the producer nor a deadline is what bounds them.
    let bridge = Setup::new(&broker)
        .with(|config| {
            config.http.body_bytes_max = 1 << 20;
            config.http.request_deadline = Duration::from_secs(500);
            config.kafka.ack_deadline = Duration::from_secs(400);
            config.kafka.watchdog = Duration::from_secs(450);
            config.kafka.queue_bytes_max = 1 << 30;
        })
        .start();
    broker.slow(Duration::from_secs(300));
    let refused = || bridge.outcome("refused", "too_many_in_flight");
    let waiting = || bridge.metric("kafka_outstanding_messages");
    let url = format!("http://{}", "long".repeat(BYTES / 4));
    let clients: Vec<Client> = (1..=CALLBACKS)
        .map(|number| {
            let mut client = bridge.client();
            client.write(post(body("large").replacen("http://", &url, 1)));
            // One after the other: unfinished bodies have a budget of their own.
            eventually("it waits or is refused", || refused() + waiting() > f64::from(number) - 0.5);
            client
        })
        .collect();
    // 64 MiB less what is free of every message.
    assert_eq!((waiting(), refused()), (74.0, 6.0));
    // Real ones need none of it.
    let mut small = bridge.client();
    small.write(post(body("small")));
    bridge.counted("kafka_outstanding_messages", 75.0);
    assert_eq!(refused(), 6.0);
    // Kafka never answers; the second request ends all waiting at once.
    bridge.shutdown.request();
    bridge.shutdown.request();
    bridge.counted("callbacks_in_flight", 0.0);
    drop((clients, small));
}

#[test]
fn connections_that_the_system_cannot_give_are_counted_and_wait() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], "");
    let program = Program::serve(&config);
    program.ready();
    let address = program.address("callbacks");
    program.limit_files(Some(3));
    let mut client = Client::connect(address);
    client.write(post(body("waiting")));
    program.says("connections cannot be accepted");
    program.limit_files(None);
    assert_eq!(client.answer().0, ACKNOWLEDGED);
    assert!(program.metric("connections_refused_total{reason=\"not_accepted\"}") > 0.5);
}

#[test]
fn connections_leave_descriptors_for_everything_else() {
    const PLACES: u16 = 64;
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], "");
    let program = Program::serve_with_files(&config, 256 + u64::from(PLACES));
    program.ready();
    program.says("too few open files are allowed for http.connections_max");
    let address = program.address("callbacks");
    let crowd: Vec<Client> = (0..PLACES + 10).map(|_| Client::connect(address)).collect();
    eventually("those beyond the places take those of others", || {
        program.metric("connections_evicted_total{reason=\"limit\"}") > 9.5
    });
    assert_eq!(program.metric("connections"), f64::from(PLACES));
    drop(crowd);
}

// -------------------------------------------------------------------------------------------------------------- health

#[test]
fn the_health_path_takes_well_framed_reads_from_anywhere_and_nothing_else() {
    let broker = Broker::start();
    let other = Network::parse("10.0.0.0/8").expect("a network");
    let bridge = Setup::new(&broker).with(|config| config.http.allowed_networks = vec![other]).start();
    let ready = "HTTP/1.1 200 OK\r\n";
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n", ready),
        ("HEAD /healthz HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n", ready),
        ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /healthz HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n", "HTTP/1.1 400 "),
        ("GET http://other/healthz HTTP/1.1\r\nHost: bridge\r\n\r\n", "HTTP/1.1 400 "),
        ("POST /healthz HTTP/1.1\r\nHost: bridge\r\nContent-Length: 2\r\n\r\n[]", "HTTP/1.1 405 "),
        ("DELETE /healthz HTTP/1.1\r\nHost: bridge\r\n\r\n", "HTTP/1.1 405 "),
    ] {
        let mut client = bridge.client();
        client.write(request);
        let answer = client.rest();
        assert!(answer.starts_with(status), "{request}: {answer}");
        assert_eq!(answer.contains("allow: GET, HEAD\r\n"), status.contains("405"), "{request}: {answer}");
    }
    assert_eq!(bridge.metric("callbacks_received_total"), 0.0, "none of these is a callback");
}
