//! The real binary, started as an operator would start it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::load::{Client, Load};
use super::process::Supervised;
use super::wait_for;

/// The key that the bridge is configured with.
pub(crate) const KEY: &str = "Xz4ZgayTr7rMgWQrHtests";
pub(crate) const PATH: &str = "/callbacks/recording";

const START_PATIENCE: Duration = Duration::from_secs(20);
/// Grace (25 s) and a little.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running `recording-bridge serve`. Dropping it kills it.
pub(crate) struct Bridge {
    process: Supervised,
    home: PathBuf,
    config: PathBuf,
    callbacks: SocketAddr,
    admin: SocketAddr,
    last_metrics: String,
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
    /// Bytes of all files in the spool's folder.
    pub(crate) spool_bytes: u64,
}

/// Bytes of all files below `folder`; a file may go while it is looked at.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => bytes_in(&path),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(|entry| size(entry.path())).sum()
}

/// Writes a configuration file and what it names into `folder`. `kafka` are the members of that section, in flow
/// style; `more` is further configuration: whole top-level sections that are not written here.
pub(crate) fn write_config(folder: &Path, kafka: &str, more: &str) -> PathBuf {
    fs::write(folder.join("key"), KEY).unwrap();
    let mut config = format!(
        "admin: {{listen: 127.0.0.1:0}}\n\
         kafka: {{{kafka}}}\n"
    );
    for (section, usual) in [
        ("callback:", "{keys: [{name: tests, file: key}]}"),
        ("http:", format!("{{listen: 127.0.0.1:0, path: {PATH}}}").as_str()),
        ("log:", "{format: json}"),
        ("shutdown:", "{drain_delay: 0s}"),
        ("spool:", "{enabled: false}"),
    ] {
        if !more.contains(section) {
            writeln!(config, "{section} {usual}").unwrap();
        }
    }
    writeln!(config, "{more}").unwrap();
    let file = folder.join("config.yaml");
    fs::write(&file, config).unwrap();
    file
}

/// The members of `kafka` for brokers that ask for nothing.
pub(crate) fn plain(brokers: &str, topic: &str) -> String {
    format!("brokers: [\"{}\"], topic: {topic}", brokers.replace(',', "\", \""))
}

impl Bridge {
    /// Starts it on ports of its own. `more` is further configuration: whole top-level sections that
    /// [`write_config`] does not write.
    pub(crate) fn start(brokers: &str, topic: &str, more: &str) -> Self {
        Self::start_with(&plain(brokers, topic), more)
    }

    /// The same with these members of the section `kafka`.
    pub(crate) fn start_with(kafka: &str, more: &str) -> Self {
        Self::start_under(&[], kafka, more)
    }

    /// The same, run by another command, which must become the bridge (`exec`): signals go to it.
    pub(crate) fn start_under(wrapper: &[String], kafka: &str, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("recording-bridge-tests-").tempdir().unwrap().keep();
        let home = folder.join("bridge");
        fs::create_dir(&home).unwrap();
        let config = write_config(&home, kafka, more);
        let command = [env!("CARGO_BIN_EXE_recording-bridge"), "serve", "--config", config.to_str().unwrap()];
        let command: Vec<String> = wrapper.iter().cloned().chain(command.map(str::to_owned)).collect();
        let mut process = Supervised::new(&home, &command);
        process.start();
        let callbacks = await_listener(&process, "callbacks", 0);
        let admin = await_listener(&process, "admin", 0);
        Self { process, home, config, callbacks, admin, last_metrics: String::new() }
    }

    /// Its configuration file, gone when it is.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, on other ports.
    pub(crate) fn restart(&mut self) {
        let said = self.process.log().len();
        self.process.start();
        self.callbacks = await_listener(&self.process, "callbacks", said);
        self.admin = await_listener(&self.process, "admin", said);
    }

    /// The folder of its configuration, key, log and spool.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The sum of all samples of `metric` that carry `labels`.
    pub(crate) fn metric(&self, metric: &str, labels: &[(&str, &str)]) -> u64 {
        sum(&self.metrics(), metric, labels)
    }

    pub(crate) fn callbacks(&self) -> SocketAddr {
        self.callbacks
    }

    /// SIGSTOP: it does nothing until it is thawed.
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A load on this bridge, to be adjusted.
    pub(crate) fn load(&self, count: u64, rate: f64) -> Load {
        Load {
            address: self.callbacks,
            path: PATH.to_owned(),
            key: KEY.to_owned(),
            count,
            rate,
            streams: 40,
            connections: 16,
            closed_loop_per_stream: false,
            repeat_every: 0,
        }
    }

    /// What the process holds of the system's resources, and its spool of the disk's.
    pub(crate) fn resources(&self) -> Resources {
        let folder = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status = fs::read_to_string(folder.join("status")).unwrap();
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Resources {
            resident_kib: number("VmRSS"),
            threads: number("Threads"),
            // By its own account: nobody else may look, but root.
            descriptors: usize::try_from(self.metric("process_open_fds", &[])).unwrap(),
            spool_bytes: bytes_in(&self.home.join("spool")),
        }
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        !self.process.has_ended()
    }

    /// What `/ready` answers, and how long that takes.
    pub(crate) fn readiness(&self) -> (u16, Duration) {
        let asked = Instant::now();
        let (status, _) = Client::new(self.admin).get("/ready").unwrap();
        (status, asked.elapsed())
    }

