//! The answer: one outcome becomes one status, one label and one log line. Nothing else makes a status.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::places::Work;
use crate::callback::{Ignored, Kind};
use crate::clock::Clock;
use crate::delivery::{Receipt, SetAside};
use crate::event::{EventId, Timestamp};
use crate::metrics::{Metrics, Outcome};
use crate::refusal::Refusal;
use crate::status::{Ending, Journal, Place, Signed};

/// What goes back to the sender.
pub(super) type Answer = Response<Full<Bytes>>;

/// What the provider recommends as the body of a 200; an old edition took it for the acknowledgement itself.
const ACKNOWLEDGED: &[u8] = b"{\"code\":0}";
/// Seconds until the sender should try again. It tries once a minute whatever we say.
const RETRY_AFTER: &str = "60";
/// Log lines for refusals in one second, so that a flood of strangers does not become a flood of lines.
const REFUSAL_LINES_PER_SECOND: u64 = 20;

/// How a callback ended. A 200 can be made from a receipt, from proof that there is nothing to publish, or from proof
/// that a callback which makes no event was set aside, among the dead letters or the other events; there is no fourth way.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted(Receipt),
    Ignored(Ignored),
    /// Of which kind it is, and the proof that it is synced among the other events.
    PassedOn(#[expect(dead_code, reason = "it is there to be had, not to be looked at")] SetAside, Kind),
    /// Why it makes no event, and the proof that it is synced among the dead letters.
    DeadLettered(#[expect(dead_code, reason = "it is there to be had, not to be looked at")] SetAside, Refusal),
    Refused(Refusal),
}

impl Verdict {
    fn place(&self) -> Option<Place> {
        let Self::Accepted(receipt) = self else { return None };
        match receipt.place() {
            Some((partition, offset)) => Some(Place::Kafka { partition, offset }),
            None => receipt.spool_sequence().map(Place::Spool),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Accepted(receipt) if receipt.is_repeat() => Outcome::Duplicate,
            Self::Accepted(receipt) if receipt.place().is_some() => Outcome::Accepted,
            Self::Accepted(_) => Outcome::Spooled,
            Self::Ignored(ignored) => Outcome::Ignored(ignored.kind()),
            Self::PassedOn(_, kind) => Outcome::PassedOn(*kind),
            Self::DeadLettered(_, reason) => Outcome::DeadLettered(*reason),
            Self::Refused(refusal) => Outcome::Refused(*refusal),
        }
    }
}

/// Names of an authentic callback, for its log line. Nothing of an inauthentic one ever gets here.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// The event's id and its stream.
    pub(super) event: Option<(EventId, Bytes)>,
    /// The member that makes a callback unusable.
    pub(super) member: &'static str,
    /// Who has signed it, for the journal; only if there is one.
    pub(super) signed: Option<Signed>,
}

impl Subject {
    fn event_id(&self) -> String {
        self.event.as_ref().map(|(event_id, _)| event_id.to_string()).unwrap_or_default()
    }

    fn stream(&self) -> &[u8] {
        self.event.as_ref().map(|(_, stream)| stream.as_ref()).unwrap_or_default()
    }

    fn stream_id(&self) -> &str {
        std::str::from_utf8(self.stream()).unwrap_or_default()
    }
}

/// Accounts for one callback from its head to its outcome. It travels with the callback; if it is dropped before it
/// was resolved, that is counted too, so that nothing is ever lost sight of.
pub(super) struct InFlight {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    limit: Arc<LineLimit>,
    journal: Option<Arc<Journal>>,
    peer: IpAddr,
    started: Instant,
    /// The request whose body is not whole yet. From then on the callback is ours, and losing it would be a defect.
    arriving: Option<Work>,
    resolved: bool,
}

