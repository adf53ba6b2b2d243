//! A broker that refuses a message for the moment and takes the next promises: what was refused is not safe because of
//! what was taken.
//!
//! The broker is real, and knows nothing of a fresh producer: it takes messages from any sequence number on. The case
//! in which that matters lasts some milliseconds after an outage, so a proxy makes it certain: it holds the second
//! request back until the broker, which has refused the first, would accept both.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::support::bridge::{Bridge, KEY, PATH};
use crate::support::kafka::{Cluster, Extras, Listener, Topic, free_ports, read_topic, topic_name};
use crate::support::law::law;
use crate::support::load::{Answer, Client, callback, seconds_now};
use crate::support::spooling::{SPOOL, assert_all_accepted};
use crate::support::wait_for;

/// The broker listens here and says that it is to be found at [`PROXY`], on the same port.
const BROKER: &str = "127.0.0.1";
const PROXY: &str = "127.0.0.2";
/// Two streams that lie on different partitions of two, and that of the first.
const STREAM: &str = "stream";
const ANOTHER_STREAM: &str = "another";
const PARTITION: i32 = 1;
/// Kafka's number of the request that publishes.
const PRODUCE: [u8; 2] = [0, 0];
/// How long the first request waits for a second one to be on its way.
const COMPANY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// How many requests to publish have come since they are counted, whether the first was answered, and whether those
/// after it may go on.
#[derive(Default)]
struct Produced {
    are_counted: bool,
    came: usize,
    /// The number by which the client knows the answer to the first.
    first: [u8; 4],
    is_answered: bool,
    may_go_on: bool,
}

#[derive(Default)]
struct Gate {
    produced: Mutex<Produced>,
    changed: Condvar,
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut Produced)) {
        change(&mut self.produced.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until `is_so`, or for so long; whether it came to be so.
    fn wait(&self, patience: Duration, is_so: impl Fn(&Produced) -> bool) -> bool {
        let produced = self.produced.lock().unwrap_or_else(PoisonError::into_inner);
        let (produced, _) = self.changed.wait_timeout_while(produced, patience, |produced| !is_so(produced)).unwrap();
        is_so(&produced)
    }

    /// A request to publish has come: back when it may go on to the broker.
    fn pass(&self, number: usize) {
        if number == 1 {
            self.wait(COMPANY, |produced| produced.came > 1);
        } else {
            self.wait(PATIENCE, |produced| produced.may_go_on);
        }
    }
}

/// Carries every connection to the broker on the same port.
fn start_proxy(port: u16, gate: Arc<Gate>) {
    let listener = TcpListener::bind((PROXY, port)).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            // A broker that was shut down refuses connections, and so does its proxy.
            let (client, Ok(broker)) = (client.unwrap(), TcpStream::connect((BROKER, port))) else { continue };
            let gate = Arc::clone(&gate);
            carry_answers(broker.try_clone().unwrap(), client.try_clone().unwrap(), Arc::clone(&gate));
            carry_requests(client, broker, gate);
        }
    });
}

fn carry_answers(mut broker: TcpStream, mut client: TcpStream, gate: Arc<Gate>) {
    thread::spawn(move || {
        while let Ok(answer) = read_frame(&mut broker) {
            if client.write_all(&answer).is_err() {
                break;
            }
            gate.change(|produced| produced.is_answered |= produced.came > 0 && answer[4..8] == produced.first);
        }
        client.shutdown(Shutdown::Both)
    });
}

