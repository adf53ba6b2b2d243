//! The whole: the only place where parts are wired, and the order in which they start and stop.
//!
//! Start: producer (absent brokers are an outage, not an error) → admin listener → callback listener. Stop: not
//! ready → drain delay → close the listener → finish requests → finish deliveries → flush the producer → exit.

mod clock;
mod descriptors;
mod drain;
mod files;
mod keys;
mod memory;
mod spools;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callback::{ActiveKeyring, ClockOffset, Keyring, Redaction, Window};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::delivery::{self, Delivery};
use crate::event::Timestamp;
use crate::http::intake::{Intake, Parts};
use crate::http::tls::{Tls, TlsError};
use crate::http::{Readiness, admin, server, status};
use crate::kafka::{Failure, LibrdkafkaProducers, StartError, librdkafka_version};
use crate::metrics::Metrics;
use crate::shutdown::{Hangup, Shutdown, Signals};
use crate::status::Journal;
pub use drain::{Ending, Progress, SpoolDrain};
use files::Files;
pub(crate) use memory::keep_private;
pub use spools::SpoolError;
pub(crate) use spools::{DEAD_LETTERS, OTHER_EVENTS};

/// Part of the grace that is kept for the producer's flush after the last request, if every request has its deadline
/// before it.
const FLUSH_RESERVE: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted, if `net.core.somaxconn` allows so many. Whoever finds no room in this queue
/// is not answered, and tries again after a second; the usual 128 are full after some milliseconds of a burst.
const WAITING_MAX: i32 = 4096;

/// Time for tasks whose outcome is known to hand it on, and for operators to read their last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the bridge cannot run.
#[derive(Debug)]
pub enum AppError {
    /// A listener cannot be opened.
    Listen(&'static str, SocketAddr, io::Error),
    /// The certificate of the callback listener or its key cannot be used.
    Tls(TlsError),
    /// The producer's settings are unusable.
    Producer(StartError),
    /// The spool cannot be used.
    Spool(spools::SpoolError),
    /// A thread, a runtime or a signal handler cannot be had.
    System(&'static str, io::Error),
}

impl std::fmt::Display for AppError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(listener, address, error) => {
                write!(formatter, "cannot listen on {address} for {listener}: {error}")
            }
            Self::Tls(error) => write!(formatter, "http.tls: {error}"),
            Self::Producer(error) => error.fmt(formatter),
            Self::Spool(error) => error.fmt(formatter),
            Self::System(what, error) => write!(formatter, "no {what}: {error}"),
        }
    }
}

impl std::error::Error for AppError {}

/// The bridge, wired and listening, but not yet serving.
#[derive(Debug)]
pub struct App {
    wired: Wired,
    runtime: Runtime,
    hangup: Option<Hangup>,
    callbacks: TcpListener,
    admin: TcpListener,
}

/// Everything but the listeners, which belong to whoever accepts from them: a port is closed when its last owner goes.
#[derive(Debug)]
struct Wired {
    config: Config,
    clock: Arc<dyn Clock>,
    keyring: Arc<ActiveKeyring>,
    delivery: Delivery,
    readiness: Readiness,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    journal: Option<Arc<Journal>>,
}

impl std::fmt::Debug for dyn Clock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Clock")
    }
}

impl App {
    /// Wires the parts, starts the producer and opens both listeners.
    ///
    /// # Errors
    /// If a listener cannot be opened, or the certificate or the settings of the producer are unusable. Absent brokers are no error.
    pub fn build(mut config: Config, keyring: Keyring) -> Result<Self, AppError> {
        let runtime = callback_runtime()?;
        // Before anything that takes long: a signal that nobody has taken over ends the process.
        let has_files = keys::have_files(&config.callback) || config.http.tls.is_some();
        let hangup = has_files.then(|| Hangup::take_over(&runtime)).transpose();
        let hangup = hangup.map_err(|error| AppError::System("signal handler", error))?;
        config.http.connections_max = descriptors::raise_limit(config.http.connections_max);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let key_names: Vec<&str> = config.callback.keys.iter().map(|key| key.name.as_str()).collect();
        let failures = Failure::ALL.map(Failure::label);
        let metrics = Arc::new(Metrics::new(&key_names, &failures, &librdkafka_version()));
        let tls = |files| Tls::new(files, Arc::clone(&metrics), Timestamp::from(clock.wall())).map(Arc::new);
        let tls = config.http.tls.clone().map(tls).transpose().map_err(AppError::Tls)?;
        let spools = spools::open(&config.spool).map_err(AppError::Spool)?;
        let producers = LibrdkafkaProducers::new(&config.kafka).map_err(AppError::Producer)?;
        let settings = delivery::Config {
            ack_deadline: config.kafka.ack_deadline,
            watchdog: config.kafka.watchdog,
            repeats: config.repeats,
        };
        let letter_producers = Box::new(producers.for_dead_letters());
        let (counted, timed) = (Arc::clone(&metrics), Arc::clone(&clock));
        let other_events = producers.for_other_events();
        let other_spool = match &other_events {
            Some(_) => spools::open_other_events(&config.spool),
            None => spools::forgotten_other_events(&config.spool),
        };
        let mut delivery =
            Delivery::start(Box::new(producers), Some(letter_producers), spools, counted, timed, settings)
                .map_err(AppError::Producer)?;
        let producers = other_events.map(|producers| Box::new(producers) as Box<_>);
        delivery = delivery.passing_on(producers, other_spool).map_err(AppError::Producer)?;
        let admin = listen("admin", config.admin.listen)?;
        let callbacks = listen("callbacks", config.http.listen)?;
        let wired = Wired {
            journal: journal(&config, clock.as_ref()),
            readiness: Readiness::new(delivery.clone()),
            keyring: Arc::new(ActiveKeyring::new(keyring)),
            config,
            clock,
            delivery,
            tls,
            metrics,
        };
        Ok(Self { wired, runtime, hangup, callbacks, admin })
    }

