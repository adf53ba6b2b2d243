//! The intake: a callback from its body to its outcome.
//!
//! Everything happens in the connection's own task. From authentication on, the callback is tracked, and goes on in a task
//! of its own if the connection ends: a client that hangs up cannot cancel a delivery.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use tokio_util::task::TaskTracker;

use super::answer::{Answer, InFlight, LineLimit, Subject, Verdict};
use super::budget::{Budget, Share};
use super::places::Work;
use super::unstoppable::{Panicked, Unstoppable};
use super::{Config, Readiness, admin, head, letter, other};
use crate::callback::{
    self, ActiveKeyring, ClockOffset, Inauthentic, Keyring, Kind, Malformed, Normalised, Published, Redaction,
    Rejection, Window,
};
use crate::clock::Clock;
use crate::delivery::{Delivery, DeliveryError, SetAsideError};
use crate::event::Timestamp;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::status::{Journal, Signed};

/// What the intake works with.
#[derive(Debug)]
pub struct Parts {
    /// Limits and path.
    pub config: Config,
    /// Time from the end of a body to its outcome that is kept free for the delivery.
    pub delivery_time: Duration,
    /// The active keys.
    pub keyring: Arc<ActiveKeyring>,
    /// When a signature counts.
    pub window: Window,
    /// What signatures tell of our clock.
    pub clock_offset: Arc<ClockOffset>,
    /// What is masked.
    pub redaction: Redaction,
    /// Which kinds are published.
    pub published: Published,
    /// Where messages go.
    pub delivery: Delivery,
    /// Whether the bridge is ready.
    pub readiness: Readiness,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Where callbacks are remembered for operators, if they are.
    pub journal: Option<Arc<Journal>>,
}

/// Takes callbacks.
pub struct Intake {
    parts: Parts,
    clock: Arc<dyn Clock>,
    deliveries: TaskTracker,
    lines: Arc<LineLimit>,
    bodies: Arc<Budget>,
    messages: Arc<Budget>,
}

/// What a body comes to, before anything is sent.
enum Judged {
    Publish(Message, Timestamp, Subject),
    SetAside(Message, Timestamp, Aside, Subject),
    Settled(Verdict, Subject),
}

/// Why a callback makes no event, and is kept all the same.
#[derive(Clone, Copy)]
enum Aside {
    /// It is unusable: to the dead letters.
    Unusable(Refusal),
    /// Its kind is not published: to the other events.
    Other(Kind),
}

impl Intake {
    /// Puts the intake together; deliveries run as tasks of `deliveries`.
    #[must_use]
    pub fn new(parts: Parts, clock: Arc<dyn Clock>, deliveries: TaskTracker) -> Self {
        let lines = Arc::new(LineLimit::new(clock.monotonic()));
        Self { parts, clock, deliveries, lines, bodies: Arc::default(), messages: Arc::default() }
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr, work: Work) -> Answer {
        if request.uri().path() == self.parts.config.health_path {
            work.is_whole();
            return self.health(&request);
        }
        let journal = self.parts.journal.as_ref();
        let mut in_flight = InFlight::begin(&self.parts.metrics, &self.clock, &self.lines, journal, (peer, work));
        let trace_parent = head::trace_parent(&request);
        let body = match self.receive(request, peer, in_flight.started()).await {
            Ok(body) => body,
            Err(refusal) => return in_flight.resolve(&Verdict::Refused(refusal), &Subject::default()),
        };
        // Until the answer is there: a delivery goes on without its client, and needs no place.
        let _work = in_flight.body_is_whole();
        let judged = self.judge(&body, in_flight.started());
        // A delivery may take long, and needs the message alone.
        drop(body);
        match judged {
            Judged::Settled(verdict, subject) => in_flight.resolve(&verdict, &subject),
            Judged::Publish(mut message, accepted_at, subject) => {
                if let Some(parent) = trace_parent {
                    message.trace(parent);
                }
                self.publish(message, accepted_at, subject, in_flight).await
            }
            Judged::SetAside(mut letter, received_at, aside, subject) => {
                if let Some(parent) = trace_parent {
                    letter.trace(parent);
                }
                self.set_aside((letter, received_at, aside), subject, in_flight).await
            }
        }
    }

    /// Tells load balancers whether the bridge is ready. This is no callback and is not counted as one. It is open to
    /// every network: load balancers probe from addresses of their own, and ready or not is all that they learn.
    fn health(&self, request: &Request<Incoming>) -> Answer {
        if !head::is_well_framed(request) {
            return super::answer::refused(Refusal::BadFraming);
        }
        if !admin::is_read(request) {
            return admin::method_not_allowed();
        }
        admin::readiness(&self.parts.readiness)
    }

