//! The bridge under test: in this process over an embedded broker, or as the real program; and a client that writes
//! exact bytes and reads exact answers.
//!
//! Whoever drops a [`Bridge`] has the law of conservation checked: every callback received has exactly one outcome.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown as Half, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use recording_bridge::app::{App, AppError};
use recording_bridge::callback::{self, Key, KeyConfig, Keyring, Scope};
use recording_bridge::clock::{Clock as _, SystemClock};
use recording_bridge::config::{Config, Level, LogConfig, LogFormat, SpoolConfig};
use recording_bridge::delivery::window;
use recording_bridge::http::{self, Readiness, admin};
use recording_bridge::metrics::Metrics;
use recording_bridge::shutdown::Shutdown;
use recording_bridge::{kafka, shutdown};

/// Topic of every test.
pub(crate) const TOPIC: &str = "recordings";
/// Path of callbacks.
pub(crate) const PATH: &str = "/callbacks/recording";
/// The key of the in-process bridge called `live`.
pub(crate) const KEY: &str = "aKeyOfTheTests0123456789";
/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Everything that must be answered with 200.
pub(crate) const ACKNOWLEDGED: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"code\":0}";

const PARTITIONS: i32 = 3;

/// Monotonic time.
pub(crate) fn now() -> Instant {
    SystemClock.monotonic()
}

/// Seconds since 1970.
pub(crate) fn epoch_seconds() -> i64 {
    let since = SystemClock.wall().duration_since(std::time::UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_secs()).expect("the clock is before the year 292 277 026 596")
}

