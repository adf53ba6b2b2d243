//! Bytes of a connection → the real listener, intake and delivery, before a Kafka and disks that are not real.
//!
//! Promise: whatever a client sends, every answer is one of the few that there are, to the letter. A callback is
//! acknowledged only if it is signed, and only if its message was reported as delivered, or stands synced in the spool,
//! or its letter among the dead ones. At rest every callback that was received has exactly one outcome.
//!
//! An input is a byte that chooses the state of the world, a byte that says where the bytes of the connection are
//! split, and those bytes. `SIGN` eight times stands for the signature, which no input can know.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use recording_bridge::callback::{self, ActiveKeyring, ClockOffset, Key, Keyring, Published, Redaction, Scope, Window};
use recording_bridge::clock::Clock;
use recording_bridge::delivery::{self, Delivery, Spools, window};
use recording_bridge::event::Timestamp;
use recording_bridge::http::intake::{Intake, Parts};
use recording_bridge::http::{self, Readiness, server};
use recording_bridge::kafka::{
    Delivered, Observer, ProbeError, Producer, Producers, Purpose, Report, SendError, StartError,
};
use recording_bridge::message::Message;
use recording_bridge::metrics::Metrics;
use recording_bridge::refusal::Refusal;
use recording_bridge::spool::segment::HEADER_BYTES;
use recording_bridge::spool::{Config, Frame, Spool};
use recording_bridge::status::Journal;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faulty_storage::FaultyStorage;
use super::secrets::{secret, shows, signature};
use super::spool::small;

const NOW: u64 = 1_700_000_000;
const PLACE_OF_SIGN: &str = "SIGNSIGNSIGNSIGNSIGNSIGNSIGNSIGN";
/// A world is left after so many inputs: what is in its spool stays there.
const INPUTS_MAX: usize = 500;
/// Everything here takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub fn run(input: &[u8]) {
    thread_local! {
        static WORLDS: RefCell<BTreeMap<u8, World>> = const { RefCell::new(BTreeMap::new()) };
    }
    let [kind, split, bytes @ ..] = input else { return };
    let kind = kind % 4;
    WORLDS.with_borrow_mut(|worlds| {
        let world = worlds.entry(kind).or_insert_with(|| World::new(kind));
        world.take(usize::from(*split), bytes);
        if world.inputs >= INPUTS_MAX {
            worlds.remove(&kind);
        }
    });
}

fn key() -> String {
    secret("intake", b"")
}

fn sign() -> String {
    signature(&key(), &(NOW + 600).to_string())
}

/// One bridge, wired as the program wires it.
struct World {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    delivery: Delivery,
    stop: CancellationToken,
    delivered: Arc<AtomicU64>,
    /// Of messages and of dead letters.
    disks: Option<[FaultyStorage; 2]>,
    seen: Seen,
    inputs: usize,
}

/// What was counted, by those who were asked to store and by the bridge.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    delivered: u64,
    frames: u64,
    letters: u64,
    by_kafka: u64,
    by_spool: u64,
    by_letter: u64,
    /// Acknowledged in any way.
    positive: u64,
}