    /// Judges the head and reads the body within its limits.
    async fn receive(&self, request: Request<Incoming>, peer: IpAddr, started: Instant) -> Result<Bytes, Refusal> {
        let config = &self.parts.config;
        head::judge(&request, peer, config)?;
        // The body may take what the delivery does not need.
        let deadline = started + config.request_deadline.saturating_sub(self.parts.delivery_time);
        let read = read_body(request.into_body(), config.body_bytes_max, self.bodies.share());
        tokio::time::timeout_at(deadline.into(), read).await.unwrap_or(Err(Refusal::BodyTooSlow))
    }

    /// Authentication, normalisation, encoding: pure but for the clock and the counters.
    fn judge(&self, body: &[u8], started: Instant) -> Judged {
        let parts = &self.parts;
        let received_at = Timestamp::from(self.clock.wall());
        let keyring = parts.keyring.current();
        let authentic = match callback::authenticate(body, &keyring, parts.window, received_at) {
            Ok(authentic) => authentic,
            Err(rejection) => {
                let refusal = Refusal::from(rejection);
                let mut subject = Subject::default();
                if let Rejection::Untimely { key_index, signed_at, .. } = rejection {
                    parts.clock_offset.signed(signed_at, started);
                    parts.metrics.keys.untimely(key_name(&keyring, key_index), refusal);
                    subject.signed = Some(Signed::out_of_time(key_index));
                }
                return Judged::Settled(Verdict::Refused(refusal), subject);
            }
        };
        parts.clock_offset.signed(authentic.signed_at(), started);
        parts.metrics.keys.authentic(key_name(&keyring, authentic.key_index()), authentic.kind().ok());
        #[expect(clippy::cast_precision_loss, reason = "the window bounds it to some thousands of seconds")]
        parts.metrics.keys.signature_age.observe(authentic.signed_seconds_ago() as f64);
        // Told to operators alone, and made only if they may look.
        let signed = |file: &str| {
            let seen = || Signed::timely(authentic.key_index(), authentic.kind().ok(), file);
            parts.journal.is_some().then(seen)
        };
        let publish = |message: Message, event_id, signed, members_dropped| {
            parts.metrics.members_dropped.inc_by(members_dropped);
            let subject = Subject { event: Some((event_id, message.key().clone())), member: "", signed };
            Judged::Publish(message, received_at, subject)
        };
        match authentic.normalise(&parts.redaction, parts.published) {
            Ok(Normalised::Recording { event, members_dropped }) => {
                let signed = signed(event.facts().file_ids.identity());
                publish(Message::encode(&event, received_at), event.event_id(), signed, members_dropped)
            }
            Ok(Normalised::Notice { notice, members_dropped }) => {
                publish(Message::encode_notice(&notice, received_at), notice.event_id(), signed(""), members_dropped)
            }
            Ok(Normalised::Ignored(ignored)) => {
                let subject = Subject { signed: signed(""), ..Subject::default() };
                if !parts.delivery.passes_on() {
                    return Judged::Settled(Verdict::Ignored(ignored), subject);
                }
                let message = other::write(&authentic, &ignored, &parts.redaction, received_at);
                Judged::SetAside(message, received_at, Aside::Other(ignored.kind()), subject)
            }
            Err(unusable) => {
                let letter = letter::write(&authentic, unusable, &parts.redaction, received_at);
                let subject = Subject { member: unusable.member, signed: signed(""), ..Subject::default() };
                Judged::SetAside(letter, received_at, Aside::Unusable(unusable.into()), subject)
            }
        }
    }

    /// Delivers, whether or not the client stays.
    fn publish(
        &self,
        message: Message,
        accepted_at: Timestamp,
        subject: Subject,
        in_flight: InFlight,
    ) -> impl Future<Output = Answer> + use<> {
        let (delivery, bytes) = (self.parts.delivery.clone(), message.size_bytes());
        let delivered = async move {
            match delivery.deliver(message, accepted_at).await {
                Ok(receipt) => Verdict::Accepted(receipt),
                Err(error) => Verdict::Refused(error.into()),
            }
        };
        self.conclude(bytes, delivered, subject, in_flight)
    }

    /// Sets a callback aside that makes no event, likewise.
    fn set_aside(
        &self,
        (letter, received_at, aside): (Message, Timestamp, Aside),
        subject: Subject,
        in_flight: InFlight,
    ) -> impl Future<Output = Answer> + use<> {
        let (delivery, bytes) = (self.parts.delivery.clone(), letter.size_bytes());
        let kept = async move {
            match aside {
                Aside::Unusable(reason) => match delivery.set_aside(letter, received_at).await {
                    Ok(proof) => Verdict::DeadLettered(proof, reason),
                    Err(SetAsideError::Off) => Verdict::Refused(reason),
                    Err(SetAsideError::Full) => Verdict::Refused(Refusal::DeadLettersFull),
                    Err(SetAsideError::Unhealthy) => Verdict::Refused(Refusal::DeadLettersUnhealthy),
                    Err(SetAsideError::Stopping) => Verdict::Refused(Refusal::ShuttingDown),
                },
                Aside::Other(kind) => match delivery.pass_on(letter, received_at).await {
                    Ok(proof) => Verdict::PassedOn(proof, kind),
                    Err(SetAsideError::Full) => Verdict::Refused(Refusal::OtherEventsFull),
                    Err(SetAsideError::Off | SetAsideError::Unhealthy) => {
                        Verdict::Refused(Refusal::OtherEventsUnhealthy)
                    }
                    Err(SetAsideError::Stopping) => Verdict::Refused(Refusal::ShuttingDown),
                },
            }
        };
        self.conclude(bytes, kept, subject, in_flight)
    }