impl InFlight {
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
        limit: &Arc<LineLimit>,
        journal: Option<&Arc<Journal>>,
        (peer, arriving): (IpAddr, Work),
    ) -> Self {
        metrics.received.inc();
        metrics.in_flight.inc();
        Self {
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            limit: Arc::clone(limit),
            journal: journal.cloned(),
            peer,
            started: clock.monotonic(),
            arriving: Some(arriving),
            resolved: false,
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The body is whole. Its connection is spared as long as the result is held.
    pub(super) fn body_is_whole(&mut self) -> Option<Work> {
        let work = self.arriving.take();
        work.as_ref().inspect(|work| work.is_whole());
        work
    }

    /// Ends the callback: counts it, says so in the log, and makes the answer.
    pub(super) fn resolve(mut self, verdict: &Verdict, subject: &Subject) -> Answer {
        self.settle(verdict.outcome(), verdict.place(), subject);
        match verdict {
            Verdict::Accepted(receipt) => {
                let (partition, offset) = receipt.place().unzip();
                // The names are worded only if the line is written.
                let (id, stream) = (|| subject.event_id(), || subject.stream_id());
                if receipt.is_repeat() {
                    tracing::debug!(event_id = id(), stream_id = stream(), partition, offset, "repeat");
                } else {
                    tracing::debug!(event_id = id(), stream_id = stream(), partition, offset, "accepted");
                }
                acknowledged()
            }
            Verdict::Ignored(ignored) => {
                tracing::debug!(kind = ignored.kind().label(), "ignored");
                acknowledged()
            }
            Verdict::PassedOn(_, kind) => {
                tracing::debug!(kind = kind.label(), "passed on");
                acknowledged()
            }
            Verdict::DeadLettered(_, reason) => {
                self.log_dead_letter(*reason, subject);
                acknowledged()
            }
            Verdict::Refused(refusal) => {
                self.log_refusal(*refusal, subject);
                refused(*refusal)
            }
        }
    }

    fn log_refusal(&self, refusal: Refusal, subject: &Subject) {
        let Some(suppressed) = self.limit.admit(self.clock.monotonic()) else { return };
        let (event_id, stream_id, member) = (subject.event_id(), subject.stream_id(), subject.member);
        let (reason, status, peer) = (refusal.label(), refusal.status(), self.peer);
        let advice = refusal.advice_to(subject.signed.is_some());
        tracing::warn!(reason, status, %peer, event_id, stream_id, member, suppressed, advice, "refused");
    }

    fn log_dead_letter(&self, reason: Refusal, subject: &Subject) {
        let Some(suppressed) = self.limit.admit(self.clock.monotonic()) else { return };
        let (reason, peer) = (reason.label(), self.peer);
        let member = subject.member;
        tracing::warn!(reason, %peer, member, suppressed, "no event can be made of it: set aside");
    }

    fn settle(&mut self, outcome: Outcome, place: Option<Place>, subject: &Subject) {
        self.resolved = true;
        let taken = self.clock.monotonic().saturating_duration_since(self.started);
        if let Some(journal) = &self.journal {
            journal.record(&Ending {
                at: Timestamp::from(self.clock.wall()),
                outcome,
                place,
                microseconds: u64::try_from(taken.as_micros()).unwrap_or(u64::MAX),
                source: self.peer,
                signed: subject.signed.as_ref(),
                stream: subject.stream(),
                member: subject.member,
            });
        }
        self.metrics.resolved(outcome, taken.as_secs_f64());
        self.metrics.in_flight.dec();
    }

    /// The end of a callback of which nothing is known.
    fn settle_unseen(&mut self, outcome: Outcome) {
        self.settle(outcome, None, &Subject::default());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        match &self.arriving {
            _ if self.resolved => {}
            Some(work) if work.was_cut_off() => self.settle_unseen(Outcome::Refused(Refusal::BodyTooSlow)),
            Some(_) => self.settle_unseen(Outcome::Refused(Refusal::ClientGone)),
            None => {
                self.settle_unseen(Outcome::Unresolved);
                tracing::error!("a callback was dropped without an outcome: this is a defect");
            }
        }
    }
}

fn acknowledged() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(ACKNOWLEDGED)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The answer to a refusal, which is counted by whoever knows what was refused.
pub(super) fn refused(refusal: Refusal) -> Answer {
    let body = format!("{{\"code\":{},\"message\":\"{}\"}}", refusal.status(), refusal.sentence());
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() =
        StatusCode::from_u16(refusal.status()).expect("every refusal's status is a constant of HTTP");
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match refusal.status() {
        503 => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        405 => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    if leaves_the_body_unread(refusal) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// After these, where the next request begins is unknown or not worth finding out.
fn leaves_the_body_unread(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::BadFraming
            | Refusal::NetworkNotAllowed
            | Refusal::PathUnknown
            | Refusal::MethodNotAllowed
            | Refusal::BodyTooSlow
            | Refusal::BodyTooLarge
            | Refusal::ContentEncoded
            | Refusal::ClientGone
            | Refusal::TooManyInFlight
            | Refusal::ShuttingDown
    )
}

/// Lets a bounded number of log lines through in every second.
#[derive(Debug)]
pub(super) struct LineLimit {
    origin: Instant,
    /// The second since `origin` in the upper half, the lines of that second in the lower half.
    window: AtomicU64,
    suppressed: AtomicU64,
}

impl LineLimit {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, window: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// How many lines were suppressed since the last one; `None` if this one is to be suppressed too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let present = now.saturating_duration_since(self.origin).as_secs();
        let admitted = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            let (second, lines) = (window >> 32, window & 0xffff_ffff);
            // Whoever read the clock just before a second began and comes late must not open the old one again.
            let (second, lines) = if present > second { (present, 0) } else { (second, lines) };
            (lines < REFUSAL_LINES_PER_SECOND).then(|| second << 32 | (lines + 1))
        });
        if admitted.is_ok() {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// The answer when the task of a delivery has panicked. Its guard has counted it already.
pub(super) fn refused_after_a_defect() -> Answer {
    refused(Refusal::KafkaRefused)
}