impl World {
    /// 0: Kafka takes everything; 1: it takes nothing, the spool does; 2: the spool is full as well; 3: there is none.
    fn new(kind: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let disks = (kind < 3).then(|| [FaultyStorage::new(1), FaultyStorage::new(2)]);
        let delivered = Arc::new(AtomicU64::new(0));
        let producers = Box::new(Fake { takes: kind == 0, delivered: Arc::clone(&delivered) });
        let open = |disk: &FaultyStorage, room| {
            let limits = Config { bytes_max: room, segment_bytes: 1 << 16, allocate_at_start: room > 0, ..small(1) };
            Spool::open(disk.clone(), limits).expect("the disk is sound")
        };
        let spools = disks.as_ref().map(|[messages, letters]| Spools {
            messages: open(messages, if kind == 2 { 0 } else { 1 << 26 }),
            dead_letters: open(letters, if kind == 2 { 0 } else { 1 << 26 }),
        });
        let metrics = Arc::new(Metrics::new(&["key"], &[], "none"));
        let clock: Arc<dyn Clock> = Arc::new(Standstill);
        let times = delivery::Config {
            ack_deadline: Duration::from_secs(5),
            watchdog: Duration::from_secs(60),
            repeats: window::Config { period: Duration::from_secs(1200), entries_max: 1024 },
        };
        let delivery = Delivery::start(producers, None, spools, Arc::clone(&metrics), Arc::clone(&clock), times)
            .expect("threads can be had");
        let config = http::Config { body_bytes_max: 4096, ..http::Config::default() };
        let parts = Parts {
            config: config.clone(),
            delivery_time: Duration::from_secs(8),
            keyring: Arc::new(ActiveKeyring::new(Keyring::new(vec![Key::new("key", &key(), Scope::default())]))),
            window: Window::new(&callback::Config::new(Vec::new())),
            clock_offset: Arc::new(ClockOffset::new(clock.monotonic())),
            redaction: Redaction::default(),
            published: Published::default(),
            delivery: delivery.clone(),
            readiness: Readiness::new(delivery.clone()),
            metrics: Arc::clone(&metrics),
            journal: Some(Arc::new(Journal::new(vec!["key".to_owned()], Timestamp::from(clock.wall())))),
        };
        let intake = Arc::new(Intake::new(parts, clock, TaskTracker::new()));
        let stop = CancellationToken::new();
        let address = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("a bound port has an address");
            tokio::task::spawn(server::serve(listener, intake, &config, None, Arc::clone(&metrics), stop.clone()));
            address
        });
        Self { runtime, address, metrics, delivery, stop, delivered, disks, seen: Seen::default(), inputs: 0 }
    }

    fn take(&mut self, split: usize, bytes: &[u8]) {
        self.inputs += 1;
        let text = replaced(bytes);
        let metrics = Arc::clone(&self.metrics);
        let answers = self.runtime.block_on(async {
            let answers = exchange(self.address, split, &text);
            let answers = tokio::time::timeout(PATIENCE, answers).await.expect("the connection does not end");
            let deadline = Instant::now() + PATIENCE;
            while metrics.in_flight.get() > 0 || metrics.connections.get() > 0 {
                assert!(Instant::now() < deadline, "a callback has no outcome");
                // The listener runs on this thread.
                tokio::task::yield_now().await;
            }
            answers
        });
        let acknowledged = acknowledged(&answers);
        let signatures = bytes.windows(32).filter(|window| *window == PLACE_OF_SIGN.as_bytes()).count();
        assert!(acknowledged <= signatures as u64, "{acknowledged} are acknowledged, {signatures} are signed");
        self.judge(acknowledged);
    }

    /// Compares what was answered, what was counted and what is stored.
    fn judge(&mut self, acknowledged: u64) {
        let text = String::from_utf8(self.metrics.render()).expect("metrics are text");
        for secret in [key(), sign()] {
            assert!(!shows(text.as_bytes(), &secret), "a secret is in the metrics");
        }
        let mut outcomes: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("recording_bridge_callbacks_total{outcome=\"")) {
            let mut parts = line.split('"');
            let (outcome, reason) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
            let count = line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count");
            outcomes.insert((outcome.to_owned(), reason.to_owned()), count);
        }
        let of = |wanted: &str| {
            outcomes.iter().filter(|((outcome, _), _)| outcome == wanted).map(|(_, count)| count).sum::<u64>()
        };
        let received = self.metrics.received.get();
        assert_eq!(outcomes.values().sum::<u64>(), received, "received, and the outcomes {outcomes:?}");
        assert_eq!(of("unresolved"), 0);
        let kept = |disk: usize| self.disks.as_ref().map_or(0, |disks| synced_frames(&disks[disk]));
        let accepted = |reason: &str| outcomes.get(&("accepted".to_owned(), reason.to_owned())).copied().unwrap_or(0);
        let before = self.seen;
        let now = Seen {
            delivered: self.delivered.load(Ordering::Acquire),
            frames: if accepted("spool") > before.by_spool { kept(0) } else { before.frames },
            letters: if of("dead_lettered") > before.by_letter { kept(1) } else { before.letters },
            by_kafka: accepted("kafka"),
            by_spool: accepted("spool"),
            by_letter: of("dead_lettered"),
            positive: of("accepted") + of("duplicate") + of("ignored") + of("dead_lettered"),
        };
        assert!(
            now.by_kafka - before.by_kafka <= now.delivered - before.delivered,
            "not delivered: {before:?} {now:?}"
        );
        assert!(now.by_spool - before.by_spool <= now.frames - before.frames, "not synced: {before:?} {now:?}");
        assert!(now.by_letter - before.by_letter <= now.letters - before.letters, "not kept: {before:?} {now:?}");
        assert!(acknowledged <= now.positive - before.positive, "{acknowledged} acknowledged: {before:?} {now:?}");
        assert_eq!(of("accepted"), now.by_kafka + now.by_spool);
        assert!(of("duplicate") == 0 || of("accepted") > 0, "a repeat of nothing");
        self.seen = now;
        for disk in self.disks.iter().flatten() {
            disk.take_log();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.delivery.stop(Duration::ZERO, || true);
    }
}