    /// Begins to wait for the verdict, at once and within the request's deadline; that ends with the callback's outcome
    /// whether or not anybody waits for it. Nothing is begun if as many wait as may, or if the `bytes` of the message
    /// exceed what may wait. Strangers count for neither: only authentic callbacks get here.
    ///
    /// The work is put into its box here and not where it is waited for: what waits would have room for all of it once
    /// more, in every layer, and copy it from one to the next.
    fn conclude<F>(
        &self,
        bytes: usize,
        verdict: F,
        subject: Subject,
        in_flight: InFlight,
    ) -> impl Future<Output = Answer> + use<F>
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let mut share = self.messages.share();
        let begun = if self.deliveries.len() >= self.parts.config.in_flight_max || !share.grow_to(bytes) {
            Err(in_flight.resolve(&Verdict::Refused(Refusal::TooManyInFlight), &subject))
        } else {
            let deadline = in_flight.started() + self.parts.config.request_deadline;
            let work = async move {
                let verdict = tokio::time::timeout_at(deadline.into(), verdict).await;
                let verdict = verdict.unwrap_or(Verdict::Refused(Refusal::RequestDeadline));
                drop(share);
                in_flight.resolve(&verdict, &subject)
            };
            Ok(Unstoppable::new(work, &self.deliveries))
        };
        async move {
            match begun {
                Ok(work) => work.await.unwrap_or_else(|Panicked| {
                    // The guard inside has counted it as unresolved; the sender must keep it.
                    tracing::error!("a delivery has panicked");
                    super::answer::refused_after_a_defect()
                }),
                Err(answer) => answer,
            }
        }
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Intake").field("parts", &self.parts).finish_non_exhaustive()
    }
}

fn key_name(keyring: &Keyring, index: usize) -> &str {
    keyring.keys().get(index).map_or("", callback::Key::name)
}

/// Reads a body of at most `bytes_max`, which has its `share` of the budget until it is whole. A body that comes in one
/// piece, as nearly all do, is not copied.
async fn read_body(mut body: Incoming, bytes_max: usize, mut share: Share) -> Result<Bytes, Refusal> {
    // A buffer that grows leaves behind what it was before, twice the budget in all. What is reserved for a length that
    // was only announced takes no memory until it is filled.
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_fault(&error))?.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length > bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        if !share.grow_to(length) {
            return Err(Refusal::TooManyInFlight);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            if body.is_end_stream() {
                return Ok(first);
            }
        } else {
            if whole.is_empty() {
                whole.reserve(announced.min(bytes_max));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// A body that ends early means that the client has left; anything else is not HTTP.
fn body_fault(error: &hyper::Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            let gone = matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
            return if gone { Refusal::ClientGone } else { Refusal::BadFraming };
        }
        cause = error.source();
    }
    Refusal::ClientGone
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Malformed(Malformed::NotUtf8) => Self::NotUtf8,
            Rejection::Malformed(Malformed::NotJson) => Self::NotJson,
            Rejection::Malformed(Malformed::NotObject) => Self::NotObject,
            Rejection::Malformed(Malformed::DuplicateMember) => Self::DuplicateMember,
            Rejection::Inauthentic(Inauthentic::SignatureMissing) => Self::SignatureMissing,
            Rejection::Inauthentic(Inauthentic::SignatureMalformed) => Self::SignatureMalformed,
            Rejection::Inauthentic(Inauthentic::SignatureMismatch) => Self::SignatureMismatch,
            Rejection::Inauthentic(Inauthentic::Expired) => Self::Expired,
            Rejection::Inauthentic(Inauthentic::TooFarAhead) => Self::TooFarAhead,
            Rejection::Inauthentic(Inauthentic::OutOfScope) => Self::OutOfScope,
            Rejection::Inauthentic(Inauthentic::ScopeMemberMissing) => Self::ScopeMemberMissing,
            // Nobody is to learn from the answer that a key of ours made the signature.
            Rejection::Untimely { untimely, .. } => Rejection::Inauthentic(untimely.into()).into(),
        }
    }
}

impl From<DeliveryError> for Refusal {
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::Deadline => Self::AckDeadline,
            DeliveryError::QueueFull => Self::QueueFull,
            DeliveryError::ProducerLost => Self::ProducerFatal,
            DeliveryError::Refused => Self::KafkaRefused,
            DeliveryError::SpoolFull => Self::SpoolFull,
            DeliveryError::SpoolUnhealthy => Self::SpoolUnhealthy,
            DeliveryError::Stopping => Self::ShuttingDown,
        }
    }
}
