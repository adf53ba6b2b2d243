//! The floors: what the least code costs that answers a callback, and that publishes it.

mod whole;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use md5::{Digest as _, Md5};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::broker::TOPIC;
use super::support::bridge::KEY;

/// The limits of the bridge on heads.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How floor B is made; the alternatives are tried on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tuning {
    pub(crate) linger: &'static str,
    pub(crate) in_flight: u32,
    pub(crate) shape: Shape,
    /// Whether the message is that of the bridge: every member and header, the id and the digest.
    pub(crate) is_whole: bool,
}

impl Tuning {
    pub(crate) const fn linger(linger: &'static str) -> Self {
        Self { linger, in_flight: 1, shape: Shape::Shared, is_whole: false }
    }

    /// The command line that makes it.
    pub(crate) fn words(&self) -> [String; 4] {
        let words = [self.linger.to_owned(), self.in_flight.to_string(), self.shape.name().to_owned()];
        let [linger, in_flight, shape] = words;
        [linger, in_flight, shape, self.is_whole.to_string()]
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "linger {}", self.linger)?;
        if self.in_flight != 1 {
            write!(formatter, ", {} in flight", self.in_flight)?;
        }
        if self.shape != Shape::Shared {
            write!(formatter, ", {}", self.shape.name())?;
        }
        if self.is_whole {
            write!(formatter, ", the bridge's message")?;
        }
        Ok(())
    }
}

/// Which threads take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One runtime whose threads steal work from each other.
    Shared,
    /// One thread.
    Single,
    /// A runtime of one thread for each core, each with a listener of its own on the same port (`SO_REUSEPORT`).
    PerCore,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Shared, Self::Single, Self::PerCore];

    fn name(self) -> &'static str {
        match self {
            Self::Shared => "one runtime",
            Self::Single => "one thread",
            Self::PerCore => "a runtime per core",
        }
    }
}

/// Runs as a floor if the command line says so.
pub(crate) fn run_as_told() -> bool {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (shape, kafka) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor-a"] => (Shape::Shared, None),
        ["floor-b", brokers, linger, in_flight, shape, is_whole] => {
            let shape = Shape::ALL.into_iter().find(|known| known.name() == shape).unwrap();
            (shape, Some(Arc::new(Kafka::new(brokers, linger, in_flight, is_whole == "true"))))
        }
        _ => return false,
    };
    let socket = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let address = socket.local_addr().unwrap();
    let threads = match shape {
        Shape::Shared | Shape::Single => 1,
        Shape::PerCore => std::thread::available_parallelism().unwrap().get(),
    };
    let mut sockets = vec![socket];
    sockets.extend((1..threads).map(|_| listener(address)));
    println!("listening on {address}");
    let serving: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let kafka = kafka.clone();
            let mut runtime = match shape {
                Shape::Shared => tokio::runtime::Builder::new_multi_thread(),
                Shape::Single | Shape::PerCore => tokio::runtime::Builder::new_current_thread(),
            };
            let runtime = runtime.enable_all().build().unwrap();
            std::thread::spawn(move || runtime.block_on(serve(socket, kafka)))
        })
        .collect();
    for thread in serving {
        thread.join().unwrap();
    }
    true
}

/// One of several that share a port.
fn listener(address: SocketAddr) -> std::net::TcpListener {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    rustix::net::listen(&socket, 1024).unwrap();
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true).unwrap();
    listener
}

