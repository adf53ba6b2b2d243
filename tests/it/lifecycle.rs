//! The program promises: it starts without Kafka and says so, stops without losing a callback, changes its keys
//! without a restart, and every command ends with an exit code that a script can use: 0, 1 for a failure, 64 for a
//! mistake in the usage or the configuration.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use recording_bridge::callback::Scope;
use serde_json::Value;

use crate::support_app::{
    ACKNOWLEDGED, Broker, Client, KEY, PATH, Program, Setup, TOPIC, ask, body, body_signed, config_file, eventually,
    get, now, post,
};

const OTHER_KEY: &str = "anotherKeyOfTheTests4567";
/// Nobody listens on this port, and nobody is given it.
const NOBODY: &str = "127.0.0.1:1";
const QUICK: &str = "shutdown: {drain_delay: 0s, grace: 20s}\n";

/// A folder with a configuration of one key.
struct Folder {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Folder {
    fn new(broker: &str, further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config_file(folder.path(), broker, &[("live", KEY, Scope::default())], further);
        Self { folder, config }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn config(&self) -> String {
        self.config.display().to_string()
    }
}

fn faulty(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/faulty").join(name).display().to_string()
}

/// Exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut program = Program::start(arguments);
    let code = program.exit_code();
    (code, program.out(), program.log())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

// ------------------------------------------------------------------------------------------------- start and stop

#[test]
fn callbacks_under_way_get_their_200_after_sigterm_and_nobody_else_is_let_in() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), QUICK);
    let mut program = Program::serve(&folder.config);
    program.ready();
    let address = program.address("callbacks");
    assert_eq!(ask(address, post(body("first"))).0, ACKNOWLEDGED);
    // They go in two requests or three, one after the other.
    broker.slow(Duration::from_secs(1));
    let mut under_way: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    for client in &mut under_way {
        client.write(post(body("under-way")));
    }
    let mut idle = Client::connect(address);
    eventually("all are in flight", || (program.metric("callbacks_in_flight") - 10.0).abs() < 0.5);
    program.terminate();
    program.says("asked to stop");
    assert_eq!(idle.rest(), "", "an idle connection is closed");
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    assert_eq!(program.metric("callbacks_in_flight"), 10.0, "and they are still being worked on");
    for mut client in under_way {
        let answer = client.answer().0.replace("connection: close\r\n", "");
        assert_eq!(answer, ACKNOWLEDGED);
    }
    assert_eq!(program.exit_code(), 0, "{}", program.log());
    assert!(program.log().contains("\"message\":\"stopped\""), "{}", program.log());
    broker.slow(Duration::ZERO);
    assert_eq!(broker.streams(11).len(), 11);
    assert_eq!(broker.published(), 11);
}

#[test]
fn while_load_balancers_look_elsewhere_callbacks_are_still_taken() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), "shutdown: {drain_delay: 2s, grace: 20s}\n");
    let mut program = Program::serve(&folder.config);
    program.ready();
    let address = program.address("callbacks");
    program.terminate();
    let admin = program.address("admin");
    eventually("not ready while draining", || ask(admin, get("/ready")).status() == 503);
    assert_eq!(ask(address, get("/healthz")).status(), 503);
    assert_eq!(ask(admin, get("/live")).status(), 200);
    assert_eq!(ask(address, post(body("late"))).0, ACKNOWLEDGED);
    assert_eq!(program.exit_code(), 0, "{}", program.log());
    assert_eq!(broker.streams(1), ["late"]);
}