/// Frames that would be there after the power has failed.
fn synced_frames(disk: &FaultyStorage) -> u64 {
    let segments = disk.names().into_iter().filter(|name| name.ends_with(".segment"));
    segments
        .map(|name| {
            let bytes = disk.durable(&name);
            let (mut at, mut frames) = (HEADER_BYTES, 0);
            while let Some((_, length)) = Frame::decode(bytes.get(at..).unwrap_or_default()) {
                (at, frames) = (at + length, frames + 1);
            }
            frames
        })
        .sum()
}

fn replaced(bytes: &[u8]) -> Vec<u8> {
    let (mut text, sign) = (bytes.to_vec(), sign());
    let mut at = 0;
    while let Some(found) =
        text.get(at..).and_then(|rest| rest.windows(32).position(|window| window == PLACE_OF_SIGN.as_bytes()))
    {
        text[at + found..at + found + 32].copy_from_slice(sign.as_bytes());
        at += found + 32;
    }
    text
}

/// Sends everything, in two pieces, says that there is no more, and reads to the end.
async fn exchange(address: SocketAddr, split: usize, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.expect("the listener listens");
    // Nobody needs to remember this connection.
    stream.set_zero_linger().expect("an option of every TCP socket");
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    let mut is_open = send(&stream, first).await;
    if split > 0 {
        tokio::task::yield_now().await;
    }
    is_open = is_open && send(&stream, second).await;
    let stream = stream.into_std().expect("it is registered");
    if is_open {
        // A server that has closed already does not mind.
        stream.shutdown(Shutdown::Write).ok();
    }
    let stream = TcpStream::from_std(stream).expect("it was registered");
    let mut answers = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return answers,
            Ok(count) => answers.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await.expect("it is registered"),
            Err(_) => return answers,
        }
    }
}

/// Whether all of it went out: the server may close while there is still something to say.
async fn send(stream: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await.expect("it is registered"),
            Err(_) => return false,
        }
    }
    true
}

