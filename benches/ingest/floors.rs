//! The floors: what the least code costs that answers a callback, and that publishes it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::broker::TOPIC;
use super::support::bridge::KEY;

/// Runs as a floor if the command line says so.
pub(crate) fn run_as_told() -> bool {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let kafka = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor-a"] => None,
        ["floor-b", brokers, linger] => Some(Arc::new(Kafka::new(brokers, linger))),
        _ => return false,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(serve(kafka));
    true
}

async fn serve(kafka: Option<Arc<Kafka>>) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let kafka = kafka.clone();
        let service = service_fn(move |request| answer(request, kafka.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
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

struct Kafka(ThreadedProducer<Reports>);

impl Kafka {
    fn new(brokers: &str, linger: &str) -> Self {
        let mut settings = ClientConfig::new();
        for (name, value) in [
            ("bootstrap.servers", brokers),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            ("compression.type", "lz4"),
            ("linger.ms", linger),
        ] {
            settings.set(name, value);
        }
        let producer: ThreadedProducer<Reports> = settings.create_with_context(Reports).unwrap();
        // Ready means that the topic is known.
        producer.client().fetch_metadata(Some(TOPIC), std::time::Duration::from_secs(30)).unwrap();
        Self(producer)
    }

    async fn publish(&self, body: &[u8]) -> bool {
        let Ok(callback) = serde_json::from_slice::<Callback<'_>>(body) else { return false };
        let mut hasher = Md5::new();
        hasher.update(KEY);
        hasher.update(callback.t.to_string());
        if hex::encode(hasher.finalize()) != callback.sign {
            return false;
        }
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
        let (sender, report) = oneshot::channel();
        let record =
            BaseRecord::with_opaque_to(TOPIC, Box::new(sender)).key(event.stream_id.as_bytes()).payload(&payload);
        if self.0.send(record).is_err() {
            return false;
        }
        report.await.unwrap_or(false)
    }
}
