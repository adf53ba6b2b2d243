//! TLS on the callback listener: the handshake, and the certificate that is in use.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 only, with tickets, so that a sender that comes again pays little. Certificate and key are
//! read again and again and replaced together, without a restart: connections that are open go on, later ones get the new
//! certificate. Files that make no pair change nothing, and that is to be seen for as long as it lasts.
//!
//! It deliberately has no list of ciphers and no client certificates: rustls has no weak ciphers, and callbacks are signed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::ServerSessionMemoryCache;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

pub use super::certificate::{Pair, PairError, Standing};
use super::patience::Patience;
use crate::event::Timestamp;
use crate::metrics::{ConnectionFault, Metrics};

/// The one protocol that is offered (ALPN): HTTP/2 is not in the build.
const PROTOCOL: &[u8] = b"http/1.1";
/// Sessions kept for clients of TLS 1.2 that take no tickets; all others keep theirs themselves.
const SESSIONS_MAX: usize = 256;

/// Bytes of a handshake, about: a greeting has one or two KiB, and no client sends a certificate. The library would
/// buffer a greeting of 64 KiB for every connection.
const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The certificate and what leads from it to an authority, in this order (PEM).
    pub certificate_file: PathBuf,
    /// The private key of that certificate (PEM, without a password).
    pub key_file: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug)]
pub enum TlsError {
    /// The files make no pair.
    Pair(PairError),
    /// The library refuses the pair, or has no random numbers.
    Library(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(error) => error.fmt(formatter),
            Self::Library(error) => write!(formatter, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// TLS with the pair that is in use.
pub struct Tls {
    config: Config,
    metrics: Arc<Metrics>,
    current: RwLock<Arc<ServerConfig>>,
    known: Mutex<Known>,
}

/// What was found when the files were looked at last.
struct Known {
    pair: Pair,
    /// What is wrong with the files, as it was said.
    fault: Option<String>,
    standing: Standing,
}

impl Tls {
    /// Begins with the pair that is in the files at `now`.
    ///
    /// # Errors
    /// If they make no pair.
    pub fn new(config: Config, metrics: Arc<Metrics>, now: Timestamp) -> Result<Self, TlsError> {
        let pair = Pair::read(&config).map_err(TlsError::Pair)?;
        let usable = prepare(&pair)?;
        metrics.tls.in_use(pair.not_after_seconds());
        metrics.tls.files_usable(true);
        tracing::info!(
            certificate_file = %config.certificate_file.display(),
            names = pair.names().join(","),
            validity = pair.validity(),
            "the callback listener speaks TLS"
        );
        for doubt in pair.doubts() {
            tracing::warn!(certificate_file = %config.certificate_file.display(), doubt, "the certificate is doubtful");
        }
        let known = Known { standing: Standing::Valid, fault: None, pair };
        let tls = Self { config, metrics, current: RwLock::new(Arc::new(usable)), known: Mutex::new(known) };
        tls.weigh(&mut tls.known.lock().unwrap_or_else(PoisonError::into_inner), now);
        Ok(tls)
    }

    /// Looks at the files again, and takes their pair into use if it is another one.
    pub fn look_again(&self, now: Timestamp) {
        // A change between the reading of one file and of the other looks like half a change.
        let found = Pair::read(&self.config).or_else(|_| Pair::read(&self.config)).map_err(TlsError::Pair);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.and_then(|pair| {
            let changed = !pair.is_same_as(&known.pair);
            changed.then(|| prepare(&pair).map(|usable| (pair, usable))).transpose()
        });
        match found {
            Ok(None) => {
                if known.fault.take().is_some() {
                    tracing::info!("the certificate and its key can be used again; they are those in use");
                }
            }
            Ok(Some((pair, usable))) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(usable);
                self.metrics.tls.in_use(pair.not_after_seconds());
                self.metrics.tls.reloaded(true);
                tracing::info!(
                    names = pair.names().join(","),
                    validity = pair.validity(),
                    "a new certificate is in use"
                );
                for doubt in pair.doubts() {
                    tracing::warn!(doubt, "the new certificate is doubtful");
                }
                *known = Known { standing: Standing::Valid, fault: None, pair };
            }
            Err(error) => {
                let fault = error.to_string();
                if known.fault.as_ref() != Some(&fault) {
                    self.metrics.tls.reloaded(false);
                    tracing::error!(error = fault, "the certificate cannot be replaced; the old one stays in use");
                    known.fault = Some(fault);
                }
            }
        }
        self.metrics.tls.files_usable(known.fault.is_none());
        self.weigh(&mut known, now);
    }

    /// Says how the certificate in use stands to the time, whenever that has changed.
    fn weigh(&self, known: &mut Known, now: Timestamp) {
        let standing = known.pair.standing(now);
        if standing == std::mem::replace(&mut known.standing, standing) {
            return;
        }
        let (file, validity) = (self.config.certificate_file.display(), known.pair.validity());
        match standing {
            Standing::Valid => tracing::info!(certificate_file = %file, validity, "the certificate is valid"),
            Standing::EndsSoon => {
                tracing::warn!(certificate_file = %file, validity, "the certificate ends in less than 14 days");
            }
            Standing::NotYetValid => {
                tracing::warn!(certificate_file = %file, validity, "the certificate is not valid yet: senders that look refuse it");
            }
            Standing::Expired => {
                tracing::warn!(certificate_file = %file, validity, "the certificate has expired: senders that look refuse it");
            }
        }
    }

    /// The handshake of one connection; `None` if its client left without a word, as those do who look whether a port
    /// is open.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<Option<Encrypted>, ConnectionFault> {
        let handshake = async {
            if stream.peek(&mut [0]).await? == 0 {
                return Ok(None);
            }
            let current = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
            // Patience is below TLS, which takes bytes at once and has to get rid of them later.
            let patience = Patience::new(stream, deadline).that_hears(HANDSHAKE_BYTES_MAX);
            let mut stream = TlsAcceptor::from(current).accept(patience).await?;
            stream.get_mut().0.listen_on();
            Ok::<_, io::Error>(Some(Encrypted(stream)))
        };
        match tokio::time::timeout(deadline, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake has failed");
                Err(ConnectionFault::HandshakeFailed)
            }
            Err(_) => Err(ConnectionFault::HandshakeTooSlow),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

/// TLS with this pair. It has tickets of its own: whoever comes with one of an earlier pair is shown the new one.
fn prepare(pair: &Pair) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Library)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified())));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(TlsError::Library)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    // Data before the end of a handshake could be sent a second time by whoever has seen it.
    config.max_early_data_size = 0;
    Ok(config)
}

/// A connection after its handshake.
///
/// A client that leaves without a farewell (`close_notify`) simply leaves, as many do: what is missing of a request shows
/// by its length.
pub(super) struct Encrypted(TlsStream<Patience<TcpStream>>);

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
