//! `demo`: the whole thing in one process, with nothing to set up.
//!
//! An embedded broker (librdkafka's mock cluster: in memory, no durability), the real listener, sample callbacks of
//! every edition sent over real sockets, and the events read back from the topic by a consumer.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use serde_json::Value;

use super::edition::{Edition, signed};
use super::{CommandError, logging, tail};
use crate::app::App;
use crate::callback::{self, Key, KeyConfig, Keyring, Scope};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Level, LogConfig, LogFormat, SpoolConfig};
use crate::delivery::window;
use crate::event::Timestamp;
use crate::http::{self, Readiness, admin};
use crate::{kafka, shutdown};

const TOPIC: &str = "recordings";
const PARTITIONS: i32 = 6;
const BROKERS: i32 = 3;
const KEY: &str = "demoKey0123456789demoKey01234567";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many sample callbacks to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    events: u64,
    /// Print the events as JSON lines and exit: 0 only if every one came back from the topic right.
    #[arg(long)]
    exit: bool,
    /// Address for callbacks; a free port is taken where this one is not to be had.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for metrics and probes; likewise.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// With --exit, also write what /metrics says at the end into this file.
    #[arg(long, value_name = "FILE", requires = "exit")]
    metrics_file: Option<PathBuf>,
}

/// A callback that was answered with 200.
struct Sent {
    edition: Edition,
    stream_id: String,
    file_id: String,
    file_size: u64,
    at: Instant,
    answered: Duration,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let _logs = logging::start(LogConfig { level: Level::Error, format: LogFormat::Text });
    // Never dropped: the producer may outlive the bridge by a moment, and would complain of a broker that is gone.
    let broker = MockCluster::new(BROKERS)
        .and_then(|cluster| cluster.create_topic(TOPIC, PARTITIONS, BROKERS).map(|()| cluster))
        .map(ManuallyDrop::new)
        .map_err(|error| CommandError::failed("the embedded broker cannot be started", error))?;
    let key = Key::new("demo", KEY, Scope::default());
    let config = config(arguments, broker.bootstrap_servers());
    let consumer = tail::start(&config.kafka, true)?;
    let app =
        App::build(config, Keyring::new(vec![key.clone()])).map_err(|error| CommandError::Failed(error.to_string()))?;
    let addresses = app
        .callback_address()
        .and_then(|callbacks| app.admin_address().map(|admin| (callbacks, admin)))
        .map_err(|error| CommandError::failed("the listeners have no address", error))?;
    let (readiness, metrics) = (app.readiness(), app.metrics());
    let stop = shutdown::Shutdown::new();
    let bridge = {
        let stop = stop.clone();
        thread::spawn(move || app.run(&stop))
    };
    let shown = wait_until_ready(&readiness)
        .and_then(|()| send_all(arguments.events, addresses.0, &key))
        .and_then(|sent| show(arguments, &consumer, sent));
    drop(consumer);
    if shown.is_ok() && !arguments.exit {
        invite(addresses, &key);
    } else {
        stop.request();
    }
    let ended = bridge.join().map_err(|_| CommandError::Failed("the bridge has panicked".to_owned()))?;
    if let Some(file) = &arguments.metrics_file {
        std::fs::write(file, metrics.render()).map_err(|error| CommandError::failed("the metrics file", error))?;
    }
    ended.map_err(|error| CommandError::Failed(error.to_string()))?;
    shown
}

fn config(arguments: &Arguments, brokers: String) -> Config {
    Config {
        http: http::Config { listen: free(arguments.listen), ..http::Config::default() },
        admin: admin::Config::on(free(arguments.admin_listen)),
        callback: callback::Config::new(vec![KeyConfig {
            name: "demo".to_owned(),
            file: PathBuf::new(),
            app_ids: Vec::new(),
            push_domains: Vec::new(),
        }]),
        kafka: kafka::Config::new(vec![brokers], TOPIC.to_owned()),
        repeats: window::Config::default(),
        spool: SpoolConfig::disabled(),
        shutdown: shutdown::Config { drain_delay: Duration::ZERO, ..shutdown::Config::default() },
        log: LogConfig { level: Level::Error, format: LogFormat::Text },
    }
}

/// The address if it can be had, otherwise the same one with any port.
fn free(wished: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(wished) {
        Ok(_) => wished,
        Err(_) => SocketAddr::new(wished.ip(), 0),
    }
}