    /// The page of metrics.
    pub(crate) fn metrics(&self) -> String {
        let (status, text) = Client::new(self.admin).get("/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        text
    }

    /// `received = accepted + duplicate + ignored + dead_lettered + refused + unresolved + in_flight` once nothing is
    /// in flight, and `unresolved` is 0. Gives the number received.
    pub(crate) fn assert_conservation(&self) -> u64 {
        let in_flight = || sum(&self.metrics(), "recording_bridge_callbacks_in_flight", &[]);
        wait_for("callbacks in flight to end", STOP_PATIENCE, || self.log_tail(), || (in_flight() == 0).then_some(()));
        let text = self.metrics();
        conservation(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        self.terminate_and_stay()
    }

    /// SIGTERM; the exit code. It can be started again.
    pub(crate) fn terminate_and_stay(&mut self) -> i32 {
        // It may have ended by itself.
        self.last_metrics = Client::new(self.admin).get("/metrics").map(|(_, text)| text).unwrap_or_default();
        self.process.signal(Signal::TERM);
        self.process.reap(STOP_PATIENCE)
    }

    /// SIGTERM; the exit code. For a bridge that is given more time than usual.
    pub(crate) fn terminate_within(&mut self, patience: Duration) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.reap(patience)
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

thread_local! {
    static BLACK_BOX: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The log of the bridge that this test has had last, and its metrics just before it was told to end: for when it turns
/// out only later that something is wrong.
pub(crate) fn black_box() -> String {
    BLACK_BOX.take()
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let (metrics, log) = (&self.last_metrics, self.log());
        BLACK_BOX.set(format!("{metrics}\n{log}"));
    }
}

/// Waits for the log line that tells where a listener listens: ports are chosen by the operating system.
/// What it had said before, the first `said` bytes of its log, does not count.
fn await_listener(process: &Supervised, listener: &str, said: usize) -> SocketAddr {
    let what = format!("the bridge's listener for {listener}");
    wait_for(
        &what,
        START_PATIENCE,
        || process.log_tail(),
        || {
            let log = process.log();
            let found =
                log[said..].lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|line| {
                    let is_it = line["message"] == "listening" && line["listener"] == listener;
                    is_it.then(|| line["address"].as_str().unwrap().parse().unwrap())
                });
            assert!(found.is_some() || !process.has_ended(), "the bridge ended while starting\n{}", process.log_tail());
            found
        },
    )
}

/// The law of conservation on a page of metrics at rest: the number received, or what is wrong.
fn conservation(text: &str) -> Result<u64, String> {
    let outcome = |name: &str| sum(text, "recording_bridge_callbacks_total", &[("outcome", name)]);
    let received = sum(text, "recording_bridge_callbacks_received_total", &[]);
    let in_flight = sum(text, "recording_bridge_callbacks_in_flight", &[]);
    let outcomes =
        ["accepted", "duplicate", "ignored", "passed_on", "dead_lettered", "refused", "unresolved"].map(outcome);
    let accounted = outcomes.iter().sum::<u64>() + in_flight;
    if outcome("unresolved") != 0 {
        return Err(format!("{} callbacks are unresolved", outcome("unresolved")));
    }
    if sum(text, "recording_bridge_callbacks_total", &[]) != outcomes.iter().sum::<u64>() {
        return Err("an outcome that the law does not know".to_owned());
    }
    if received != accounted {
        return Err(format!("{received} received and {accounted} accounted for"));
    }
    Ok(received)
}

/// The sum of all samples of `metric` that carry `labels`; 0 if there is none.
pub(crate) fn sum(text: &str, metric: &str, labels: &[(&str, &str)]) -> u64 {
    let samples = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(sample, _)| {
        let (name, found) = sample.split_once('{').unwrap_or((sample, ""));
        // No label of ours holds a quote or a comma.
        let carries = |(label, value): &(&str, &str)| {
            found.trim_end_matches('}').split(',').any(|pair| pair == format!("{label}=\"{value}\""))
        };
        name == metric && labels.iter().all(carries)
    });
    samples.map(|(_, value)| value.parse::<u64>().unwrap_or_else(|_| panic!("{metric} is {value}"))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE recording_bridge_callbacks_received_total counter\n\
        recording_bridge_callbacks_received_total 10\n\
        recording_bridge_callbacks_total{outcome=\"accepted\",reason=\"\"} 4\n\
        recording_bridge_callbacks_total{outcome=\"refused\",reason=\"deadline\"} 2\n\
        recording_bridge_callbacks_total{outcome=\"refused\",reason=\"expired\"} 3\n\
        recording_bridge_callbacks_total{outcome=\"unresolved\",reason=\"\"} 0\n\
        recording_bridge_callbacks_in_flight 1\n";

    #[test]
    fn conservation_adds_up_every_outcome() {
        assert_eq!(conservation(PAGE), Ok(10));
    }

    #[test]
    fn conservation_is_broken_by_a_callback_that_is_nowhere_or_unresolved_or_of_an_unknown_outcome() {
        for (from, to) in [
            ("received_total 10", "received_total 11"),
            ("reason=\"deadline\"} 2", "reason=\"deadline\"} 1"),
            ("in_flight 1", "in_flight 0"),
            ("\"accepted\",reason=\"\"} 4", "\"unresolved\",reason=\"\"} 4"),
            ("outcome=\"accepted\"", "outcome=\"approved\""),
        ] {
            assert!(PAGE.contains(from));
            assert!(conservation(&PAGE.replace(from, to)).is_err(), "{to}");
        }
    }
}