/// How many callbacks are acknowledged in `answers`, each of which must be one that there is.
fn acknowledged(answers: &[u8]) -> u64 {
    let text = std::str::from_utf8(answers).expect("answers are text");
    let mut bodies: Vec<(u16, String)> = Refusal::ALL
        .map(|refusal| {
            (refusal.status(), format!("{{\"code\":{},\"message\":\"{}\"}}", refusal.status(), refusal.sentence()))
        })
        .to_vec();
    bodies.push((200, "{\"code\":0}".to_owned()));
    bodies.push((200, "ready\n".to_owned()));
    bodies.push((503, "not ready: no event could be made safe now\n".to_owned()));
    bodies.push((405, "only GET is allowed here\n".to_owned()));
    let (mut rest, mut acknowledged) = (text, 0);
    while !rest.is_empty() {
        let Some((head, behind)) = rest.split_once("\r\n\r\n") else { panic!("half an answer: {rest:?}") };
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok()).expect("a status");
        for (name, value) in lines.map(|line| line.split_once(": ").expect("a header")) {
            let is_known = match name {
                "content-type" => matches!(value, "application/json" | "text/plain; charset=utf-8"),
                "content-length" => value.bytes().all(|byte| byte.is_ascii_digit()),
                "date" => value.ends_with(" GMT") && value.len() == 29,
                "connection" => matches!(value, "close" | "keep-alive"),
                "retry-after" => value == "60" && status == 503,
                "allow" => matches!(value, "POST" | "GET, HEAD") && status == 405,
                _ => false,
            };
            assert!(is_known, "an answer with {name}: {value}");
        }
        let body = bodies.iter().find(|(known, body)| *known == status && behind.starts_with(body.as_str()));
        // HEAD is answered without a body, as is what hyper cannot read, and whoever expects to be told to go on.
        let is_bare = behind.is_empty() || behind.starts_with("HTTP/1.");
        assert!(
            body.is_some() || is_bare && matches!(status, 100 | 200 | 400 | 403 | 404 | 405 | 414 | 431 | 503),
            "{rest:?}"
        );
        acknowledged += u64::from(body.is_some_and(|(_, body)| body == "{\"code\":0}"));
        rest = body.map_or(behind, |(_, body)| &behind[body.len()..]);
    }
    acknowledged
}

/// The day stands still; deadlines do not.
struct Standstill;

impl Clock for Standstill {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A Kafka that takes everything, or nothing.
struct Fake {
    takes: bool,
    delivered: Arc<AtomicU64>,
}

impl Producers for Fake {
    fn check(&self) -> Result<(), StartError> {
        Ok(())
    }

    fn start(&self, generation: u64, _: Purpose, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        let (tokens, taken) = sync_channel(1024);
        let delivered = Arc::clone(&self.delivered);
        std::thread::spawn(move || acknowledge(&taken, generation, &*observer, &delivered));
        Ok(Arc::new(FakeProducer { tokens: Mutex::new(self.takes.then_some(tokens)) }))
    }
}

fn acknowledge(tokens: &Receiver<u64>, generation: u64, observer: &dyn Observer, delivered: &AtomicU64) {
    for token in tokens {
        let offset = delivered.fetch_add(1, Ordering::AcqRel);
        let outcome = Ok(Delivered::new(0, i64::try_from(offset).unwrap_or(i64::MAX)));
        observer.report(Report { generation, token, outcome });
    }
}

struct FakeProducer {
    tokens: Mutex<Option<SyncSender<u64>>>,
}

impl Producer for FakeProducer {
    fn send(&self, token: u64, _: &Message) -> Result<(), SendError> {
        match &*self.tokens.lock().expect("nobody panics with it") {
            Some(tokens) => tokens.try_send(token).map_err(|_| SendError::QueueFull),
            None => Err(SendError::QueueFull),
        }
    }

    fn probe(&self, _: Duration) -> Result<(), ProbeError> {
        let takes = self.tokens.lock().expect("nobody panics with it").is_some();
        if takes { Ok(()) } else { Err(ProbeError::Unreachable("nobody is there".to_owned())) }
    }

    fn close(self: Arc<Self>) {
        self.tokens.lock().expect("nobody panics with it").take();
    }
}
