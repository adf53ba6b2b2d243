//! Clusters of real Apache Kafka brokers, one or three, and the Java client that reads what they hold.
//!
//! The brokers are processes on this machine, so faults are real: SIGKILL, SIGSTOP, SIGCONT. They come from the jars
//! that `tests/run --fetch-kafka` keeps in `tests/.cache`.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::Path;
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rustix::process::Signal;
use serde::Deserialize;

use super::java::{jars, java, java_command};
use super::process::Supervised;
use super::{unique, wait_for};

/// Every broker serves two ports from this range: below the range of outgoing connections (from 32768), or a
/// client's own connection might sit on a broker's port while that broker is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// A broker starts in 2 to 4 s on an idle machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
const ADMIN_PATIENCE: Duration = Duration::from_secs(30);
/// Brokers that belong together. Dropping it kills them and removes what they stored.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    process: Mutex<Supervised>,
}

/// What a topic should be; see [`Cluster::create_topic`].
pub(crate) struct Topic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replication: i32,
    pub(crate) min_isr: u32,
    pub(crate) properties: &'a [(&'a str, &'a str)],
}

/// What a broker has beyond the plain listener.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) listeners: Vec<Listener>,
    /// Further lines of `server.properties`.
    pub(crate) properties: String,
    /// Further arguments of `StorageTool format`.
    pub(crate) format: Vec<String>,
}

/// A listener of a broker beyond the plain one.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    /// The name by which clients are told to find it. It listens on the loopback address in any case.
    pub(crate) host: &'static str,
    pub(crate) port: u16,
}

impl Cluster {
    /// `brokers` nodes, each broker and controller in one, all of them ready.
    pub(crate) fn start(brokers: usize) -> Self {
        Self::prepare(brokers).started()
    }

    /// `brokers` nodes that have more than others; `extras` is told the number of each and its folder, which is removed
    /// with it.
    pub(crate) fn start_with(brokers: usize, extras: impl FnMut(usize, &Path) -> Extras) -> Self {
        Self::prepare_with(brokers, extras).started()
    }

    fn started(self) -> Self {
        for node in &self.nodes {
            node.process().start();
        }
        for (number, node) in self.numbered() {
            node.await_ready(number, 0);
        }
        self.await_members();
        self
    }

    /// The nodes of a cluster, formatted and not started: `restart` starts them.
    pub(crate) fn prepare(brokers: usize) -> Self {
        Self::prepare_with(brokers, |_, _| Extras::default())
    }