#[test]
fn a_short_grace_still_covers_every_request_up_to_its_deadline() {
    let broker = Broker::start();
    let further = "shutdown: {drain_delay: 0s, grace: 4s}\nhttp: {listen: '127.0.0.1:0', request_deadline: 3s, header_deadline: 2s}\n";
    let kafka = format!("kafka: {{brokers: ['{}'], topic: {TOPIC}, ack_deadline: 2s}}\n", broker.address());
    let folder = Folder::new(&broker.address(), &format!("{further}{kafka}"));
    let mut program = Program::serve(&folder.config);
    program.ready();
    let address = program.address("callbacks");
    let mut client = Client::connect(address);
    assert_eq!(client.ask(post(body("first"))).0, ACKNOWLEDGED);
    let request = post(body("short"));
    let (half, rest) = request.split_at(request.len() / 2);
    client.write(half);
    eventually("in flight", || program.metric("callbacks_in_flight") > 0.5);
    program.terminate();
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    client.write(rest);
    assert_eq!(client.answer().0.replace("connection: close\r\n", ""), ACKNOWLEDGED);
    assert_eq!(program.exit_code(), 0, "{}", program.log());
}

#[test]
fn a_second_signal_ends_it_at_once_whatever_it_waits_for() {
    // A slow broker: callbacks are under way. No broker at all: messages wait in the producer.
    for lost in [false, true] {
        let broker = Broker::start();
        let kafka = format!(
            "kafka: {{brokers: ['{}'], topic: {TOPIC}, ack_deadline: {}}}\n",
            broker.address(),
            if lost { "200ms" } else { "14s" }
        );
        let folder = Folder::new(&broker.address(), &format!("shutdown: {{drain_delay: 0s, grace: 60s}}\n{kafka}"));
        let mut program = Program::serve(&folder.config);
        program.ready();
        let mut client = Client::connect(program.address("callbacks"));
        if lost {
            broker.down();
            assert_eq!(client.ask(post(body("lost"))).status(), 503);
        } else {
            broker.slow(Duration::from_secs(60));
            client.write(post(body("slow")));
            eventually("in flight", || program.metric("callbacks_in_flight") > 0.5);
        }
        program.terminate();
        program.says("asked to stop");
        program.terminate();
        let started = now();
        assert_eq!(program.exit_code(), 0, "{}", program.log());
        assert!(now() - started < Duration::from_secs(8), "lost {lost}: {:?}\n{}", now() - started, program.log());
    }
}

#[test]
fn it_starts_without_a_broker_and_says_so() {
    let folder = Folder::new(NOBODY, QUICK);
    let mut program = Program::serve(&folder.config);
    let admin = program.address("admin");
    program.says("Kafka does not take events");
    assert_eq!(ask(admin, get("/live")).status(), 200);
    assert_eq!(ask(admin, get("/ready")).status(), 503);
    program.terminate();
    assert_eq!(program.exit_code(), 0, "{}", program.log());
}

#[test]
fn every_line_of_the_log_is_json_with_a_time_and_a_level() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), QUICK);
    let mut program = Program::serve(&folder.config);
    program.ready();
    ask(program.address("callbacks"), post("[]"));
    broker.down();
    program.says("Kafka does not take events");
    program.terminate();
    assert_eq!(program.exit_code(), 0);
    let log = lines(&program.log());
    assert!(log.len() > 5, "{log:?}");
    for line in log {
        for member in ["timestamp", "level", "target", "message"] {
            assert!(line.get(member).is_some_and(Value::is_string), "no {member}: {line}");
        }
    }
    assert_eq!(program.out(), "", "stdout belongs to results");
}

#[test]
fn an_occupied_port_is_a_failure_with_the_address_in_it() {
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = occupied.local_addr().expect("an address");
    for listener in ["http", "admin"] {
        let folder = Folder::new("127.0.0.1:1", &format!("{listener}: {{listen: '{address}'}}\n"));
        let (code, _, log) = run(&["serve", "--config", &folder.config()]);
        assert_eq!(code, 1, "{log}");
        assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    }
}

