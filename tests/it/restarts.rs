//! Promise: the bridge may be stopped and started as often as an operator likes, whatever Kafka does and however much
//! is in the spool. A sender that repeats what was not accepted loses nothing and keeps its order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use recording_bridge::event::Timestamp;
use recording_bridge::message::Message;
use recording_bridge::spool::{Config, Directory, Frame, Id, SEGMENT_BYTES, Spool};

use crate::support::bridge::{Bridge, KEY, PATH};
use crate::support::kafka::{Cluster, Topic, free_ports, read_topic, three_brokers, topic_name};
use crate::support::law::law;
use crate::support::load::{Answer, Client, callback, seconds_now};
use crate::support::spooling::{
    SPOOL, assert_all_accepted, await_direct, conclude_in_order, is_in_state, make_topic, short_grace,
};
use crate::support::{long, unique, wait_for};

const STREAMS: u64 = 20;

/// Senders that repeat each callback until it is accepted, wherever the bridge listens by then.
struct Senders {
    address: Mutex<SocketAddr>,
    run: u64,
    began: Instant,
    accepted: AtomicU64,
    enough: AtomicBool,
}

impl Senders {
    fn to(bridge: &Bridge) -> Self {
        Self {
            address: Mutex::new(bridge.callbacks()),
            run: unique() >> 32,
            began: Instant::now(),
            accepted: AtomicU64::new(0),
            enough: AtomicBool::new(false),
        }
    }

    /// Every attempt of one stream, until there is enough.
    fn send(&self, stream: u64) -> Vec<Answer> {
        let stream_id = format!("live_{:08x}_{stream}", self.run);
        let mut attempts = Vec::new();
        for number in 0_u64.. {
            if self.enough.load(Ordering::Relaxed) {
                break;
            }
            let file_id = format!("1300000000_{:08x}{stream:08x}{number:016x}", self.run);
            self.send_until_accepted(&stream_id, &file_id, &mut attempts);
            thread::sleep(Duration::from_millis(50));
        }
        attempts
    }

    fn send_until_accepted(&self, stream_id: &str, file_id: &str, attempts: &mut Vec<Answer>) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut address = *self.address.lock().unwrap();
        let mut client = Client::new(address);
        loop {
            let (sent, sent_at) = (Instant::now(), self.began.elapsed());
            let status = client.post(PATH, &callback(KEY, seconds_now() + 600, stream_id, file_id)).ok();
            let (stream_id, file_id) = (stream_id.to_owned(), file_id.to_owned());
            attempts.push(Answer { stream_id, file_id, sent_at, latency: sent.elapsed(), status });
            if status == Some(200) {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                return;
            }
            assert!(matches!(status, None | Some(503)), "{:?}", attempts.last());
            assert!(Instant::now() < deadline, "refused for too long: {:?}", attempts.last());
            thread::sleep(Duration::from_millis(50));
            let now = *self.address.lock().unwrap();
            if now != address {
                address = now;
                client = Client::new(address);
            }
        }
    }

    /// Waits until so many more callbacks were accepted.
    fn await_accepted(&self, more: u64, bridge: &Bridge) {
        let wanted = self.accepted.load(Ordering::Relaxed) + more;
        let enough = || (self.accepted.load(Ordering::Relaxed) >= wanted).then_some(());
        wait_for("callbacks to be accepted", Duration::from_secs(30), || bridge.log_tail(), enough);
    }

    fn restart(&self, bridge: &mut Bridge) {
        let said = bridge.log().len();
        assert_eq!(bridge.terminate_and_stay(), 0, "{}", bridge.log_tail());
        let log = bridge.log();
        assert!(log[said..].contains("every callback has its answer"), "{}", bridge.log_tail());
        assert!(!log[said..].contains("did not end"), "{}", bridge.log_tail());
        bridge.restart();
        *self.address.lock().unwrap() = bridge.callbacks();
    }
}

