//! Promise: a name server that answers nothing, in the middle of an outage, keeps no callback waiting.
//!
//! The brokers are known by a name alone, as in a cluster of containers. To give up a producer then blocks for as long
//! as the resolver is patient, and so does whatever else of librdkafka waits for its threads; all of that must be far
//! from the gate. The bridge runs in a mount namespace of its own: its `/etc/hosts` and `/etc/resolv.conf` are files
//! of the test, which takes the name away and names a server that is there and says nothing.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::bridge::{Bridge, plain};
use crate::support::kafka::{Cluster, Extras, Listener, Topic, free_ports, topic_name};
use crate::support::load::Answer;
use crate::support::spooling::{SPOOL, assert_all_accepted, await_direct, conclude, short_grace};
use crate::support::{long, wait_for};

const BROKERS: [&str; 2] = ["broker-1.kafka.example", "broker-2.kafka.example"];
/// Loopback addresses are many; nobody else has this one.
const NAME_SERVER: &str = "127.77.53.1";
/// As orchestrators write it: a name with few dots is first looked for in every domain. The resolver waits twice for
/// each, here 2 s instead of the usual 5: one lookup takes 8 s, which is longer than any answer may.
const RESOLVER: &str = "nameserver 127.77.53.1\nsearch cluster.example\noptions ndots:5 timeout:2 attempts:2\n";

/// What the bridge knows of names.
struct Names {
    folder: TempDir,
    /// Takes every question and answers none.
    _server: UdpSocket,
}

impl Names {
    fn new() -> Self {
        let server = UdpSocket::bind((NAME_SERVER, 53));
        let server = server.unwrap_or_else(|error| panic!("port 53 of {NAME_SERVER}: {error}; this test needs root"));
        let names = Self { folder: tempfile::tempdir().unwrap(), _server: server };
        fs::write(names.file("resolv.conf"), RESOLVER).unwrap();
        names.know(true);
        names
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether the brokers' names are known without asking anybody. The file stays the same one, since it is mounted.
    fn know(&self, known: bool) {
        let line = if known { format!("127.0.0.1 {}\n", BROKERS.join(" ")) } else { String::new() };
        fs::write(self.file("hosts"), line).unwrap();
    }

    /// Runs what follows with these names.
    fn wrapper(&self) -> Vec<String> {
        let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let files = [text(&self.file("hosts")), text(&self.file("resolv.conf"))];
        let words = ["unshare", "--mount", "sh", "-c", script, "names"].map(str::to_owned);
        words.into_iter().chain(files).collect()
    }
}

/// Sends callbacks for `seconds`; meanwhile the gate must be free, of which readiness asks as well.
fn send(bridge: &Bridge, rate: u64, seconds: u64, fault: impl FnOnce() + Send) -> Vec<Answer> {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let mut load = bridge.load(rate * seconds, rate as f64);
    load.connections = rate * 7;
    thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        scope.spawn(fault);
        while !load.is_finished() {
            let (_, took) = bridge.readiness();
            assert!(took < Duration::from_secs(1), "the gate was held for {took:?}\n{}", bridge.log_tail());
            thread::sleep(Duration::from_millis(100));
        }
        load.join().unwrap()
    })
}

fn slowest(answers: &[Answer]) -> Duration {
    answers.iter().map(|answer| answer.latency).max().unwrap()
}

#[test]
fn a_dead_name_server_during_an_outage_keeps_no_callback_waiting() {
    let (rate, seconds) = if long() { (200, 120) } else { (100, 10) };
    let names = Names::new();
    let ports = free_ports(BROKERS.len());
    let cluster = Cluster::start_with(BROKERS.len(), |number, _| {
        let (host, port) = (BROKERS[number - 1], ports[number - 1]);
        Extras { listeners: vec![Listener { name: "NAMED", protocol: "PLAINTEXT", host, port }], ..Extras::default() }
    });
    let topic = topic_name("dead-name-server");
    cluster.create_topic(&Topic { name: &topic, partitions: 12, replication: 2, min_isr: 2, properties: &[] });
    let brokers = format!("{}:{},{}:{}", BROKERS[0], ports[0], BROKERS[1], ports[1]);
    let kafka = plain(&brokers, &topic);
    let more = format!("{SPOOL}\n{}", short_grace());
    let mut bridge = Bridge::start_under(&names.wrapper(), &kafka, &more);
    await_direct(&bridge, Duration::from_secs(20));

    // A timetable. One broker dies: the thread that wants to connect to it again hangs in the resolver, so that a purge
    // of its producer waits for it. The other says nothing, so that the producer is given up at the ack deadline and
    // no sooner, in the middle of that.
    let mut answers = send(&bridge, rate, seconds, || {
        thread::sleep(Duration::from_secs(2));
        names.know(false);
        cluster.freeze(2);
        cluster.kill(1);
        thread::sleep(Duration::from_secs(6));
        cluster.kill(2);
    });
    assert_all_accepted(&answers);
    assert!(slowest(&answers) < Duration::from_secs(7), "{:?}", slowest(&answers));
    println!("slowest answer while the names went away: {:?}", slowest(&answers));

    // The end of the process waits for no name, and neither does the start of the next one.
    let asked = Instant::now();
    assert_eq!(bridge.terminate_and_stay(), 0, "{}", bridge.log_tail());
    println!("stopped within {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let asked = Instant::now();
    bridge.restart();
    let ready = || (bridge.readiness().0 == 200).then_some(());
    wait_for("readiness", Duration::from_secs(20), || bridge.log_tail(), ready);
    println!("ready again within {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let again = send(&bridge, rate, 3, || ());
    assert_all_accepted(&again);
    assert!(slowest(&again) < Duration::from_secs(2), "{:?}", slowest(&again));
    answers.extend(again);

    names.know(true);
    cluster.restart_together(&[1, 2]);
    await_direct(&bridge, Duration::from_secs(60));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
    let findings = conclude(&cluster, &topic, &answers);
    // Only what was under way when the broker died may be there twice.
    assert!(findings.duplicates <= usize::try_from(rate * 6).unwrap(), "{findings}");
}
