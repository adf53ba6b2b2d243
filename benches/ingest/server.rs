//! A server under measurement: a process, what it takes, and when it was ready.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::broker::{Broker, TOPIC};
use super::floors::Tuning;
use super::support::bridge::{plain, sum, write_config};
use super::support::kafka::free_ports;
use super::support::load::Client;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    FloorA,
    FloorB(Tuning),
    /// Further properties of librdkafka: none, or one `name: value`.
    Bridge(&'static str),
    /// Another build of the bridge: the path of its program.
    OtherBridge(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FloorA => formatter.write_str("floor A"),
            Self::FloorB(tuning) => write!(formatter, "floor B, {tuning}"),
            Self::Bridge("") => formatter.write_str("bridge, direct"),
            Self::Bridge(property) => write!(formatter, "bridge, {property}"),
            Self::OtherBridge(_) => formatter.write_str("the other bridge"),
        }
    }
}

/// Killed when it is dropped.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    ready_after: Duration,
    home: tempfile::TempDir,
    /// CPU of each thread when it was seen last, in nanoseconds: those that have ended count too.
    threads: Mutex<BTreeMap<OsString, u64>>,
}

impl Server {
    pub(crate) fn start(kind: &Kind, broker: &Broker) -> Self {
        Self::start_at(kind, &broker.addresses())
    }

    /// With brokers at other addresses than their own.
    pub(crate) fn start_at(kind: &Kind, brokers: &str) -> Self {
        let home = tempfile::Builder::new().prefix("recording-bridge-bench-").tempdir().unwrap();
        match kind {
            Kind::FloorA => Self::start_floor(home, &["floor-a".to_owned()]),
            Kind::FloorB(tuning) => {
                let words: Vec<_> =
                    ["floor-b".to_owned(), brokers.to_owned()].into_iter().chain(tuning.words()).collect();
                Self::start_floor(home, &words)
            }
            Kind::Bridge(property) => {
                Self::start_bridge(home, env!("CARGO_BIN_EXE_recording-bridge"), brokers, property)
            }
            Kind::OtherBridge(program) => Self::start_bridge(home, program, brokers, ""),
        }
    }

    fn new(
        process: Child,
        address: SocketAddr,
        admin: Option<SocketAddr>,
        home: tempfile::TempDir,
        ready_after: Duration,
    ) -> Self {
        Self { process, address, admin, ready_after, home, threads: Mutex::default() }
    }

    fn start_floor(home: tempfile::TempDir, words: &[String]) -> Self {
        let began = Instant::now();
        let program = std::env::current_exe().unwrap();
        let mut process = Command::new(program).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self::new(process, address, None, home, began.elapsed())
    }

    /// With the defaults of an operator who writes down only what has to be written down, and a spool.
    fn start_bridge(home: tempfile::TempDir, program: &str, brokers: &str, property: &str) -> Self {
        let ports = free_ports(2);
        let (address, admin) = (SocketAddr::from(([127, 0, 0, 1], ports[0])), ([127, 0, 0, 1], ports[1]).into());
        let more = format!("http: {{listen: \"{address}\"}}\nspool: {{directory: spool}}\n");
        let kafka = format!("{}, properties: {{{property}}}", plain(brokers, TOPIC));
        let config = write_config(home.path(), &kafka, &more);
        let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1:0}", &format!("\"{admin}\"}}"));
        fs::write(&config, text).unwrap();
        let log = fs::File::create(home.path().join("log")).unwrap();
        let began = Instant::now();
        let process = Command::new(program)
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self::new(process, address, Some(admin), home, Duration::ZERO);
        while !matches!(Client::new(admin).get("/ready"), Ok((200, _))) {
            assert!(began.elapsed() < PATIENCE, "never ready\n{}", server.log_tail());
            std::thread::sleep(Duration::from_millis(1));
        }
        server.ready_after = began.elapsed();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// CPU taken so far by all threads, in user and kernel mode, as the scheduler accounts for it.
    pub(crate) fn cpu(&self) -> Duration {
        let mut threads = self.threads.lock().unwrap();
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap() {
            let thread = thread.unwrap();
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            threads.insert(thread.file_name(), text.split(' ').next().unwrap().parse().unwrap());
        }
        Duration::from_nanos(threads.values().sum())
    }

    /// How often its threads that are alive have gone to sleep or were put aside.
    pub(crate) fn switches(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let switches = |text: String| {
            let counts = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum::<u64>()
        };
        tasks.map(|task| switches(status(task.unwrap()))).sum()
    }

    pub(crate) fn resident_mebibytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Frames in the bridge's spool.
    pub(crate) fn spooled_frames(&self) -> u64 {
        let (_, text) = Client::new(self.admin.unwrap()).get("/metrics").unwrap();
        sum(&text, "recording_bridge_spool_frames", &[])
    }

    /// Waits until the bridge's spool is empty; frames a second from the first one on that Kafka took.
    pub(crate) fn await_drained(&self) -> f64 {
        let drained = || {
            let (_, text) = Client::new(self.admin.unwrap()).get("/metrics").unwrap();
            sum(&text, "recording_bridge_spool_drained_total", &[])
        };
        let (asked, before) = (Instant::now(), drained());
        let mut began = asked;
        while self.spooled_frames() > 0 {
            assert!(asked.elapsed() < PATIENCE, "never drained\n{}", self.log_tail());
            if drained() == before {
                began = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (drained() - before) as f64 / began.elapsed().as_secs_f64()
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