/// Waits until `condition` holds; fails with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + PATIENCE;
    while !condition() {
        assert!(now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

// ---------------------------------------------------------------------------------------------------------- bodies

/// `md5(key + t)` as the provider makes it, not by the code under test.
pub(crate) fn signature(key: &str, t: &str) -> String {
    hex::encode(Md5::digest(format!("{key}{t}")))
}

/// The members of a recording callback, without braces, of a file that no other call names.
pub(crate) fn facts(stream: &str) -> String {
    static FILES: AtomicU64 = AtomicU64::new(1);
    let file = FILES.fetch_add(1, Ordering::Relaxed);
    format!(
        r#""event_type":100,"appid":1300000000,"app":"push.example.com","appname":"live","stream_id":"{stream}","channel_id":"{stream}","file_id":"1300000000_{file:032x}","file_format":"mp4","start_time":1770031217,"end_time":1770031273,"duration":56,"file_size":43911385,"video_url":"http://bucket.example.com/{stream}.mp4""#
    )
}

/// A recording callback that is authentic for the key `live`.
pub(crate) fn body(stream: &str) -> String {
    body_signed(stream, KEY)
}

/// A recording callback signed with `key`, good for ten minutes.
pub(crate) fn body_signed(stream: &str, key: &str) -> String {
    let t = (epoch_seconds() + 600).to_string();
    format!(r#"{{{},"t":{t},"sign":"{}"}}"#, facts(stream), signature(key, &t))
}

/// A whole request that posts `body`.
pub(crate) fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request =
        format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// A whole request that gets `path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

// ---------------------------------------------------------------------------------------------------------- client

/// A connection on which exact bytes are written and exact answers are read.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came, but for the line with the date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    /// The three digits.
    pub(crate) fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status")
    }

    /// What follows the head.
    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map(|(_, body)| body).expect("an answer has an end of its head")
    }
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the bridge takes a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, unread: Vec::new() }
    }

    /// Connects from this address of the machine.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = match source {
            IpAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            IpAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        };
        let connect = async {
            let socket = socket?;
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(address).await?.into_std()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stream = runtime.block_on(connect).unwrap_or_else(|error| panic!("no connection from {source}: {error}"));
        stream.set_nonblocking(false).expect("a stream that waits");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, unread: Vec::new() }
    }

    /// Writes these bytes. A peer that has closed already is not an error here: the answer tells.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("the request cannot be written: {error}")
            }
            _ => {}
        }
    }

    /// Writes `request` again and again, reads nothing, and returns when the bridge takes no more.
    pub(crate) fn stuff(&mut self, request: impl AsRef<[u8]>) {
        let many = request.as_ref().repeat(64);
        self.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a deadline for writing");
        while self.stream.write_all(&many).is_ok() {}
    }

    /// Closes the sending half. A peer that has reset the connection already is not an error here either.
    pub(crate) fn finish(&self) {
        match self.stream.shutdown(Half::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => panic!("the sending half stays open: {error}"),
            _ => {}
        }
    }

    /// Writes a request and reads its answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(request);
        self.answer()
    }

    /// Reads one answer of a stated length; what follows stays for the next call.
    pub(crate) fn answer(&mut self) -> Answer {
        let deadline = now() + PATIENCE;
        loop {
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            assert!(self.read_more(deadline), "closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Everything until the server closes the connection.
    pub(crate) fn rest(&mut self) -> String {
        let deadline = now() + PATIENCE;
        while self.read_more(deadline) {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Reads until `text` has come.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let deadline = now() + PATIENCE;
        loop {
            let come = String::from_utf8_lossy(&self.unread);
            if let Some(end) = come.find(text).map(|start| start + text.len()) {
                return String::from_utf8(self.unread.drain(..end).collect()).expect("answers are UTF-8");
            }
            assert!(self.read_more(deadline), "closed without {text:?}");
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let come = String::from_utf8_lossy(&self.unread).into_owned();
        let (head, _) = come.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length is a number"));
        let end = head.len() + 4 + length;
        if self.unread.len() < end {
            return None;
        }
        let whole = String::from_utf8(self.unread.drain(..end).collect()).expect("answers are UTF-8");
        Some(Answer(without_date(&whole)))
    }

    /// `false` when the peer has closed.
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(now());
        assert!(!left.is_zero(), "no answer after {PATIENCE:?}: {:?}", String::from_utf8_lossy(&self.unread));
        self.stream.set_read_timeout(Some(left)).expect("a deadline for reading");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.unread.extend(buffer.iter().take(length));
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
            Err(error) => panic!("the answer cannot be read: {error}"),
        }
    }
}

/// An answer without the one line that differs from second to second.
pub(crate) fn without_date(text: &str) -> String {
    let Some(start) = text.find("date: ") else { return text.to_owned() };
    let (before, after) = text.split_at(start);
    let (_, after) = after.split_once("\r\n").expect("a header ends with CRLF");
    format!("{before}{after}")
}

/// One request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    Client::connect(address).ask(request)
}

// ---------------------------------------------------------------------------------------------------------- broker

/// The embedded broker: in memory, faults on demand.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// One broker with the topic.
    pub(crate) fn start() -> Self {
        let broker = Self::without_topic();
        broker.create_topic();
        broker
    }

    /// One broker without any topic.
    pub(crate) fn without_topic() -> Self {
        Self { cluster: MockCluster::new(1).expect("an embedded broker") }
    }

    pub(crate) fn create_topic(&self) {
        self.cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    pub(crate) fn down(&self) {
        self.cluster.broker_down(1).expect("a broker goes down");
    }

    pub(crate) fn up(&self) {
        self.cluster.broker_up(1).expect("a broker comes up");
    }

    /// Every answer of the broker takes this long from now on.
    pub(crate) fn slow(&self, delay: Duration) {
        self.cluster.broker_round_trip_time(1, delay).expect("a delay");
    }

    /// The next produce requests are answered with these errors.
    pub(crate) fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        self.cluster.request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// Refuses to give anything out, for longer than a test takes.
    pub(crate) fn fail_fetch(&self, error: RDKafkaRespErr) {
        self.cluster.request_errors(RDKafkaApiKey::Fetch, &[error; 1000]);
    }

    /// Forgets the errors that were not used yet.
    pub(crate) fn mend_produce(&self) {
        self.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    }

    /// Every request about the topic fails.
    pub(crate) fn fail_topic(&self, error: RDKafkaRespErr) {
        self.cluster.topic_error(TOPIC, error).expect("an error of a topic");
    }

    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("group.id", "tests")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer")
    }

    /// How many messages the topic holds, by its watermarks.
    pub(crate) fn published(&self) -> i64 {
        let consumer = self.consumer();
        let high = |partition| consumer.fetch_watermarks(TOPIC, partition, PATIENCE).expect("watermarks").1;
        (0..PARTITIONS).map(high).sum()
    }

    /// The streams of the first `count` messages, sorted. Waits until there are so many.
    pub(crate) fn streams(&self, count: usize) -> Vec<String> {
        let mut streams = self.read(count, |message| {
            let event: serde_json::Value =
                serde_json::from_slice(message.payload().unwrap_or_default()).expect("an event is JSON");
            let stream = event.get("stream_id").and_then(|stream| stream.as_str()).expect("a stream");
            assert_eq!(message.key(), Some(stream.as_bytes()), "the key is the stream");
            stream.to_owned()
        });
        streams.sort();
        streams
    }

    /// The headers of the first `count` messages. Waits until there are so many.
    pub(crate) fn headers(&self, count: usize) -> Vec<BTreeMap<String, String>> {
        self.read(count, |message| {
            let headers = message.headers().expect("a message has headers").iter();
            let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).expect("UTF-8");
            headers.map(|header| (header.key.to_owned(), text(header.value))).collect()
        })
    }

    fn read<T: std::fmt::Debug>(&self, count: usize, see: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let consumer = self.consumer();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&assignment).expect("the partitions are read");
        let deadline = now() + PATIENCE;
        let mut seen = Vec::new();
        while seen.len() < count {
            assert!(now() < deadline, "{count} messages never came: {seen:?}");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                seen.push(see(&message));
            }
        }
        seen
    }
}