    /// Where callbacks are taken.
    ///
    /// # Errors
    /// If the operating system cannot say.
    pub fn callback_address(&self) -> io::Result<SocketAddr> {
        self.callbacks.local_addr()
    }

    /// Where operators look.
    ///
    /// # Errors
    /// If the operating system cannot say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// The metrics of this bridge.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.wired.metrics)
    }

    /// Whether a 200 could be made true now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.wired.readiness.clone()
    }

    /// Serves until `shutdown` is requested or a signal asks for it, then stops in good order.
    ///
    /// # Errors
    /// If a thread, a runtime or a signal handler cannot be had.
    pub fn run(self, shutdown: &Shutdown) -> Result<(), AppError> {
        let Self { wired, runtime, hangup, callbacks, admin } = self;
        let stop_admin = CancellationToken::new();
        let admin = wired.start_admin(admin, stop_admin.clone())?;
        if let Some(hangup) = hangup {
            let files = wired.files().keep_fresh().map_err(|error| AppError::System("thread for files", error))?;
            // Heard until the very end, so this task is never waited for. The thread ends with it.
            runtime.spawn(hangup.forward_to(move || files.ask()));
        }
        let deliveries = TaskTracker::new();
        let grace_ends = runtime.block_on(wired.serve(callbacks, shutdown, &deliveries))?;
        wired.stop(runtime, &deliveries, grace_ends, shutdown);
        stop_admin.cancel();
        if admin.join().is_err() {
            tracing::error!("the admin thread has panicked");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

impl Wired {
    /// Everything on disk that may change while the bridge runs.
    fn files(&self) -> Files {
        let mut files = Files::default();
        if keys::have_files(&self.config.callback) {
            let (keyring, metrics) = (Arc::clone(&self.keyring), Arc::clone(&self.metrics));
            files.add(keys::look(self.config.callback.clone(), keyring, metrics));
        }
        if let Some(tls) = self.tls.clone() {
            let clock = Arc::clone(&self.clock);
            files.add(move || tls.look_again(Timestamp::from(clock.wall())));
        }
        // The delivery looks itself, and waits for brokers then, which no other file should have to.
        let delivery = self.delivery.clone();
        files.add(move || delivery.look_at_credentials());
        files
    }

    /// The admin listener, on a thread of its own.
    fn start_admin(&self, listener: TcpListener, stop: CancellationToken) -> Result<thread::JoinHandle<()>, AppError> {
        let system = |error| AppError::System("admin thread", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let (metrics, readiness) = (Arc::clone(&self.metrics), self.readiness.clone());
        let clock = Arc::clone(&self.clock);
        let status = self.status();
        let work = async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let serving = admin::serve(listener, metrics, readiness, status, clock, stop.clone());
                    // The process ends when this thread does: no client may put that off.
                    let overdue = async {
                        stop.cancelled().await;
                        tokio::time::sleep(LAST_WORDS).await;
                    };
                    tokio::select! {
                        () = serving => {}
                        () = overdue => tracing::warn!("an operator's connection does not end; it is dropped"),
                    }
                }
                Err(error) => tracing::error!(%error, "the admin listener cannot be used"),
            }
        };
        thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(work)).map_err(system)
    }

    /// What operators are shown, if they may look.
    fn status(&self) -> Option<status::Parts> {
        let (kafka, journal) = (&self.config.kafka, self.journal.clone()?);
        Some(status::Parts {
            journal,
            brokers: kafka.brokers.clone(),
            topic: kafka.topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic.clone(),
            path: self.config.http.path.clone(),
            has_spool: self.config.spool.enabled,
        })
    }

    /// Serves callbacks until the request to stop, then finishes those under way. Returns when the grace ends.
    async fn serve(
        &self,
        callbacks: TcpListener,
        shutdown: &Shutdown,
        deliveries: &TaskTracker,
    ) -> Result<Instant, AppError> {
        let system = |error| AppError::System("callback listener", error);
        let listener = tokio::net::TcpListener::from_std(callbacks).map_err(system)?;
        let signals = Signals::take_over().map_err(|error| AppError::System("signal handler", error))?;
        let clock_offset = Arc::new(ClockOffset::new(self.clock.monotonic()));
        let window = Window::new(&self.config.callback);
        let parts = Parts {
            config: self.config.http.clone(),
            delivery_time: self.config.kafka.ack_deadline,
            keyring: Arc::clone(&self.keyring),
            window,
            clock_offset: Arc::clone(&clock_offset),
            redaction: Redaction::new(&self.config.callback.masked_names),
            published: self.config.callback.published_kinds,
            delivery: self.delivery.clone(),
            readiness: self.readiness.clone(),
            metrics: Arc::clone(&self.metrics),
            journal: self.journal.clone(),
        };
        let intake = Arc::new(Intake::new(parts, Arc::clone(&self.clock), deliveries.clone()));
        let stop_accepting = CancellationToken::new();
        let connections = TaskTracker::new();
        connections.spawn(server::serve(
            listener,
            intake,
            &self.config.http,
            self.tls.clone(),
            Arc::clone(&self.metrics),
            stop_accepting.clone(),
        ));
        connections.close();
        // Signals are heard until the very end, so this task is never waited for; nor is the watch of the clock.
        TaskTracker::new().spawn(signals.forward_to(shutdown.clone()));
        let (clock, metrics) = (Arc::clone(&self.clock), Arc::clone(&self.metrics));
        TaskTracker::new().spawn(clock::watch(clock_offset, window, clock, metrics));
        tracing::info!("serving");

        shutdown.requested().await;
        self.readiness.stop();
        tokio::select! {
            () = tokio::time::sleep(self.config.shutdown.drain_delay) => {}
            () = shutdown.urgent() => {}
        }
        stop_accepting.cancel();
        let (begun, grace) = (self.clock.monotonic(), self.config.shutdown.grace);
        let requests_end =
            begun + grace.saturating_sub(FLUSH_RESERVE).max(self.config.http.request_deadline.min(grace));
        let finished = async {
            connections.wait().await;
            deliveries.close();
            deliveries.wait().await;
        };
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep_until(requests_end.into()) => {
                tracing::warn!(deliveries = deliveries.len(), "the grace is over for requests under way");
            }
            () = shutdown.urgent() => tracing::warn!("asked twice: not waiting for requests under way"),
        }
        Ok(begun + grace)
    }

    /// Flushes the producer for what is left of the grace, and lets every callback learn its outcome.
    fn stop(&self, runtime: Runtime, deliveries: &TaskTracker, grace_ends: Instant, shutdown: &Shutdown) {
        let left = grace_ends.saturating_duration_since(self.clock.monotonic());
        self.delivery.stop(left, || shutdown.is_urgent());
        // What has no report is given up by now, so whoever still waits is about to be told. A set that is not closed
        // would be waited for in vain, and it is still open if the grace or the patience ended first.
        deliveries.close();
        if runtime.block_on(async { tokio::time::timeout(LAST_WORDS, deliveries.wait()).await }).is_err() {
            tracing::error!(deliveries = deliveries.len(), "deliveries did not end");
        }
        runtime.shutdown_timeout(LAST_WORDS);
    }
}

/// Where the last callbacks are remembered, unless nobody may look.
fn journal(config: &Config, clock: &dyn Clock) -> Option<Arc<Journal>> {
    let key_names = || config.callback.keys.iter().map(|key| key.name.clone()).collect();
    config.admin.status_page.then(|| Arc::new(Journal::new(key_names(), Timestamp::from(clock.wall()))))
}

/// Where callbacks are worked on: half of the cores, since the Kafka client has threads of its own. Threads wake each
/// other to share what may be little work, which costs more than the work itself.
fn callback_runtime() -> Result<Runtime, AppError> {
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).thread_name("callbacks").enable_all().build();
    runtime.map_err(|error| AppError::System("runtime", error))
}

fn listen(name: &'static str, address: SocketAddr) -> Result<TcpListener, AppError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // Listening once more changes nothing but the length of the queue.
        rustix::net::listen(&listener, WAITING_MAX)?;
        let local = listener.local_addr()?;
        tracing::info!(listener = name, address = %local, "listening");
        Ok(listener)
    };
    open().map_err(|error| AppError::Listen(name, address, error))
}