#[test]
fn a_rotated_key_is_in_use_within_ten_seconds_and_an_unusable_one_never() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), QUICK);
    let program = Program::serve(&folder.config);
    program.ready();
    let address = program.address("callbacks");
    let status = |key: &str| ask(address, post(body_signed("rotated", key))).status();
    assert_eq!((status(KEY), status(OTHER_KEY)), (200, 403));
    // As mounted secrets change: another file takes the name.
    fs::write(folder.path("new"), OTHER_KEY).expect("a key file");
    let started = now();
    fs::rename(folder.path("new"), folder.path("live")).expect("the key file is replaced");
    eventually("the new key is in use", || status(OTHER_KEY) == 200);
    assert!(now() - started < Duration::from_secs(10), "{:?}", now() - started);
    assert_eq!(status(KEY), 403);
    assert_eq!(program.metric("key_reloads_total{result=\"taken\"}"), 1.0);
    // Half a key: what was in use stays in use.
    fs::write(folder.path("live"), "short").expect("a key file");
    program.says("a key file cannot be used");
    assert_eq!(status(OTHER_KEY), 200);
    assert_eq!(program.metric("key_reloads_total{result=\"rejected\"}"), 1.0);
    let log = program.log();
    assert!(!log.contains(KEY) && !log.contains(OTHER_KEY), "{log}");
}

// -------------------------------------------------------------------------------------------------------- commands

#[test]
fn a_faulty_configuration_stops_serve_and_check_with_every_fault() {
    for command in ["serve", "check"] {
        let (code, _, log) = run(&[command, "--config", &faulty("five-at-once.yaml")]);
        assert_eq!(code, 64, "{command}: {log}");
        for fault in [
            "five-at-once.yaml:2: http.listen: ",
            "five-at-once.yaml:3: http.request_deadlin: ",
            "five-at-once.yaml:5: callback.expiry_grace: ",
            "five-at-once.yaml:7: callback.keys[0].file: ",
            "five-at-once.yaml:12: kafka.properties.acks: ",
        ] {
            assert!(log.contains(fault), "{command} does not say {fault}:\n{log}");
        }
    }
}

#[test]
fn check_says_what_is_good_and_what_is_not_and_never_shows_a_key() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), "");
    let (code, out, log) = run(&["check", "--config", &folder.config()]);
    assert_eq!((code, log.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("key live: {} characters", KEY.len())), "{out}");
    assert!(!out.contains(KEY), "{out}");
    fs::write(folder.path("live"), "tooShort0123").expect("a key file");
    let (code, out, log) = run(&["check", "--config", &folder.config()]);
    assert_eq!(code, 64, "{out}{log}");
    assert!(out.contains("FAULT    key live") && !out.contains("tooShort0123"), "{out}");
    fs::remove_file(folder.path("live")).expect("the key file goes");
    for command in ["check", "serve"] {
        let (code, out, log) = run(&[command, "--config", &folder.config()]);
        assert_eq!(code, 64, "{out}{log}");
        assert!(format!("{out}{log}").contains("cannot be read"), "{out}{log}");
    }
    let (code, _, log) = run(&["check", "--config", &folder.path("nowhere.yaml")]);
    assert_eq!(code, 64, "{log}");
}

#[test]
fn check_online_finds_the_brokers_and_the_lack_of_them() {
    let folder = Folder::new(NOBODY, "");
    let (code, out, log) = run(&["check", "--online", "--config", &folder.config()]);
    assert_eq!(code, 1, "{out}{log}");
    assert!(out.contains("FAULT"), "{out}");
}

