//! The accept loop: connections within limits, each closed at its age, all closed in good order at the end. Who may
//! stay when there are too many is decided by `places`.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Config;
use super::intake::Intake;
use super::patience::Patience;
use super::places::{Place, Places, Work};
use super::tally::Tally;
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
    let handler = move |request, peer, work| Arc::clone(&intake).answer(request, peer, work);
    accept(listener, handler, Limits::of(config), tls, Tally::of_callbacks(metrics), stop)
}

/// The accept loop of both listeners. Connections are plain without `tls`.
pub(super) async fn accept<H, F, B>(
    listener: TcpListener,
    handler: H,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    tally: Tally,
    stop: CancellationToken,
) where
    H: Fn(Request<Incoming>, IpAddr, Work) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let open = TaskTracker::new();
    let places = Places::new(limits.connections_max, limits.per_source_max, tally.clone());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                pause_after(&error, &tally).await;
                continue;
            }
        };
        if let Some(place) = places.take(peer).await {
            let place = Arc::new(place);
            let connection = Connection { stream, peer, limits, place, tls: tls.clone(), tally: tally.clone() };
            open.spawn(connection.run(handler.clone(), stop.clone()));
        }
    }
    // Whoever tries now is told at once that nobody listens.
    drop(listener);
    open.close();
    open.wait().await;
}

/// A client that left before it was accepted costs nothing; a lack of descriptors would make a busy loop.
async fn pause_after(error: &io::Error, tally: &Tally) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        tally.refused(ConnectionRefusal::NotAccepted);
        tracing::error!(%error, "connections cannot be accepted; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    limits: Limits,
    place: Arc<Place>,
    tls: Option<Arc<Tls>>,
    tally: Tally,
}

impl Connection {
    async fn run<H, F, B>(self, handler: H, stop: CancellationToken)
    where
        H: Fn(Request<Incoming>, IpAddr, Work) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Self { stream, peer, limits, place, tls, tally } = self;
        // Answers are small and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        // Connections that came together must not all be closed together.
        let jitter = stream.peer_addr().map_or(0, |address| u32::from(address.port()) % 100);
        let age = limits.age_max + limits.age_max / 10 * jitter / 100;
        let terms = Terms { peer, limits, age, place: Arc::clone(&place) };
        let fault = match tls {
            None => terms.keep(Patience::new(stream, limits.header_deadline), handler, &stop).await,
            // In a box, so that plain connections have no room for what they do not need.
            Some(tls) => {
                Box::pin(async move {
                    // Nothing was asked yet: whoever is told to stop need not wait for it.
                    let handshake = tls.handshake(stream, limits.header_deadline);
                    let shaken = tokio::select! {
                        biased;
                        shaken = handshake => shaken,
                        () = stop.cancelled() => Ok(None),
                        () = terms.place.is_vacated() => Ok(None),
                    };
                    match shaken {
                        Ok(Some(stream)) => terms.keep(stream, handler, &stop).await,
                        Ok(None) => None,
                        Err(fault) => Some(fault),
                    }
                })
                .await
            }
        };
        if let Some(fault) = fault {
            tally.fault(fault);
        }
        drop(place);
    }
}

/// What a connection is served on, whatever its stream.
struct Terms {
    peer: IpAddr,
    limits: Limits,
    age: Duration,
    place: Arc<Place>,
}

impl Terms {
    /// Serves one connection to its end, and tells by which fault it ended.
    async fn keep<S, H, F, B>(self, stream: S, handler: H, stop: &CancellationToken) -> Option<ConnectionFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        H: Fn(Request<Incoming>, IpAddr, Work) -> F,
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        let Self { peer, limits, age, place } = self;
        let serving = Arc::clone(&place);
        let service = service_fn(move |request| {
            // On the heap: an idle connection must not hold the room that a request takes.
            let answer = Box::pin(handler(request, peer, serving.work()));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let mut builder = http1::Builder::new();
        builder
            // Without a timer hyper has no timeouts at all.
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_deadline)
            .max_buf_size(HEAD_BYTES_MAX)
            // Answers are short: to copy them together takes less than to have the system gather them.
            .writev(false)
            // A client that has sent its request may close its half; it still gets its answer.
            .half_close(true);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut ended = tokio::select! {
            // A request that is there already comes before everything else.
            biased;
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
            () = tokio::time::sleep(age) => None,
            () = place.is_unwanted() => None,
        };
        if ended.is_none() {
            connection.as_mut().graceful_shutdown();
            ended = tokio::select! {
                biased;
                // A peer who takes a byte now and then could make this last for ever.
                ended = tokio::time::timeout(limits.closing_deadline, connection) => ended.ok(),
                // Whoever gives way to another has no whole request, and nothing to finish.
                () = place.is_vacated() => Some(Ok(())),
            };
        }
        match ended {
            Some(ended) => ended.err().and_then(|error| fault(&error, place.has_served())),
            None => Some(ConnectionFault::Broken),
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
