//! A spool published without a bridge: the same delivery as in `serve`, with nothing to accept.
//!
//! It promises what the delivery promises: order, at least once, and that nothing leaves the disk before Kafka has
//! it. It ends when the spool is empty, when it is asked to, or when nothing was published for too long; what is left
//! then stays where it is. Dead letters are counted and left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{AppError, spools};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, SpoolConfig};
use crate::delivery::{self, Delivery};
use crate::kafka::{Failure, LibrdkafkaProducers, librdkafka_version};
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Signals};
use crate::spool::{Directory, Monitor};

/// How often the spool is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long messages on their way may still be acknowledged once the end is asked for.
const FLUSH: Duration = Duration::from_secs(2);
/// How long the last files may take to go.
const SETTLE: Duration = Duration::from_secs(5);

/// A spool that is open, and the delivery that publishes it.
#[derive(Debug)]
pub struct SpoolDrain {
    delivery: Delivery,
    messages: Monitor<Directory>,
    dead_letters: Monitor<Directory>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    foreign: Vec<String>,
    foreign_dead_letters: Vec<String>,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Messages that Kafka has acknowledged.
    pub published: u64,
    /// Frames left, at most.
    pub left: u64,
    /// Messages that Kafka refuses for good, moved to the dead letters.
    pub dead_lettered: u64,
    /// Frames among the dead letters in all.
    pub dead_letters: u64,
    /// Files of dead letters that are damaged or of another spool: nobody can tell how many letters are in them.
    pub dead_letter_files: u64,
    /// Stretches that could not be read.
    pub damaged_stretches: u64,
    /// Damaged files that are kept.
    pub set_aside: u64,
    /// Files of another spool, which are not touched.
    pub foreign: Vec<String>,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left.
    Empty,
    /// A signal.
    Asked,
    /// Nothing was published for so long.
    GivenUp(Duration),
}

impl SpoolDrain {
    /// Opens the spool of `config`, or the orphan at that place, and begins to publish it.
    ///
    /// # Errors
    /// If the spool cannot be used, such as one that another process owns, or the settings of the producer.
    pub fn start(config: &Config, orphan: Option<&Path>) -> Result<Self, AppError> {
        // What can be wrong without touching the spool comes first.
        let producers = LibrdkafkaProducers::new(&config.kafka).map_err(AppError::Producer)?;
        let directory = orphan.unwrap_or(&config.spool.directory).to_owned();
        let place = SpoolConfig { enabled: true, directory, ..config.spool.clone() };
        let spools = spools::open_both(&place, orphan.is_some()).map_err(AppError::Spool)?;
        let (messages, dead_letters) = (spools.messages.monitor.clone(), spools.dead_letters.monitor.clone());
        let foreign = spools.messages.recovery.foreign.clone();
        let foreign_dead_letters = spools.dead_letters.recovery.foreign.clone();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let failures = Failure::ALL.map(Failure::label);
        let metrics = Arc::new(Metrics::new(&[], &failures, &librdkafka_version()));
        let waits = delivery::Config {
            ack_deadline: config.kafka.ack_deadline,
            watchdog: config.kafka.watchdog,
            // Nothing arrives that could be a repeat.
            repeats: delivery::window::Config { entries_max: 0, ..config.repeats },
        };
        let (counted, timed) = (Arc::clone(&metrics), Arc::clone(&clock));
        // Dead letters are counted and left: a bridge on this directory publishes them.
        let delivery = Delivery::start(Box::new(producers), None, Some(spools), counted, timed, waits)
            .map_err(AppError::Producer)?;
        Ok(Self { delivery, messages, dead_letters, metrics, clock, foreign, foreign_dead_letters })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (status, letters) = (self.messages.status(), self.dead_letters.status());
        Progress {
            published: self.metrics.spool.drained.get(),
            left: status.frames,
            dead_lettered: self.metrics.spool.dead_lettered.get(),
            dead_letters: letters.frames,
            dead_letter_files: letters.segments_set_aside + self.foreign_dead_letters.len() as u64,
            damaged_stretches: status.damaged_stretches,
            set_aside: status.segments_set_aside,
            foreign: self.foreign.clone(),
        }
    }

    /// Publishes until nothing is left, a signal comes, or nothing was published for as long as `patience`. Shows the
    /// progress several times a second.
    ///
    /// # Errors
    /// If a runtime or a signal handler cannot be had.
    pub fn run(
        self,
        shutdown: &Shutdown,
        patience: Option<Duration>,
        mut show: impl FnMut(&Progress),
    ) -> Result<(Ending, Progress), AppError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| AppError::System("runtime", error))?;
        let ending = runtime.block_on(async {
            let signals = Signals::take_over().map_err(|error| AppError::System("signal handler", error))?;
            // Signals are heard until the very end, so this task is never waited for.
            TaskTracker::new().spawn(signals.forward_to(shutdown.clone()));
            Ok(self.watch(shutdown, patience, &mut show).await)
        })?;
        let flush = if ending == Ending::Empty { Duration::ZERO } else { FLUSH };
        self.delivery.stop(flush, || shutdown.is_urgent());
        self.settle(ending);
        runtime.shutdown_background();
        let progress = self.progress();
        // The last acknowledgements may have come while it was stopping.
        Ok((if self.messages.status().is_empty() { Ending::Empty } else { ending }, progress))
    }

    async fn watch(&self, shutdown: &Shutdown, patience: Option<Duration>, show: &mut impl FnMut(&Progress)) -> Ending {
        let mut last: Option<(u64, Instant)> = None;
        while !self.messages.status().is_empty() {
            let progress = self.progress();
            show(&progress);
            let (now, done) = (self.clock.monotonic(), progress.published + progress.dead_lettered);
            let since = last.filter(|(before, _)| *before == done).map_or(now, |(_, since)| since);
            last = Some((done, since));
            if let Some(patience) = patience.filter(|patience| now.saturating_duration_since(since) >= *patience) {
                return Ending::GivenUp(patience);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.requested() => return Ending::Asked,
            }
        }
        show(&self.progress());
        Ending::Empty
    }

    /// Gives the threads of the delivery time to write the watermark and to take away what was published. Without
    /// that nothing is lost, but some of it would be published again.
    fn settle(&self, ending: Ending) {
        let deadline = self.clock.monotonic() + SETTLE;
        while self.clock.monotonic() < deadline {
            let status = self.messages.status();
            let is_persisted = status.watermark_persisted >= status.watermark;
            if is_persisted && (ending != Ending::Empty || status.segments == 0) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}