    fn prepare_with(brokers: usize, mut extras: impl FnMut(usize, &Path) -> Extras) -> Self {
        let jars = jars();
        let folder = tempfile::Builder::new().prefix("recording-bridge-kafka-").tempdir().unwrap().keep();
        let ports = free_ports(2 * brokers);
        let (broker_ports, controller_ports) = ports.split_at(brokers);
        let voters: Vec<String> =
            controller_ports.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1)).collect();
        let cluster_id = cluster_id();
        let mut formats = Vec::new();
        let mut nodes = Vec::new();
        for (at, (&port, &controller)) in broker_ports.iter().zip(controller_ports).enumerate() {
            let home = folder.join((at + 1).to_string());
            fs::create_dir(&home).unwrap();
            let properties = home.join("server.properties");
            let extras = extras(at + 1, &home);
            let text = server_properties(at + 1, (port, controller), &voters, &home, &extras);
            fs::write(&properties, text).unwrap();
            let properties = properties.to_str().unwrap().to_owned();
            let mut format = java(jars, &["kafka.tools.StorageTool", "format", "-t", &cluster_id, "-c", &properties]);
            format.args(&extras.format);
            formats.push(format.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            let command = java_command(jars, &["kafka.Kafka", &properties]);
            nodes.push(Node { port, process: Mutex::new(Supervised::new(&home, &command)) });
        }
        for format in formats {
            let output = format.wait_with_output().unwrap();
            assert!(output.status.success(), "formatting failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self { nodes }
    }

    /// What a client takes as `bootstrap.servers`.
    pub(crate) fn brokers(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// Creates a topic and waits until every partition of it has a leader and all its replicas in sync.
    pub(crate) fn create_topic(&self, topic: &Topic) {
        let min_isr = topic.min_isr.to_string();
        let mut new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(topic.replication))
            .set("min.insync.replicas", &min_isr);
        for (name, value) in topic.properties {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_PATIENCE)).request_timeout(Some(ADMIN_PATIENCE));
        let admin = self.admin();
        let results = block_on(admin.create_topics([&new], &options)).unwrap();
        for result in results {
            result.unwrap_or_else(|fault| panic!("creating {fault:?}\n{}", self.log_tails()));
        }
        self.await_in_sync(topic.name, topic.partitions, topic.replication);
    }

    /// Waits until every broker lists every broker: each says it has started before the others know of it.
    fn await_members(&self) {
        for (number, node) in self.numbered() {
            let address = format!("127.0.0.1:{}", node.port);
            let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
            let what = format!("broker {number} to list all brokers");
            wait_for(
                &what,
                START_PATIENCE,
                || self.log_tails(),
                || {
                    let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5)).ok()?;
                    (metadata.brokers().len() == self.nodes.len()).then_some(())
                },
            );
        }
    }

    /// Waits until all of `replication` replicas of every partition are in sync.
    pub(crate) fn await_in_sync(&self, topic: &str, partitions: i32, replication: i32) {
        let admin = self.admin();
        let count = |number: i32| usize::try_from(number).unwrap();
        wait_for(
            "replicas in sync",
            START_PATIENCE,
            || self.log_tails(),
            || {
                let metadata = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
                let found = metadata.topics().first()?.partitions();
                let whole = |partition: &rdkafka::metadata::MetadataPartition| {
                    partition.leader() >= 0 && partition.isr().len() == count(replication)
                };
                (found.len() == count(partitions) && found.iter().all(whole)).then_some(())
            },
        );
    }

    /// Deletes a topic and waits until the brokers no longer know it.
    pub(crate) fn delete_topic(&self, name: &str) {
        let admin = self.admin();
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_PATIENCE));
        let results = block_on(admin.delete_topics(&[name], &options)).unwrap();
        results.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        wait_for(
            "a topic to be gone",
            ADMIN_PATIENCE,
            || self.log_tails(),
            || {
                let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5)).ok()?;
                metadata.topics().iter().all(|topic| topic.name() != name).then_some(())
            },
        );
    }

    /// How many records a topic holds, by its offsets.
    pub(crate) fn count_records(&self, topic: &str, partitions: i32) -> i64 {
        let admin = self.admin();
        let count = |partition| {
            let (low, high) = admin.inner().fetch_watermarks(topic, partition, ADMIN_PATIENCE).unwrap();
            high - low
        };
        (0..partitions).map(count).sum()
    }

    /// Moves every partition of a topic to other brokers, and with it its leader, `rounds` times with a pause between:
    /// back when the last move is complete.
    pub(crate) fn move_partitions(&self, topic: &str, rounds: u32, pause: Duration) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/Move.java");
        let (rounds, pause) = (rounds.to_string(), pause.as_millis().to_string());
        let output = java(jars(), &["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", source.to_str().unwrap()])
            .args(["--brokers", &self.brokers(), "--topic", topic, "--rounds", &rounds, "--pause", &pause])
            .output()
            .unwrap();
        assert!(output.status.success(), "Move.java failed: {}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }

    /// SIGKILL for broker `number` (from 1): back when the process is gone.
    pub(crate) fn kill(&self, number: usize) {
        self.node(number).process().kill();
    }

    /// Starts broker `number`, killed or only prepared: back when it is ready.
    pub(crate) fn restart(&self, number: usize) {
        self.restart_together(&[number]);
    }

    /// Starts these brokers: back when all are ready. None of three is ready before there is a majority.
    pub(crate) fn restart_together(&self, numbers: &[usize]) {
        let written: Vec<usize> = numbers.iter().map(|number| self.node(*number).process().log().len()).collect();
        for number in numbers {
            self.node(*number).process().start();
        }
        for (number, written) in numbers.iter().zip(written) {
            self.node(*number).await_ready(*number, written);
        }
    }

    /// SIGTERM for broker `number`: it hands its leaderships to others first. Back when the process is gone.
    pub(crate) fn shut_down(&self, number: usize) {
        let node = self.node(number);
        node.process().signal(Signal::TERM);
        node.process().reap(START_PATIENCE);
    }

    /// SIGSTOP for broker `number`: its connections stay open, and nothing answers.
    pub(crate) fn freeze(&self, number: usize) {
        self.node(number).process().signal(Signal::STOP);
    }

    /// SIGCONT for broker `number`.
    pub(crate) fn thaw(&self, number: usize) {
        self.node(number).process().signal(Signal::CONT);
    }

    /// Whatever an earlier test left broken runs again.
    fn heal(&self) {
        let dead: Vec<_> = self.numbered().filter(|(_, node)| node.process().has_ended()).collect();
        for (_, node) in self.numbered().filter(|(_, node)| !node.process().has_ended()) {
            node.process().signal(Signal::CONT);
        }
        let mut restarted = Vec::new();
        for (number, node) in dead {
            let mut process = node.process();
            if process.is_started() {
                process.reap(Duration::ZERO);
            }
            restarted.push((number, node, process.log().len()));
            process.start();
        }
        // Only together do they have a majority, so all of them are started before any is waited for.
        for (number, node, written) in restarted {
            node.await_ready(number, written);
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap()
    }

    fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| (at + 1, node))
    }

    fn log_tails(&self) -> String {
        self.nodes.iter().fold(String::new(), |mut tails, node| {
            writeln!(tails, "{}", node.process().log_tail()).unwrap();
            tails
        })
    }
}

