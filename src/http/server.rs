//! The accept loop: connections within limits, each closed at its age, all closed in good order at the end.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Config;
use super::answer::Answer;
use super::intake::Intake;
use super::patience::Patience;
use super::tls::Tls;
use crate::metrics::{ConnectionFault, ConnectionRefusal, Metrics};

/// Largest head of a request, in bytes; real ones have some hundreds.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after the operating system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a head to arrive, for a connection to stay idle, and for a peer to take a byte of what is written.
    pub(super) header_deadline: Duration,
    pub(super) age_max: Duration,
    /// From the wish to close a connection to its end, whatever the peer does.
    pub(super) closing_deadline: Duration,
    pub(super) connections_max: usize,
    pub(super) per_source_max: usize,
}

impl Limits {
    fn of(config: &Config) -> Self {
        Self {
            header_deadline: config.header_deadline,
            age_max: config.connection_age_max,
            // A head may be on its way, and its request has its own deadline after that.
            closing_deadline: config.header_deadline.saturating_add(config.request_deadline),
            connections_max: config.connections_max,
            per_source_max: config.connections_per_source_max,
        }
    }
}

/// Serves callbacks until `stop` is cancelled, then closes every connection after its current request. Returns when
/// the last one is closed; the caller sets the deadline for that.
pub fn serve(
    listener: TcpListener,
    intake: Arc<Intake>,
    config: &Config,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let handler = move |request, peer| Arc::clone(&intake).answer(request, peer);
    accept(listener, handler, Limits::of(config), tls, Some(metrics), stop)
}

/// The accept loop of both listeners. Connections are plain without `tls`, and counted if there are `metrics` to count
/// them in.
pub(super) async fn accept<H, F>(
    listener: TcpListener,
    handler: H,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    metrics: Option<Arc<Metrics>>,
    stop: CancellationToken,
) where
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let open = TaskTracker::new();
    let places = Places::new(limits, metrics.clone());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        if let Some(place) = places.take(peer) {
            let connection = Connection { stream, peer, limits, place, tls: tls.clone(), metrics: metrics.clone() };
            open.spawn(connection.run(handler.clone(), stop.clone()));
        }
    }
    // Whoever tries now is told at once that nobody listens.
    drop(listener);
    open.close();
    open.wait().await;
}

/// A client that left before it was accepted costs nothing; a lack of descriptors would make a busy loop.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        tracing::error!(%error, "connections cannot be accepted; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    limits: Limits,
    place: Place,
    tls: Option<Arc<Tls>>,
    metrics: Option<Arc<Metrics>>,
}

impl Connection {
    async fn run<H, F>(self, handler: H, stop: CancellationToken)
    where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let Self { stream, peer, limits, place, tls, metrics } = self;
        // Answers are small and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        // Connections that came together must not all be closed together.
        let jitter = stream.peer_addr().map_or(0, |address| u32::from(address.port()) % 100);
        let age = limits.age_max + limits.age_max / 10 * jitter / 100;
        let terms = Terms { peer, limits, age };
        let fault = match tls {
            None => terms.keep(Patience::new(stream, limits.header_deadline), handler, &stop).await,
            // In a box, so that plain connections have no room for what they do not need.
            Some(tls) => {
                Box::pin(async move {
                    // Nothing was asked yet: whoever is told to stop need not wait for it.
                    let handshake = tls.handshake(stream, limits.header_deadline);
                    match stop.run_until_cancelled(handshake).await {
                        Some(Ok(Some(stream))) => terms.keep(stream, handler, &stop).await,
                        Some(Err(fault)) => Some(fault),
                        Some(Ok(None)) | None => None,
                    }
                })
                .await
            }
        };
        if let (Some(fault), Some(metrics)) = (fault, metrics) {
            metrics.connection_fault(fault);
        }
        drop(place);
    }
}

/// What a connection is served on, whatever its stream.
#[derive(Clone, Copy)]
struct Terms {
    peer: IpAddr,
    limits: Limits,
    age: Duration,
}

impl Terms {
    /// Serves one connection to its end, and tells by which fault it ended.
    async fn keep<S, H, F>(self, stream: S, handler: H, stop: &CancellationToken) -> Option<ConnectionFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        H: Fn(Request<Incoming>, IpAddr) -> F,
        F: Future<Output = Answer>,
    {
        let Self { peer, limits, age } = self;
        let served = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(&served);
        let service = service_fn(move |request| {
            serving.store(true, Ordering::Relaxed);
            let answer = handler(request, peer);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let connection = http1::Builder::new()
            // Without a timer hyper has no timeouts at all.
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_deadline)
            .max_buf_size(HEAD_BYTES_MAX)
            // A client that has sent its request may close its half; it still gets its answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
            () = tokio::time::sleep(age) => None,
        };
        if let Some(ended) = ended {
            ended.err().and_then(|error| fault(&error, served.load(Ordering::Relaxed)))
        } else {
            connection.as_mut().graceful_shutdown();
            // A peer who takes a byte now and then could make this last for ever.
            match tokio::time::timeout(limits.closing_deadline, connection).await {
                Ok(ended) => ended.err().and_then(|error| fault(&error, served.load(Ordering::Relaxed))),
                Err(_) => Some(ConnectionFault::Broken),
            }
        }
    }
}

/// A connection that has `served` its purpose and then stayed idle ends in the same way as a slow head, without fault.
fn fault(error: &hyper::Error, served: bool) -> Option<ConnectionFault> {
    if error.is_timeout() {
        (!served).then_some(ConnectionFault::HeadTooSlow)
    } else if error.is_parse() {
        Some(ConnectionFault::Unreadable)
    } else {
        Some(ConnectionFault::Broken)
    }
}

/// How many connections may be open, in all and of one source.
struct Places {
    all: Arc<Semaphore>,
    per_source_max: usize,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    metrics: Option<Arc<Metrics>>,
}

impl Places {
    fn new(limits: Limits, metrics: Option<Arc<Metrics>>) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        Self { all, per_source_max: limits.per_source_max, sources: Arc::default(), metrics }
    }

    /// `None` if there is no place left; the connection is then closed without a word, which costs least.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let refused = |reason| {
            if let Some(metrics) = &self.metrics {
                metrics.connection_refused(reason);
            }
        };
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            refused(ConnectionRefusal::Limit);
            return None;
        };
        let source = if self.per_source_max == 0 {
            None
        } else if let Some(source) = self.take_of_source(peer) {
            Some(source)
        } else {
            refused(ConnectionRefusal::SourceLimit);
            return None;
        };
        if let Some(metrics) = &self.metrics {
            metrics.connections.inc();
        }
        Some(Place { _permit: permit, _source: source, metrics: self.metrics.clone() })
    }

    fn take_of_source(&self, peer: IpAddr) -> Option<SourcePlace> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(peer).or_default();
        (*count < self.per_source_max).then(|| {
            *count += 1;
            SourcePlace { peer, sources: Arc::clone(&self.sources) }
        })
    }
}

/// One open connection's place, given back when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _source: Option<SourcePlace>,
    metrics: Option<Arc<Metrics>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.connections.dec();
        }
    }
}

struct SourcePlace {
    peer: IpAddr,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.peer);
            }
        }
    }
}