// ---------------------------------------------------------------------------------------------------------- bridge

/// What a bridge of the tests is made of, ready to be changed.
pub(crate) struct Setup {
    pub(crate) config: Config,
    keys: Vec<Key>,
}

impl Setup {
    /// Short deadlines, ports of its own, one key.
    pub(crate) fn new(broker: &Broker) -> Self {
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut kafka = kafka::Config::new(vec![broker.address()], TOPIC.to_owned());
        kafka.ack_deadline = Duration::from_secs(5);
        let config = Config {
            http: http::Config { listen: local, ..http::Config::default() },
            admin: admin::Config::on(local),
            callback: callback::Config::new(Vec::new()),
            kafka,
            repeats: window::Config::default(),
            spool: SpoolConfig::disabled(),
            shutdown: shutdown::Config { drain_delay: Duration::ZERO, grace: Duration::from_secs(20) },
            log: LogConfig { level: Level::Error, format: LogFormat::Text },
        };
        Self { config, keys: Vec::new() }.key("live", KEY, Scope::default())
    }

    /// One more key.
    pub(crate) fn key(mut self, name: &str, secret: &str, scope: Scope) -> Self {
        self.keys.push(Key::new(name, secret, scope.clone()));
        self.config.callback.keys.push(KeyConfig {
            name: name.to_owned(),
            // An empty path: there is no file to be read again.
            file: PathBuf::new(),
            app_ids: scope.app_ids,
            push_domains: scope.push_domains,
        });
        self
    }

    /// With other values in the configuration.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Bridge {
        let bridge = self.start_unready();
        eventually("the bridge is ready", || bridge.readiness.is_ready());
        bridge
    }

    /// Starts it, ready or not.
    pub(crate) fn start_unready(self) -> Bridge {
        let app = App::build(self.config, Keyring::new(self.keys)).expect("the bridge can be built");
        let callbacks = app.callback_address().expect("an address");
        let admin = app.admin_address().expect("an address");
        let (metrics, readiness, shutdown) = (app.metrics(), app.readiness(), Shutdown::new());
        let thread = {
            let shutdown = shutdown.clone();
            thread::spawn(move || app.run(&shutdown))
        };
        Bridge { callbacks, admin, metrics, readiness, shutdown, thread: Some(thread) }
    }
}