#[test]
fn check_online_tells_a_topic_in_trouble_from_one_that_is_not_there() {
    let broker = Broker::start();
    let folder = Folder::new(&broker.address(), "");
    broker.fail_topic(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    let (code, out, log) = run(&["check", "--online", "--config", &folder.config()]);
    assert_eq!(code, 1, "{out}{log}");
    assert!(out.contains(&format!("FAULT    topic {TOPIC} cannot be looked at now: ")), "{out}");
    assert!(out.to_lowercase().contains("leader not available"), "{out}");
    assert!(!out.contains(&format!("there is no topic {TOPIC}:")), "{out}");
    let broker = Broker::without_topic();
    let folder = Folder::new(&broker.address(), "");
    let (code, out, log) = run(&["check", "--online", "--config", &folder.config()]);
    assert_eq!(code, 1, "{out}{log}");
    assert!(out.contains(&format!("FAULT    there is no topic {TOPIC}: create it")), "{out}");
}

#[test]
fn send_tells_what_was_answered_and_fails_when_it_was_not_accepted() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).start();
    let folder = Folder::new(&broker.address(), "");
    let url = format!("http://{}{PATH}", bridge.callbacks);
    let (code, out, log) = run(&["send", &url, "--key-file", &folder.path("live"), "--stream", "sent"]);
    assert_eq!(code, 0, "{out}{log}");
    assert!(out.starts_with("200 ") && out.trim_end().ends_with("{\"code\":0}"), "{out}");
    for edition in ["2018", "2021", "2022", "2025", "2026"] {
        let (code, out, log) = run(&["send", &url, "--key-file", &folder.path("live"), "--edition", edition]);
        assert_eq!(code, 0, "{edition}: {out}{log}");
    }
    let (code, out, _) = run(&["send", &url, "--key-file", &folder.path("live"), "--count", "30", "--rate", "500"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("30 sent in ") && out.contains(": 30 accepted, 0 refused"), "{out}");
    // A body of one's own, told apart from a sample by its stream.
    fs::write(folder.path("body.json"), r#"{"event_type":100,"appid":7,"stream_id":"own","file_id":"f"}"#)
        .expect("a body");
    let own = folder.path("body.json");
    let (code, out, log) = run(&["send", &url, "--key-file", &folder.path("live"), "--file", &own]);
    assert_eq!(code, 0, "{out}{log}");
    assert!(broker.streams(37).contains(&"own".to_owned()));
    assert!(broker.streams(37).contains(&"sent".to_owned()));

    fs::write(folder.path("wrong"), OTHER_KEY).expect("a key file");
    let (code, out, log) = run(&["send", &url, "--key-file", &folder.path("wrong")]);
    assert_eq!(code, 1, "{out}{log}");
    assert!(out.starts_with("403 "), "{out}");
    assert!(log.contains("1 of 1 callbacks were not accepted"), "{log}");
    let (code, out, log) = run(&["send", &format!("http://{NOBODY}/"), "--key-file", &folder.path("live")]);
    assert_eq!(code, 1, "{out}{log}");
    assert!(out.starts_with("no answer: "), "{out}");
    for mistake in [["--key-file", "/nowhere"], ["--file", "/nowhere"]] {
        let key = folder.path("live");
        let mut arguments = vec!["send", &url];
        arguments.extend(if mistake[0] == "--file" { vec!["--key-file", &key] } else { vec![] });
        arguments.extend(mistake);
        assert_eq!(run(&arguments).0, 64, "{arguments:?}");
    }
    assert_eq!(bridge.outcome("refused", "signature_mismatch"), 1.0);
}

#[test]
fn send_shows_a_redirect_as_the_answer_and_takes_the_signed_body_nowhere_else() {
    let folder = Folder::new(NOBODY, "");
    for status in ["302 Found", "307 Temporary Redirect"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // The first connection is sent away, and to where it is sent would answer with a 200.
        let server = thread::spawn(move || {
            let mut asked = 0;
            for first_line in [status, "200 OK"] {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut head = [0; 4096];
                asked += usize::from(stream.read(&mut head).expect("a request") > 0);
                let location = format!("location: http://{address}/elsewhere\r\n");
                let answer =
                    format!("HTTP/1.1 {first_line}\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
            asked
        });
        let (code, out, log) = run(&["send", &format!("http://{address}/"), "--key-file", &folder.path("live")]);
        assert_eq!(code, 1, "{out}{log}");
        assert!(out.starts_with(&format!("{} ", &status[..3])), "{out}");
        // Wakes the server, which still waits for the second request.
        drop(TcpStream::connect(address).expect("nobody else came"));
        assert_eq!(server.join().expect("the server ends"), 1, "requests");
    }
}

#[test]
fn tail_prints_events_as_json_lines_by_address_or_by_configuration() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).start();
    assert_eq!(bridge.post(body("tailed")).0, ACKNOWLEDGED);
    let folder = Folder::new(&broker.address(), "");
    let (address, config) = (broker.address(), folder.config());
    for source in [["--brokers", &address, "--topic", TOPIC].as_slice(), &["--config", &config]] {
        let arguments = [&["tail", "--from-beginning", "--count", "1"], source].concat();
        let (code, out, log) = run(&arguments);
        assert_eq!(code, 0, "{log}");
        let events = lines(&out);
        assert_eq!(events.len(), 1, "{out}");
        assert_eq!(events[0]["stream_id"], "tailed");
        assert_eq!(events[0]["schema"], "recording-event.v1");
    }
    let (code, out, _) = run(&["tail", "--from-beginning", "--count", "1", "--with-metadata", "--config", &config]);
    let events = lines(&out);
    assert_eq!(
        (code, &events[0]["key"], &events[0]["headers"]["ce_type"]),
        (0, &"tailed".into(), &"recording.completed".into())
    );
    // Without --from-beginning only what comes from now on; sent until it comes, since tail does not say when it begins.
    let mut program = Program::start(["tail", "--count", "1", "--brokers", &address, "--topic", TOPIC]);
    eventually("tail prints a new event", || {
        assert_eq!(bridge.post(body("new")).0, ACKNOWLEDGED);
        program.out().contains("\"stream_id\":\"new\"")
    });
    assert_eq!(program.exit_code(), 0);
    assert_eq!(run(&["tail", "--brokers", &address, "--topic", "no-such-topic", "--count", "1"]).0, 1);
}

#[test]
fn the_demo_prints_every_event_and_the_metrics() {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = folder.path().join("metrics").display().to_string();
    let local = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let arguments = [&["demo", "--events", "7", "--exit", "--metrics-file", &metrics], &local[..]].concat();
    let (code, out, log) = run(&arguments);
    assert_eq!(code, 0, "{log}");
    let events = lines(&out);
    assert_eq!(events.len(), 7, "{out}");
    for event in events {
        assert_eq!(event["kind"], "recording.completed", "{event}");
    }
    let metrics = fs::read_to_string(metrics).expect("the metrics file");
    assert!(
        metrics.contains("recording_bridge_callbacks_total{outcome=\"accepted\",reason=\"kafka\"} 7\n"),
        "{metrics}"
    );
}

#[test]
fn every_command_explains_itself_and_every_mistake_is_64() {
    for arguments in [
        ["--help"].as_slice(),
        &["--version"],
        &["help"],
        &["serve", "--help"],
        &["check", "--help"],
        &["send", "--help"],
        &["tail", "--help"],
        &["demo", "--help"],
    ] {
        let (code, out, log) = run(arguments);
        assert_eq!((code, log.as_str()), (0, ""), "{arguments:?}");
        assert!(out.contains("recording-bridge"), "{arguments:?}: {out}");
    }
    for arguments in [
        [].as_slice(),
        &["sevre"],
        &["serve"],
        &["serve", "--config"],
        &["serve", "--config", "/nowhere.yaml"],
        &["serve", "--confg", "x"],
        &["check", "--config", "/nowhere.yaml"],
        &["send"],
        &["send", "http://127.0.0.1:1/", "--key-file", "/nowhere"],
        &["send", "http://127.0.0.1:1/", "--key-file", "/nowhere", "--count", "0"],
        &["send", "http://127.0.0.1:1/", "--key-file", "/nowhere", "--edition", "1999"],
        &["tail"],
        &["tail", "--brokers", "127.0.0.1:1"],
        &["tail", "--config", "/nowhere.yaml"],
        &["demo", "--events", "0"],
        &["demo", "--metrics-file", "x"],
    ] {
        let (code, out, log) = run(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {log}");
        assert!(!log.is_empty(), "{arguments:?} says nothing");
    }
}
