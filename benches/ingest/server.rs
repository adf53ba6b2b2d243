//! A server under measurement: a process, what it takes, and when it was ready.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::broker::{Broker, TOPIC};
use super::support::bridge::{plain, sum, write_config};
use super::support::kafka::free_ports;
use super::support::load::Client;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    FloorA,
    FloorB { linger: u32 },
    Bridge,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FloorA => formatter.write_str("floor A"),
            Self::FloorB { linger } => write!(formatter, "floor B, linger {linger}"),
            Self::Bridge => formatter.write_str("bridge, direct"),
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
}

impl Server {
    pub(crate) fn start(kind: Kind, broker: &Broker) -> Self {
        let home = tempfile::Builder::new().prefix("recording-bridge-bench-").tempdir().unwrap();
        match kind {
            Kind::FloorA => Self::start_floor(home, &["floor-a"]),
            Kind::FloorB { linger } => Self::start_floor(home, &["floor-b", &broker.addresses(), &linger.to_string()]),
            Kind::Bridge => Self::start_bridge(home, broker),
        }
    }

    fn start_floor(home: tempfile::TempDir, words: &[&str]) -> Self {
        let began = Instant::now();
        let program = std::env::current_exe().unwrap();
        let mut process = Command::new(program).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self { process, address, admin: None, ready_after: began.elapsed(), home }
    }

    /// With the defaults of an operator who writes down only what has to be written down, and a spool.
    fn start_bridge(home: tempfile::TempDir, broker: &Broker) -> Self {
        let ports = free_ports(2);
        let (address, admin) = (SocketAddr::from(([127, 0, 0, 1], ports[0])), ([127, 0, 0, 1], ports[1]).into());
        let more = format!("http: {{listen: \"{address}\"}}\nspool: {{directory: spool}}\n");
        let config = write_config(home.path(), &plain(&broker.addresses(), TOPIC), &more);
        let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1:0}", &format!("\"{admin}\"}}"));
        fs::write(&config, text).unwrap();
        let log = fs::File::create(home.path().join("log")).unwrap();
        let began = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_recording-bridge"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { process, address, admin: Some(admin), ready_after: Duration::ZERO, home };
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

    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// CPU taken so far by all threads, in user and kernel mode, in hundredths of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// CPU taken since it had taken `before`.
    pub(crate) fn cpu_since(&self, before: Duration) -> Duration {
        self.cpu().saturating_sub(before)
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

    /// Waits until the bridge's spool is empty; frames a second meanwhile.
    pub(crate) fn await_drained(&self) -> f64 {
        let drained = || {
            let (_, text) = Client::new(self.admin.unwrap()).get("/metrics").unwrap();
            sum(&text, "recording_bridge_spool_drained_total", &[])
        };
        let (began, before) = (Instant::now(), drained());
        while self.spooled_frames() > 0 {
            assert!(began.elapsed() < PATIENCE, "never drained\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(20));
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