/// A bridge that runs in this process.
pub(crate) struct Bridge {
    pub(crate) callbacks: SocketAddr,
    pub(crate) admin: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    pub(crate) shutdown: Shutdown,
    thread: Option<thread::JoinHandle<Result<(), AppError>>>,
}

impl Bridge {
    /// The bridge of most tests.
    pub(crate) fn start(broker: &Broker) -> Self {
        Setup::new(broker).start()
    }

    /// A new connection to the callback listener.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.callbacks)
    }

    /// Posts a body on a connection of its own.
    pub(crate) fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        ask(self.callbacks, post(body))
    }

    /// Every series and its value.
    pub(crate) fn series(&self) -> BTreeMap<String, f64> {
        series(&String::from_utf8(self.metrics.render()).expect("metrics are text"))
    }

    /// One series, named without the prefix of the project.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let name = format!("recording_bridge_{name}");
        *self.series().get(&name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// How many callbacks had this outcome.
    pub(crate) fn outcome(&self, outcome: &str, reason: &str) -> f64 {
        self.metric(&format!("callbacks_total{{outcome=\"{outcome}\",reason=\"{reason}\"}}"))
    }

    /// Every outcome that was ever counted, as `outcome reason`.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, f64> {
        let mut outcomes = BTreeMap::new();
        for (name, value) in self.series() {
            let Some(labels) = name.strip_prefix("recording_bridge_callbacks_total{outcome=\"") else { continue };
            let named = labels.trim_end_matches("\"}").replace("\",reason=\"", " ");
            if value > 0.0 {
                outcomes.insert(named, value);
            }
        }
        outcomes
    }

    /// Waits until something has been counted so often.
    #[track_caller]
    pub(crate) fn counted(&self, name: &str, value: f64) {
        let last = || self.metric(name);
        eventually(&format!("{name} is {value}"), || (last() - value).abs() < 0.5);
    }

    /// What is counted but not balanced: empty if every callback received has exactly one outcome.
    fn imbalance(&self) -> String {
        let series = self.series();
        let value = |name: &str| series.get(&format!("recording_bridge_{name}")).copied().unwrap_or_default();
        let resolved: f64 = self.outcomes().values().sum();
        let (received, in_flight) = (value("callbacks_received_total"), value("callbacks_in_flight"));
        let unresolved = value("callbacks_total{outcome=\"unresolved\",reason=\"dropped\"}");
        let mut faults = String::new();
        for (fault, is_one) in [
            ("received is not what was resolved", (received - resolved).abs() > 0.5),
            ("in flight at rest", in_flight.abs() > 0.5),
            ("unresolved", unresolved > 0.5),
        ] {
            if is_one {
                write!(faults, "{fault}; ").expect("text can be written");
            }
        }
        if !faults.is_empty() {
            write!(faults, "received {received}, in flight {in_flight}, {:?}", self.outcomes())
                .expect("text can be written");
        }
        faults
    }

    /// Stops in good order and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.shutdown.request();
        let thread = self.thread.take().expect("a bridge is stopped once");
        thread.join().expect("the bridge does not panic").expect("the bridge ends well");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shutdown.request();
            self.shutdown.request();
            return;
        }
        eventually(&format!("the law of conservation: {}", self.imbalance()), || self.imbalance().is_empty());
        if self.thread.is_some() {
            // Whatever the producer still holds was refused long ago.
            self.shutdown.request();
            self.stop();
        }
        assert_eq!(self.imbalance(), "", "after the end");
    }
}

/// The series of a scrape.
pub(crate) fn series(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a value is a number")))
        .collect()
}

// ---------------------------------------------------------------------------------------------------------- program

