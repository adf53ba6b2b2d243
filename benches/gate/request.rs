//! Whole requests on one thread: the real listener, intake and delivery before a Kafka that acknowledges at once.
//!
//! Client, server and acknowledgements are tasks of one current-thread runtime, so that they take turns in the same
//! order in every run. The threads of the delivery run beside them and are not counted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use recording_bridge::callback::{ActiveKeyring, ClockOffset, Published, Redaction};
use recording_bridge::clock::{Clock, SystemClock};
use recording_bridge::delivery::{self, Delivery, window};
use recording_bridge::event::Timestamp;
use recording_bridge::http::intake::{Intake, Parts};
use recording_bridge::http::{self, Readiness, server};
use recording_bridge::kafka::{
    Delivered, Observer, ProbeError, Producer, Producers, Purpose, Report, SendError, StartError,
};
use recording_bridge::message::Message;
use recording_bridge::metrics::Metrics;
use recording_bridge::spool::Directory;
use recording_bridge::status::Journal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const ANSWER_BYTES_MAX: usize = 1024;

pub(crate) struct World {
    runtime: tokio::runtime::Runtime,
    client: TcpStream,
    requests: Vec<Vec<u8>>,
}

impl World {
    /// With a connection that has carried some requests already, and `count` ready to be sent.
    pub(crate) fn new(count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (acknowledge, tokens) = unbounded_channel();
            let observer: Arc<Mutex<Option<Arc<dyn Observer>>>> = Arc::default();
            let metrics = Arc::new(Metrics::new(&["key"], &[], "none"));
            let intake = intake(Fake { acknowledge, observer: Arc::clone(&observer) }, Arc::clone(&metrics));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = server::serve(listener, intake, &config(), None, metrics, CancellationToken::new());
            tokio::task::spawn(server);
            tokio::task::spawn(acknowledge_all(tokens, observer));
            TcpStream::connect(address).await.unwrap()
        });
        let requests = (0..count + 16).map(|number| request(&super::body(number))).collect();
        let mut world = Self { runtime, client, requests };
        let first = world.requests.split_off(count);
        world.exchange(&first);
        super::clear_free_lists();
        world
    }

    pub(crate) fn exchange_all(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        self.exchange(&requests);
        self.requests = requests;
    }

    /// Every request after the answer to the one before.
    fn exchange(&mut self, requests: &[Vec<u8>]) {
        let Self { runtime, client, .. } = self;
        runtime.block_on(async {
            let mut answer = [0; ANSWER_BYTES_MAX];
            for request in requests {
                client.write_all(request).await.unwrap();
                let length = client.read(&mut answer).await.unwrap();
                let is_accepted = answer.starts_with(b"HTTP/1.1 200") && answer[..length].ends_with(b"{\"code\":0}");
                assert!(is_accepted, "{}", String::from_utf8_lossy(&answer[..length]));
            }
        });
    }
}

fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /callbacks/recording HTTP/1.1\r\nHost: bridge.example.com\r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: {}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn config() -> http::Config {
    // Under Valgrind seconds pass quickly.
    let hour = Duration::from_secs(3600);
    http::Config { request_deadline: hour, header_deadline: hour, connection_age_max: hour, ..http::Config::default() }
}

fn intake(producers: Fake, metrics: Arc<Metrics>) -> Arc<Intake> {
    let clock = Arc::new(Standstill);
    let times = delivery::Config {
        ack_deadline: Duration::from_secs(3600),
        watchdog: Duration::from_secs(3600),
        repeats: window::Config::default(),
    };
    // Without a spool: what a disk does is not the same in every run.
    let no_spools = None::<delivery::Spools<Directory>>;
    let delivery =
        Delivery::start(Box::new(producers), None, no_spools, Arc::clone(&metrics), clock.clone(), times).unwrap();
    let parts = Parts {
        config: config(),
        delivery_time: Duration::from_secs(8),
        keyring: Arc::new(ActiveKeyring::new(super::keyring())),
        window: super::times(),
        clock_offset: Arc::new(ClockOffset::new(clock.monotonic())),
        redaction: Redaction::default(),
        published: Published::default(),
        delivery: delivery.clone(),
        readiness: Readiness::new(delivery),
        metrics,
        journal: Some(Arc::new(Journal::new(vec!["key".to_owned()], Timestamp::from(clock.wall())))),
    };
    Arc::new(Intake::new(parts, clock, TaskTracker::new()))
}

/// The day stands still; monotonic time is read as the bridge reads it.
struct Standstill;

impl Clock for Standstill {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(super::NOW)
    }

    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }
}

/// A Kafka that takes everything.
struct Fake {
    acknowledge: UnboundedSender<(u64, u64)>,
    observer: Arc<Mutex<Option<Arc<dyn Observer>>>>,
}

impl Producers for Fake {
    fn check(&self) -> Result<(), StartError> {
        Ok(())
    }

    fn start(&self, generation: u64, _: Purpose, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        *self.observer.lock().unwrap() = Some(observer);
        Ok(Arc::new(FakeProducer { generation, acknowledge: self.acknowledge.clone() }))
    }
}

struct FakeProducer {
    generation: u64,
    acknowledge: UnboundedSender<(u64, u64)>,
}

impl Producer for FakeProducer {
    fn send(&self, token: u64, _: &Message) -> Result<(), SendError> {
        self.acknowledge.send((self.generation, token)).map_err(|_| SendError::Fatal)
    }

    fn probe(&self, _: Duration) -> Result<(), ProbeError> {
        Ok(())
    }

    fn close(self: Arc<Self>) {}
}

/// Reports come from outside the gate, as those of librdkafka do.
async fn acknowledge_all(mut tokens: UnboundedReceiver<(u64, u64)>, observer: Arc<Mutex<Option<Arc<dyn Observer>>>>) {
    let mut offset = 0;
    while let Some((generation, token)) = tokens.recv().await {
        let observer = observer.lock().unwrap().clone().expect("a producer was started before it took messages");
        observer.report(Report { generation, token, outcome: Ok(Delivered::new(0, offset)) });
        offset += 1;
    }
}