impl Node {
    fn process(&self) -> MutexGuard<'_, Supervised> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the line that a broker logs when it serves, after `written` bytes of its log.
    fn await_ready(&self, number: usize, written: usize) {
        let evidence = || self.process().log_tail();
        wait_for(&format!("broker {number} to start"), START_PATIENCE, evidence, || {
            let process = self.process();
            assert!(!process.has_ended(), "broker {number} ended while starting\n{}", process.log_tail());
            process.log()[written..].contains("Kafka Server started").then_some(())
        });
    }
}

/// One broker for all tests that break nothing.
pub(crate) fn one_broker() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(1));
    &CLUSTER
}

/// Three brokers, for one test at a time: it may break what it likes, the next one finds them all running.
pub(crate) fn three_brokers() -> ThreeBrokers {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| Mutex::new(Cluster::start(3)));
    let cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.heal();
    ThreeBrokers(cluster)
}

/// Exclusive use of the shared three brokers.
pub(crate) struct ThreeBrokers(MutexGuard<'static, Cluster>);

impl Deref for ThreeBrokers {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

/// The name of a topic that no other test and no other run uses.
pub(crate) fn topic_name(purpose: &str) -> String {
    format!("{purpose}-{:016x}", unique())
}

/// A record as the Java client sees it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    /// Where the Java producer would have put this key.
    pub(crate) java_partition: Option<i32>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) value: String,
}

impl Record {
    /// The value of the only header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "header {name} stands twice in {self:?}");
        value
    }
}

/// Everything that `topic` holds now, read by the Java client, by partition and offset.
pub(crate) fn read_topic(cluster: &Cluster, topic: &str) -> Vec<Record> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/Read.java");
    let output = java(jars(), &["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", source.to_str().unwrap()])
        .args(["--brokers", &cluster.brokers(), "--topic", topic])
        .output()
        .unwrap();
    assert!(output.status.success(), "Read.java failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut records: Vec<Record> =
        std::str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// A cluster's id is 16 bytes in URL-safe base64; one made of hexadecimal digits is as good as any.
fn cluster_id() -> String {
    format!("{:016x}{:05x}A", unique(), unique() & 0xf_ffff)
}

/// `count` ports that nothing listens on, none of them given out before by this process.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::new();
    while ports.len() < count {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(unique() % span).unwrap();
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.push(port);
            ports.push(port);
        }
    }
    ports
}

/// `ports`: of the plain listener, and of the controller.
fn server_properties(node: usize, ports: (u16, u16), voters: &[String], home: &Path, extras: &Extras) -> String {
    let (port, controller) = ports;
    let (mut listeners, mut advertised, mut protocols) = (String::new(), String::new(), String::new());
    for Listener { name, protocol, host, port } in &extras.listeners {
        write!(listeners, ",{name}://127.0.0.1:{port}").unwrap();
        write!(advertised, ",{name}://{host}:{port}").unwrap();
        write!(protocols, ",{name}:{protocol}").unwrap();
    }
    let more = &extras.properties;
    let brokers = voters.len();
    let min_isr = if brokers > 1 { 2 } else { 1 };
    let voters = voters.join(",");
    let data = home.join("data");
    let data = data.display();
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         default.replication.factor={brokers}\n\
         min.insync.replicas={min_isr}\n\
         unclean.leader.election.enable=false\n\
         offsets.topic.replication.factor={brokers}\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={brokers}\n\
         transaction.state.log.min.isr={min_isr}\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.dedupe.buffer.size=4194304\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         {more}"
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