async fn serve(listener: std::net::TcpListener, kafka: Option<Arc<Kafka>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let kafka = kafka.clone();
        let service = service_fn(move |request| answer(request, kafka.clone()));
        let mut builder = http1::Builder::new();
        // Those of the bridge: a server without them would stand open to everybody.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(HEAD_BYTES_MAX)
            .half_close(true);
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, kafka: Option<Arc<Kafka>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_good = match request.into_body().collect().await {
        Ok(body) => match kafka {
            None => true,
            Some(kafka) => kafka.publish(&body.to_bytes()).await,
        },
        Err(_) => false,
    };
    let mut answer = Response::new(Full::from(&br#"{"code":0}"#[..]));
    if !is_good {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(answer)
}

#[derive(Deserialize)]
struct Callback<'a> {
    t: u64,
    #[serde(borrow)]
    sign: Cow<'a, str>,
    appid: u64,
    #[serde(borrow)]
    stream_id: Cow<'a, str>,
    #[serde(borrow)]
    file_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    video_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    file_format: Option<Cow<'a, str>>,
    file_size: Option<u64>,
    duration: Option<u64>,
    start_time: Option<i64>,
    end_time: Option<i64>,
}

#[derive(Serialize)]
struct Event<'a> {
    app_id: u64,
    stream_id: &'a str,
    file_id: Option<&'a str>,
    video_url: Option<&'a str>,
    file_format: Option<&'a str>,
    file_size: Option<u64>,
    duration: Option<u64>,
    start_time: Option<i64>,
    end_time: Option<i64>,
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<bool>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Self::DeliveryOpaque) {
        // Whoever waited may be gone.
        let _gone = waiter.send(result.is_ok());
    }
}

struct Kafka {
    producer: ThreadedProducer<Reports>,
    is_whole: bool,
}

impl Kafka {
    fn new(brokers: &str, linger: &str, in_flight: &str, is_whole: bool) -> Self {
        let mut settings = ClientConfig::new();
        // Those of the bridge (`kafka::settings`), as far as they touch safety or speed: with fewer, another thing would
        // be measured.
        for (name, value) in [
            ("bootstrap.servers", brokers),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("enable.gapless.guarantee", "true"),
            ("max.in.flight.requests.per.connection", in_flight),
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("compression.type", "lz4"),
            ("linger.ms", linger),
            ("socket.nagle.disable", "true"),
            ("socket.keepalive.enable", "true"),
        ] {
            settings.set(name, value);
        }
        let producer: ThreadedProducer<Reports> = settings.create_with_context(Reports).unwrap();
        // Ready means that the topic is known.
        producer.client().fetch_metadata(Some(TOPIC), Duration::from_secs(30)).unwrap();
        Self { producer, is_whole }
    }

    async fn publish(&self, body: &[u8]) -> bool {
        let (sender, report) = oneshot::channel();
        let is_sent = if self.is_whole { self.send_whole(body, sender) } else { self.send(body, sender) };
        is_sent.is_some() && report.await.unwrap_or(false)
    }

    fn send(&self, body: &[u8], sender: oneshot::Sender<bool>) -> Option<()> {
        let callback: Callback<'_> = serde_json::from_slice(body).ok()?;
        is_signed(callback.t, &callback.sign).then_some(())?;
        let event = Event {
            app_id: callback.appid,
            stream_id: &callback.stream_id,
            file_id: callback.file_id.as_deref(),
            video_url: callback.video_url.as_deref(),
            file_format: callback.file_format.as_deref(),
            file_size: callback.file_size,
            duration: callback.duration,
            start_time: callback.start_time,
            end_time: callback.end_time,
        };
        let payload = serde_json::to_vec(&event).unwrap();
        let record = BaseRecord::with_opaque_to(TOPIC, Box::new(sender));
        self.producer.send(record.key(event.stream_id.as_bytes()).payload(&payload)).ok()
    }

    fn send_whole(&self, body: &[u8], sender: oneshot::Sender<bool>) -> Option<()> {
        let message = whole::read(body)?;
        let record = BaseRecord::with_opaque_to(TOPIC, Box::new(sender));
        let record = record.key(message.key.as_bytes()).payload(&message.payload).headers(message.headers);
        self.producer.send(record).ok()
    }
}

fn is_signed(t: u64, sign: &str) -> bool {
    let mut hasher = Md5::new();
    hasher.update(KEY);
    hasher.update(t.to_string());
    hex::encode(hasher.finalize()) == sign
}