#[test]
fn a_bridge_that_is_restarted_again_and_again_under_load_loses_nothing_and_keeps_the_order() {
    let restarts = if long() { 30 } else { 4 };
    let cluster = three_brokers();
    let topic = make_topic(&cluster, "rolling");
    let more = format!("{SPOOL}\n{}", short_grace());
    let mut bridge = Bridge::start(&cluster.brokers(), &topic, &more);
    await_direct(&bridge, Duration::from_secs(30));
    let senders = Senders::to(&bridge);
    let attempts: Vec<Answer> = thread::scope(|scope| {
        let senders = &senders;
        let threads: Vec<_> = (0..STREAMS).map(|stream| scope.spawn(move || senders.send(stream))).collect();
        for _ in 0..restarts {
            senders.await_accepted(150, &bridge);
            senders.restart(&mut bridge);
        }
        // Once while Kafka is away and the spool is not empty.
        senders.await_accepted(50, &bridge);
        (1..=3).for_each(|number| cluster.kill(number));
        senders.await_accepted(200, &bridge);
        assert!(!is_in_state(&bridge, "direct"));
        senders.restart(&mut bridge);
        senders.await_accepted(100, &bridge);
        cluster.restart_together(&[1, 2, 3]);
        // And once while the spool is draining, or has just been.
        senders.restart(&mut bridge);
        senders.await_accepted(50, &bridge);
        senders.enough.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    await_direct(&bridge, Duration::from_secs(60));
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);

    let refused = attempts.iter().filter(|attempt| attempt.status != Some(200)).count();
    println!("{refused} attempts of {} were not accepted", attempts.len());
    // The law lets a callback off that was ever refused; these senders waited for each 200, so the order is theirs.
    let findings = conclude_in_order(&cluster, &topic, &attempts);
    // What was on its way when the brokers were killed is published again, one callback a stream; and, if the machine is
    // so busy that an acknowledgement does not come within the grace, what was drained at that end. Otherwise neither an
    // end in good order nor a start repeats what was published.
    assert!(findings.duplicates <= 2 * usize::try_from(STREAMS).unwrap(), "{findings}");
}

/// A message as small as the law can read. Every stream has as many as every other.
fn small_message(number: u64) -> (Answer, Message) {
    let (stream_id, file_id) = (format!("s{}", number % 1_000), format!("f{number}"));
    let payload = format!(r#"{{"stream_id":"{stream_id}","file_id":"{file_id}"}}"#);
    let message = Message::from_parts(Bytes::from(stream_id.clone()), Bytes::from(payload), Vec::new());
    // As if each had been sent after the answer to the one before.
    let sent_at = Duration::from_micros(number);
    (Answer { stream_id, file_id, sent_at, latency: Duration::ZERO, status: Some(200) }, message)
}

/// A spool of `count` frames in `directory`, and what their senders were told.
fn write_spool(directory: &Path, count: u64) -> Vec<Answer> {
    let config = Config {
        bytes_max: 4 << 30,
        disk_free_min: 0,
        segment_bytes: SEGMENT_BYTES,
        owner: Id([7; 16]),
        allocate_at_start: false,
    };
    let mut spool = Spool::open(Directory::at(directory), config).unwrap();
    let accepted_at = Timestamp::from_microseconds(i64::try_from(seconds_now() * 1_000_000).unwrap()).unwrap();
    let mut answers = Vec::new();
    for first in (1..=count).step_by(4_000) {
        let frames: Vec<Frame> = (first..first + 4_000)
            .map(|sequence| {
                let (answer, message) = small_message(sequence);
                answers.push(answer);
                Frame { sequence, accepted_at, message }
            })
            .collect();
        assert!(spool.writer.append_batch(&frames).unwrap().covers(first));
    }
    answers
}

/// The start is tried with brokers that are away; that all of it is published, in the long run only.
#[test]
fn a_process_with_a_million_frames_in_its_spool_is_ready_in_seconds() {
    const COUNT: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("spool");
    std::fs::create_dir(&directory).unwrap();
    let began = Instant::now();
    let mut answers = write_spool(&directory, COUNT);
    println!("{COUNT} frames written within {:?}", began.elapsed());

    let topic = topic_name("huge-spool");
    let cluster = long().then(|| Cluster::start(1));
    if let Some(cluster) = &cluster {
        cluster.create_topic(&Topic { name: &topic, partitions: 12, replication: 1, min_isr: 1, properties: &[] });
        cluster.kill(1);
    }
    let brokers = cluster.as_ref().map_or_else(|| format!("127.0.0.1:{}", free_ports(1)[0]), Cluster::brokers);
    let began = Instant::now();
    let more = format!("spool: {{directory: {}, disk_free_min: 0B}}\n{}", directory.display(), short_grace());
    let bridge = Bridge::start(&brokers, &topic, &more);
    let ready = || (bridge.readiness().0 == 200).then_some(());
    wait_for("readiness", Duration::from_secs(60), || bridge.log_tail(), ready);
    let ready_after = began.elapsed();
    println!("ready within {ready_after:?}");
    assert!(ready_after < Duration::from_secs(3), "{ready_after:?}");
    assert_eq!(bridge.metric("recording_bridge_spool_frames", &[]), COUNT);
    let further = bridge.load(100, 200.0).run();
    assert_all_accepted(&further);
    assert_eq!(bridge.metric("recording_bridge_spool_frames", &[]), COUNT + 100);
    bridge.assert_conservation();
    let Some(cluster) = cluster else { return };

    cluster.restart(1);
    let began = Instant::now();
    await_direct(&bridge, Duration::from_secs(600));
    println!("published within {:?}", began.elapsed());
    assert_eq!(bridge.terminate(), 0);
    answers.extend(further);
    let findings = law(&answers, &read_topic(&cluster, &topic));
    println!("{findings}");
    findings.assert_hold();
    assert_eq!(findings.duplicates, 0, "{findings}");
}