/// Reads ahead, so that it is known what follows a request that waits.
fn carry_requests(mut client: TcpStream, mut broker: TcpStream, gate: Arc<Gate>) {
    let (sender, requests) = std::sync::mpsc::channel::<(Vec<u8>, usize)>();
    let reader = Arc::clone(&gate);
    thread::spawn(move || {
        while let Ok(request) = read_frame(&mut client) {
            let mut number = 0;
            if request[4..6] == PRODUCE {
                reader.change(|produced| {
                    if !produced.are_counted {
                        return;
                    }
                    produced.came += 1;
                    number = produced.came;
                    if number == 1 {
                        produced.first.copy_from_slice(&request[8..12]);
                    }
                });
            }
            if sender.send((request, number)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (request, number) in requests {
            if number > 0 {
                gate.pass(number);
            }
            if broker.write_all(&request).is_err() {
                break;
            }
        }
        broker.shutdown(Shutdown::Both)
    });
}

/// A request or an answer as it is on the wire: its length in four bytes, and as many more. A request begins with its kind
/// and its version, two bytes each; then comes, as in an answer at once, the number by which they belong together.
fn read_frame(connection: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    connection.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frame.resize(4 + usize::try_from(length).unwrap(), 0);
    connection.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// From now on the topic takes what one replica has: back when the broker says so.
fn lower_min_isr(cluster: &Cluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
    let (resource, options) = (ResourceSpecifier::Topic(topic), AdminOptions::new());
    let change = AlterConfig::new(resource).set("min.insync.replicas", "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let changed = runtime.block_on(admin.alter_configs([&change], &options)).unwrap();
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    wait_for("the topic's new setting", PATIENCE, String::new, || {
        let described = runtime.block_on(admin.describe_configs([&resource], &options)).unwrap();
        let described = described.into_iter().next()?.ok()?;
        (described.get("min.insync.replicas")?.value.as_deref() == Some("1")).then_some(())
    });
}

/// Shuts down the broker that follows on the partition of [`STREAM`]: only its leader is in sync then.
fn shut_follower_down(cluster: &Cluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
    let metadata = admin.inner().fetch_metadata(Some(topic), PATIENCE).unwrap();
    let partition = &metadata.topics()[0].partitions()[usize::try_from(PARTITION).unwrap()];
    let follower = partition.replicas().iter().find(|replica| **replica != partition.leader()).unwrap();
    cluster.shut_down(usize::try_from(*follower).unwrap());
}

/// Sends one callback.
fn send(bridge: &Bridge, stream_id: &str, file_id: &str, began: Instant) -> Answer {
    let body = callback(KEY, seconds_now() + 600, stream_id, file_id);
    let sent_at = began.elapsed();
    let status = Client::new(bridge.callbacks()).post(PATH, &body).ok();
    let latency = began.elapsed().saturating_sub(sent_at);
    Answer { stream_id: stream_id.to_owned(), file_id: file_id.to_owned(), sent_at, latency, status }
}

#[test]
fn what_a_real_broker_refused_is_not_safe_because_it_took_the_next() {
    let ports = free_ports(3);
    let listener = |port| Listener { name: "PROXIED", protocol: "PLAINTEXT", host: PROXY, port };
    let cluster = Cluster::start_with(3, |number, _| Extras {
        listeners: vec![listener(ports[number - 1])],
        ..Extras::default()
    });
    let topic = topic_name("refused-then-taken");
    cluster.create_topic(&Topic { name: &topic, partitions: 2, replication: 2, min_isr: 2, properties: &[] });
    let gate = Arc::new(Gate::default());
    for port in &ports {
        start_proxy(*port, Arc::clone(&gate));
    }
    let proxies: Vec<String> = ports.iter().map(|port| format!("{PROXY}:{port}")).collect();
    let bridge = Bridge::start(&proxies.join(","), &topic, SPOOL);
    let began = Instant::now();
    // The producer has its number, and nothing was published to the partition of the others.
    let mut answers = vec![send(&bridge, ANOTHER_STREAM, "another", began)];
    shut_follower_down(&cluster, &topic);
    gate.change(|produced| produced.are_counted = true);
    thread::scope(|scope| {
        let first = scope.spawn(|| send(&bridge, STREAM, "first", began));
        assert!(gate.wait(PATIENCE, |produced| produced.came > 0), "nothing was published");
        let second = scope.spawn(|| send(&bridge, STREAM, "second", began));
        assert!(gate.wait(PATIENCE, |produced| produced.is_answered), "the first message was not refused");
        lower_min_isr(&cluster, &topic);
        gate.change(|produced| produced.may_go_on = true);
        answers.extend([first.join().unwrap(), second.join().unwrap()]);
    });
    assert_all_accepted(&answers);
    let believed = bridge.metric("recording_bridge_kafka_delivery_failures_total", &[("failure", "no_offset")]) == 0;
    println!("{}", bridge.log_tail());
    let records = read_topic(&cluster, &topic);
    law(&answers, &records).assert_hold();
    let partition =
        |stream: &str| records.iter().find(|record| record.key.as_deref() == Some(stream)).unwrap().partition;
    assert_eq!((partition(STREAM), partition(ANOTHER_STREAM)), (PARTITION, 1 - PARTITION));
    assert!(believed, "librdkafka reported an acknowledgement that the broker never gave");
}
