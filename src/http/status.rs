//! What operators may look at with a browser: the page, the same as JSON, and as events while they look.
//!
//! It asks nobody who they are, so it answers under no name that somebody else may have given this address.
//! It gathers what others know (gauges, readiness, the journal) and lets `status` word it. Every answer forbids the
//! browser to load, send or run anything that does not come from here.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::admin::{Made, Rate};
use super::events::Events;
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::metrics::{BrokerState, Metrics};
use crate::status::{Journal, KafkaPresent, Present, page};

/// Who may follow the events at once. Each gets some 10 KB a second, all remembered callbacks at first, and holds one
/// connection of the listener.
const FOLLOWERS_MAX: usize = 8;
/// Who may begin to follow in one second: whoever does is shown as much as a document has.
const BEGINNINGS_PER_SECOND: u32 = 20;
/// Documents made in one second; they are larger than a page of metrics, and a person asks for one now and then.
const DOCUMENTS_PER_SECOND: u32 = 20;

/// Nothing is loaded but what stands in the page's own files, nothing is sent elsewhere, and nobody may frame it. The
/// picture is the empty icon, for which browsers would ask otherwise.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Where all of this is.
const PATHS: [&str; 5] = ["/", "/status", page::STYLE_PATH, page::SCRIPT_PATH, page::EVENTS_PATH];

/// What the page is made of that never changes, and the journal.
#[derive(Debug)]
pub struct Parts {
    /// The last callbacks.
    pub journal: Arc<Journal>,
    /// Brokers to begin with.
    pub brokers: Vec<String>,
    /// The topic of events.
    pub topic: String,
    /// The topic of dead letters.
    pub dead_letter_topic: String,
    /// The path of callbacks.
    pub path: String,
    /// Whether there is a spool.
    pub has_spool: bool,
}

/// What the admin listener answers with.
pub(super) type Shown = Response<Either<Full<Bytes>, Events>>;

/// The page and its kin.
pub(super) struct Status {
    view: Arc<View>,
    seats: Arc<Semaphore>,
    beginnings: Rate,
    stop: CancellationToken,
    document: Made,
    page: Made,
}

/// Sees everything that is shown.
pub(super) struct View {
    pub(super) parts: Parts,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    clock: Arc<dyn Clock>,
}

impl View {
    /// This moment.
    pub(super) fn present(&self) -> Present {
        self.readiness.observe();
        let (parts, metrics) = (&self.parts, &self.metrics);
        let offset = metrics.keys.clock_offset.get();
        let probed = self.readiness.probed();
        Present {
            at: Timestamp::from(self.clock.wall()),
            state: metrics.present_state(),
            is_ready: self.readiness.is_ready(),
            is_stopping: self.readiness.is_stopping(),
            kafka: KafkaPresent {
                brokers: parts.brokers.clone(),
                topic: parts.topic.clone(),
                dead_letter_topic: parts.dead_letter_topic.clone(),
                brokers_up: metrics.brokers_in(BrokerState::Up),
                brokers_connecting: metrics.brokers_in(BrokerState::Connecting),
                brokers_down: metrics.brokers_in(BrokerState::Down),
                outstanding_messages: u64::try_from(metrics.outstanding.get()).unwrap_or(0),
                takes_events: probed.as_ref().map(Result::is_ok),
                obstacle: probed.and_then(Result::err),
            },
            spool: parts.has_spool.then(|| metrics.spool.last()),
            clock_ahead_seconds: (!offset.is_nan()).then_some(offset),
            path: parts.path.clone(),
            received: metrics.received.get(),
            in_flight: u64::try_from(metrics.in_flight.get()).unwrap_or(0),
            connection_faults: metrics.connection_fault_count(),
        }
    }
}

impl Status {
    pub(super) fn new(
        parts: Parts,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        let made = || Made::new(Arc::clone(&clock), DOCUMENTS_PER_SECOND);
        let (document, page) = (made(), made());
        let beginnings = Rate::new(Arc::clone(&clock), BEGINNINGS_PER_SECOND);
        let view = Arc::new(View { parts, metrics, readiness, clock });
        Self { view, seats: Arc::new(Semaphore::new(FOLLOWERS_MAX)), beginnings, stop, document, page }
    }

    /// The answer, if it is for this module to give.
    pub(super) fn answer(&self, request: &Request<Incoming>) -> Option<Shown> {
        let view = &self.view;
        let path = request.uri().path();
        if PATHS.contains(&path) && !is_ours_by_name(request) {
            let text = "ask for this page by address, or as localhost: a name may have been given to this address by \
                        somebody who wants to read it\n";
            return Some(said(StatusCode::MISDIRECTED_REQUEST, text));
        }
        Some(match path {
            "/" => {
                let text = || Bytes::from(page::render(&view.parts.journal, &view.present()));
                shown("text/html; charset=utf-8", self.page.text(text))
            }
            "/status" => {
                let text = || Bytes::from(view.parts.journal.document(&view.present()));
                shown("application/json", self.document.text(text))
            }
            page::STYLE_PATH => shown("text/css; charset=utf-8", Bytes::from_static(page::STYLE.as_bytes())),
            page::SCRIPT_PATH => shown("text/javascript; charset=utf-8", Bytes::from_static(page::SCRIPT.as_bytes())),
            page::EVENTS_PATH => self.follow(request),
            _ => return None,
        })
    }

    fn follow(&self, request: &Request<Incoming>) -> Shown {
        // A browser says so of itself; another site could not read the events, but it could take all seats.
        let site = request.headers().get("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return said(StatusCode::FORBIDDEN, "another site has asked for this\n");
        }
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            return said(StatusCode::SERVICE_UNAVAILABLE, "as many follow already as may\n");
        };
        if !self.beginnings.admits() {
            return said(StatusCode::SERVICE_UNAVAILABLE, "as many have begun to follow in this second as may\n");
        }
        let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let events = Events::new(Arc::clone(&self.view), last, seat, self.stop.clone());
        dressed("text/event-stream", Either::Right(events))
    }
}

/// Whether the request asks for this page by an address or as `localhost`. Another site can have its own name stand for our
/// address, and its visitor's browser then takes our answers for that site's. Whoever sends no name is no browser.
fn is_ours_by_name<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter();
    let hosts = hosts.map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    let mut names = hosts.chain(request.uri().authority().map(|authority| Some(authority.clone())));
    names.all(|name: Option<Authority>| {
        name.is_some_and(|name| {
            let host = name.host();
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
        })
    })
}

fn said(status: StatusCode, text: &'static str) -> Shown {
    let mut answer = shown("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    answer
}

fn shown(content_type: &'static str, text: Bytes) -> Shown {
    dressed(content_type, Either::Left(Full::new(text)))
}

fn dressed(content_type: &'static str, body: Either<Full<Bytes>, Events>) -> Shown {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
