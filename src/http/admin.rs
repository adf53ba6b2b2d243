//! The admin listener: metrics, liveness, readiness, and the status page. For operators and the orchestrator only.
//!
//! It runs on a port and a thread of its own, so that a busy data path cannot fail the probes. Nor can whoever asks for
//! the metrics again and again: the page is made only so often in a second.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::answer::Answer;
use super::places::Work;
use super::server::{Limits, accept};
use super::status::{self, Status};
use super::tally::Tally;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Where operators look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether the last callbacks are remembered and shown.
    pub status_page: bool,
}

impl Config {
    /// The defaults, on this address.
    #[must_use]
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, status_page: true }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::on(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090))
    }
}

/// Some probes and some scrapers: nobody needs more.
const LIMITS: Limits = Limits {
    header_deadline: Duration::from_secs(5),
    age_max: Duration::from_secs(600),
    closing_deadline: Duration::from_secs(10),
    connections_max: 64,
    per_source_max: 0,
};

/// Pages of metrics made in one second; whoever asks for more gets the last one. Probes share a thread with them, and a
/// page takes as long as some hundred probes.
const PAGES_PER_SECOND: u32 = 200;

/// Answers operators until `stop` is cancelled. Without `status` there is no status page.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    status: Option<status::Parts>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let tally = Tally::of_operators(Arc::clone(&metrics));
    let status = status.map(|parts| {
        let (metrics, readiness) = (Arc::clone(&metrics), readiness.clone());
        Arc::new(Status::new(parts, metrics, readiness, Arc::clone(&clock), stop.clone()))
    });
    let page = Arc::new(Made::new(clock, PAGES_PER_SECOND));
    let handler = move |request: Request<Incoming>, _peer: IpAddr, work: Work| {
        // From now on this connection gives way if another needs its place, also while it follows events.
        work.is_whole();
        let shown = status.as_ref().filter(|_| is_read(&request)).and_then(|status| status.answer(&request));
        let answer =
            shown.unwrap_or_else(|| answer(&request, &page, &metrics, &readiness, status.is_some()).map(Either::Left));
        async move { answer }
    };
    accept(listener, handler, LIMITS, None, tally, stop).await;
}

/// Something that happens so often in a second, and not more often.
pub(super) struct Rate {
    clock: Arc<dyn Clock>,
    origin: Instant,
    per_second: u32,
    /// The second that is counted, and how often it happened in it.
    counted: Mutex<(u64, u32)>,
}

impl Rate {
    pub(super) fn new(clock: Arc<dyn Clock>, per_second: u32) -> Self {
        Self { origin: clock.monotonic(), clock, per_second, counted: Mutex::default() }
    }

    /// Whether it may happen once more. It counts as done then.
    pub(super) fn admits(&self) -> bool {
        let present = self.clock.monotonic().saturating_duration_since(self.origin).as_secs();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (second, times) = &mut *counted;
        if *second != present {
            (*second, *times) = (present, 0);
        }
        let admits = *times < self.per_second;
        *times += u32::from(admits);
        admits
    }
}

/// A text that is made so often in a second, and not more often.
pub(super) struct Made {
    rate: Rate,
    last: Mutex<Bytes>,
}

impl Made {
    pub(super) fn new(clock: Arc<dyn Clock>, per_second: u32) -> Self {
        Self { rate: Rate::new(clock, per_second), last: Mutex::default() }
    }

    /// The text as it is now, unless too many were made in this second.
    pub(super) fn text(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rate.admits() {
            *last = make();
        }
        last.clone()
    }
}

fn answer(
    request: &Request<Incoming>,
    page: &Made,
    metrics: &Metrics,
    readiness: &Readiness,
    has_status: bool,
) -> Answer {
    if !is_read(request) {
        return method_not_allowed();
    }
    match request.uri().path() {
        "/metrics" => {
            let text = page.text(|| {
                readiness.observe();
                metrics.ready.set(i64::from(readiness.is_ready()));
                Bytes::from(metrics.render())
            });
            let mut answer = Response::new(Full::new(text));
            let format = HeaderValue::from_static(crate::metrics::TEXT_FORMAT);
            answer.headers_mut().insert(header::CONTENT_TYPE, format);
            answer
        }
        // The process turns, or this would not be answered. It says nothing of Kafka: a restart mends no outage.
        "/live" => text(StatusCode::OK, "live\n"),
        // Operators are told why events go to the spool, or nowhere; strangers on the other port are not.
        "/ready" => match readiness.obstacle() {
            None => self::readiness(readiness),
            Some(obstacle) => {
                let (status, verdict) = verdict(readiness);
                let mut answer = text(status, "");
                *answer.body_mut() = Full::from(format!("{verdict}Kafka does not take events: {obstacle}\n"));
                answer
            }
        },
        _ if has_status => text(StatusCode::NOT_FOUND, "here are /, /status, /metrics, /live and /ready\n"),
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n"),
    }
}

/// Whether the request asks to be told, and for nothing else.
pub(super) fn is_read<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// The answer to every other request. Its body, if there is one, is not read, so nothing can follow it.
pub(super) fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer to whether a 200 could be made true now.
pub(super) fn readiness(readiness: &Readiness) -> Answer {
    let (status, verdict) = verdict(readiness);
    text(status, verdict)
}

fn verdict(readiness: &Readiness) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: no event could be made safe now\n")
    }
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::SystemClock;

    /// Stands still until it is moved.
    struct Still(Mutex<Instant>);

    impl Clock for Still {
        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn monotonic(&self) -> Instant {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn the_page_is_made_so_often_in_a_second_and_not_more_often() {
        let clock = Arc::new(Still(Mutex::new(SystemClock.monotonic())));
        let page = Made::new(Arc::clone(&clock) as Arc<dyn Clock>, PAGES_PER_SECOND);
        let mut made = 0;
        let mut ask = || {
            page.text(|| {
                made += 1;
                Bytes::from(made.to_string())
            })
        };
        for number in 1..=200 {
            assert_eq!(ask(), number.to_string());
        }
        assert_eq!(ask(), "200");
        *clock.0.lock().unwrap() += Duration::from_secs(1);
        assert_eq!(ask(), "201");
    }
}
