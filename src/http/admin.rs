//! The admin listener: metrics, liveness, readiness. For operators and the orchestrator only.
//!
//! It runs on a port and a thread of its own, so that a busy data path cannot fail the probes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::answer::Answer;
use super::server::{Limits, accept};
use super::tally::Tally;
use crate::metrics::Metrics;

/// Where operators look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090) }
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

/// Answers operators until `stop` is cancelled.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, readiness: Readiness, stop: CancellationToken) {
    let tally = Tally::of_operators(Arc::clone(&metrics));
    let handler = move |request: Request<Incoming>, _peer: IpAddr| {
        let answer = answer(&request, &metrics, &readiness);
        async move { answer }
    };
    accept(listener, handler, LIMITS, None, tally, stop).await;
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, readiness: &Readiness) -> Answer {
    if !is_read(request) {
        return method_not_allowed();
    }
    match request.uri().path() {
        "/metrics" => {
            readiness.observe();
            metrics.ready.set(i64::from(readiness.is_ready()));
            let mut answer = Response::new(Full::new(Bytes::from(metrics.render())));
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