/// Writes a configuration, and the files of its keys, into `folder`; `further` is put in as it stands.
pub(crate) fn config_file(folder: &Path, broker: &str, keys: &[(&str, &str, Scope)], further: &str) -> PathBuf {
    let mut text = format!(
        "http: {{listen: '127.0.0.1:0'}}\nadmin: {{listen: '127.0.0.1:0'}}\nkafka: {{brokers: ['{broker}'], topic: {TOPIC}}}\nspool: {{enabled: false}}\n"
    );
    // What is given replaces what would be there.
    let replaced = |line: &&str| !further.lines().any(|new| new.split(':').next() == line.split(':').next());
    text = text.lines().filter(replaced).collect::<Vec<_>>().join("\n") + "\n";
    text.push_str(further);
    text.push_str("callback:\n  keys:\n");
    for (name, secret, scope) in keys {
        std::fs::write(folder.join(name), format!("{secret}\n")).expect("a key file");
        let (accounts, domains) = (&scope.app_ids, &scope.push_domains);
        let accounts: Vec<String> = accounts.iter().map(|account| format!("\"{account}\"")).collect();
        let line = format!(
            "    - {{name: {name}, file: {name}, app_ids: [{}], push_domains: {domains:?}}}\n",
            accounts.join(", ")
        );
        text.push_str(&line);
    }
    let path = folder.join("config.yaml");
    std::fs::write(&path, text).expect("a configuration file");
    path
}

/// The real program, killed when the test ends.
pub(crate) struct Program {
    child: Child,
    out: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Program {
    /// Starts it.
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recording-bridge"));
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts it by a command of one's own.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let (out, log) = (Arc::default(), Arc::default());
        let readers = vec![
            gather(child.stdout.take().expect("its output"), Arc::clone(&out)),
            gather(child.stderr.take().expect("its log"), Arc::clone(&log)),
        ];
        Self { child, out, log, readers }
    }

    /// `serve` with this configuration.
    pub(crate) fn serve(config: &Path) -> Self {
        Self::start([std::ffi::OsStr::new("serve"), std::ffi::OsStr::new("--config"), config.as_os_str()])
    }

    /// `serve` with this configuration, where no more than `files` may be open.
    pub(crate) fn serve_with_files(config: &Path, files: u64) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" serve --config \"$1\""));
        command.arg(env!("CARGO_BIN_EXE_recording-bridge")).arg(config);
        Self::spawn(command)
    }

    /// What it has written to stdout.
    pub(crate) fn out(&self) -> String {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to stderr.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address of a listener, from the log.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let line = format!("\"listener\":\"{listener}\"");
        self.says(&line);
        let log = self.log();
        let line = log.lines().find(|found| found.contains(&line)).expect("the line has just been there");
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of the log is JSON");
        let address = line.get("address").and_then(|address| address.as_str()).expect("an address");
        address.parse().expect("an address")
    }

    /// Waits until the log holds this text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        let deadline = now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(now() < deadline, "the log never said {text:?}:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `/ready` of the admin listener says 200.
    pub(crate) fn ready(&self) {
        let admin = self.address("admin");
        eventually("the program is ready", || ask(admin, get("/ready")).status() == 200);
    }

    /// A series of `/metrics`, named without the prefix of the project.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let scrape = ask(self.address("admin"), get("/metrics"));
        *series(scrape.body()).get(&format!("recording_bridge_{name}")).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Lets it open no more files than this; `None` takes the limit back.
    pub(crate) fn limit_files(&self, files: Option<u64>) {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: files.or(maximum), maximum };
        let pid = rustix::process::Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Nofile, limit).expect("a limit of files can be set");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the program is there");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; the exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        self.status().code().expect("the program was not killed")
    }

    /// Waits for the end, however it comes.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let deadline = now() + PATIENCE + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the program can be waited for") {
                for reader in self.readers.drain(..) {
                    reader.join().expect("the output can be read");
                }
                return status;
            }
            assert!(now() < deadline, "the program does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn gather(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    })
}
