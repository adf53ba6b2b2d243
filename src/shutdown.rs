//! The end of the process: signals become one request, a second one means now. SIGHUP is no end: it asks for another
//! look at the files.
//!
//! What is done in which order between the request and the exit is told in `app`.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How the process takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Time between not being ready and closing the listener, in which load balancers look elsewhere.
    pub drain_delay: Duration,
    /// Time after that for callbacks and deliveries to end.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { drain_delay: Duration::from_secs(5), grace: Duration::from_secs(25) }
    }
}

/// A request to stop, which may become urgent.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    urgent: CancellationToken,
}

impl Shutdown {
    /// No request yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the process to stop; asking again makes it urgent.
    pub fn request(&self) {
        if self.requested.is_cancelled() {
            self.urgent.cancel();
        }
        self.requested.cancel();
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Waits for the second request.
    pub async fn urgent(&self) {
        self.urgent.cancelled().await;
    }

    /// Whether it was asked twice.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.is_cancelled()
    }
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals over from now on; a process with the number 1 would otherwise not even see them.
    pub(crate) fn take_over() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Turns every signal into a request, for ever.
    pub(crate) async fn forward_to(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            let urgent = shutdown.requested.is_cancelled();
            // First: nothing may come between a signal and what it asks for.
            shutdown.request();
            tracing::info!(urgent, "asked to stop");
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub(crate) struct Hangup(Signal);

impl Hangup {
    /// Takes the signal over from now on, so that it no longer ends the process. It is heard once `runtime` runs
    /// [`Hangup::forward_to`]; one that comes before is not forgotten.
    pub(crate) fn take_over(runtime: &Runtime) -> io::Result<Self> {
        let _within = runtime.enter();
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Calls `look_again` at every signal, for ever. Signals that come together may be one.
    pub(crate) async fn forward_to(mut self, look_again: impl Fn()) {
        while self.0.recv().await.is_some() {
            tracing::info!("SIGHUP: files are read again");
            look_again();
        }
    }
}