fn wait_until_ready(readiness: &Readiness) -> Result<(), CommandError> {
    let deadline = SystemClock.monotonic() + PATIENCE;
    while !readiness.is_ready() {
        if SystemClock.monotonic() > deadline {
            return Err(CommandError::Failed("the bridge did not become ready".to_owned()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn send_all(count: u64, address: SocketAddr, key: &Key) -> Result<Vec<Sent>, CommandError> {
    let agent = ureq::Agent::new_with_defaults();
    let url = format!("http://{address}{}", http::Config::default().path);
    let now = Timestamp::from(SystemClock.wall());
    let mut sent = Vec::new();
    for (number, edition) in (0..count).zip(Edition::ALL.into_iter().cycle()) {
        let stream_id = format!("demo-{}", number % 7);
        let body = edition.sample(&stream_id, number, now);
        let fact = |name: &str| body.get(name).cloned().unwrap_or_default();
        let file_id = fact("file_id").as_str().unwrap_or_default().to_owned();
        let file_size = fact("file_size").as_u64().unwrap_or_default();
        let text = signed(body, key, now);
        let at = SystemClock.monotonic();
        let answer = agent.post(&url).send(text).map_err(|error| CommandError::failed("a callback failed", error))?;
        let answered = SystemClock.monotonic().saturating_duration_since(at);
        if answer.status().as_u16() != 200 {
            return Err(CommandError::Failed(format!("a callback was answered with {}", answer.status())));
        }
        sent.push(Sent { edition, stream_id, file_id, file_size, at, answered });
    }
    Ok(sent)
}

/// Reads the events back and prints them; an error if one is missing, twice there, or not what was sent.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn show(arguments: &Arguments, consumer: &BaseConsumer, sent: Vec<Sent>) -> Result<(), CommandError> {
    let mut expected: HashMap<String, Sent> = sent.into_iter().map(|sent| (sent.file_id.clone(), sent)).collect();
    let deadline = SystemClock.monotonic() + PATIENCE;
    if !arguments.exit {
        println!("\n  edition  stream  partition  offset  answered in  read back after  event_id");
    }
    while !expected.is_empty() {
        if SystemClock.monotonic() > deadline {
            return Err(CommandError::Failed(format!("{} events did not come back", expected.len())));
        }
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let text = message.payload().unwrap_or_default();
        let event: Value =
            serde_json::from_slice(text).map_err(|error| CommandError::failed("an event is no JSON", error))?;
        let fact = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(sent) = expected.remove(fact("file_id")) else {
            return Err(CommandError::Failed(format!("an event came that nobody sent: {event}")));
        };
        let right = fact("stream_id") == sent.stream_id
            && message.key() == Some(sent.stream_id.as_bytes())
            && event.get("file_size_bytes").and_then(Value::as_u64) == Some(sent.file_size);
        if !right {
            return Err(CommandError::Failed(format!("an event came back wrong: {event}")));
        }
        if arguments.exit {
            println!("{}", String::from_utf8_lossy(text));
        } else {
            println!(
                "  {:<7}  {}  {:<9}  {:<6}  {:>8.2} ms  {:>12.2} ms  {:.8}…",
                sent.edition.name(),
                sent.stream_id,
                message.partition(),
                message.offset(),
                sent.answered.as_secs_f64() * 1000.0,
                SystemClock.monotonic().saturating_duration_since(sent.at).as_secs_f64() * 1000.0,
                fact("event_id")
            );
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn invite((callbacks, admin): (SocketAddr, SocketAddr), key: &Key) {
    let now = Timestamp::from(SystemClock.wall());
    let body = signed(Edition::Y2026.sample("my-stream", 0, now), key, now);
    let path = http::Config::default().path;
    println!(
        "
Every callback got its 200 after the embedded broker had acknowledged it. The
bridge is still up.

Send one yourself (the signature is good for about 17 minutes):

  curl -i http://{callbacks}{path} -d '{body}'

Change a digit of \"sign\" and see it refused. Then look at what was counted:

  curl -s http://{admin}/metrics | grep ^recording_bridge_callbacks

What to try next: docs/getting-started.md goes on with a Kafka of your own.
Ctrl-C ends the demo."
    );
}
