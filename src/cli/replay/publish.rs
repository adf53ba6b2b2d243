//! The publishing of a replay: a producer with the settings of the bridge, a bounded number of messages on their way, and
//! nothing said to be replayed before Kafka has acknowledged it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{Clock as _, SystemClock};
use crate::kafka::{
    Failure, LibrdkafkaProducers, Observer, Producer, Producers as _, Purpose, Report, SendError, Statistics, Trouble,
};
use crate::message::Message;

/// Messages on their way at once.
const IN_FLIGHT_MAX: u64 = 1000;
/// How long to wait while a queue is full, before looking again.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of the messages.
#[derive(Debug, Default)]
struct Outcomes {
    acknowledged: u64,
    failed: Option<Failure>,
    reported: u64,
    fatal: bool,
}

#[derive(Default)]
struct Reports {
    outcomes: Mutex<Outcomes>,
    changed: Condvar,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Outcomes)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Observer for Reports {
    fn report(&self, report: Report) {
        self.change(|outcomes| {
            outcomes.reported += 1;
            match report.outcome {
                Ok(_) => outcomes.acknowledged += 1,
                Err(failure) => outcomes.failed = Some(failure),
            }
        });
    }

    fn fatal(&self, _: u64) {
        self.change(|outcomes| outcomes.fatal = true);
    }

    // What stands between us and a broker is logged where it is found.
    fn trouble(&self, _: u64, _: Trouble) {}
    fn unreachable(&self, _: u64) {}
    fn statistics(&self, _: u64, _: &Statistics) {}
}

/// Publishes messages.
pub(super) struct Publisher {
    producer: Arc<dyn Producer>,
    reports: Arc<Reports>,
    sent: u64,
    patience: Duration,
    begun: Instant,
    /// Messages a second, if there is a limit.
    rate: Option<u32>,
}

impl Publisher {
    /// To the topic of `config`; gives up when nothing is acknowledged for as long as `patience`.
    pub(super) fn start(config: &crate::kafka::Config, rate: Option<u32>, patience: Duration) -> Result<Self, String> {
        let reports = Arc::new(Reports::default());
        let observer: Arc<dyn Observer> = Arc::<Reports>::clone(&reports);
        let producers = LibrdkafkaProducers::new(config).map_err(|error| error.to_string())?;
        let producer = producers.start(0, Purpose::Throughput, observer).map_err(|error| error.to_string())?;
        Ok(Self { producer, reports, sent: 0, patience, begun: SystemClock.monotonic(), rate })
    }

    /// Hands a message over, when its turn has come and there is room.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), String> {
        if let Some(rate) = self.rate {
            let turn = self.begun + Duration::from_nanos(self.sent.saturating_mul(1_000_000_000 / u64::from(rate)));
            std::thread::sleep(turn.saturating_duration_since(SystemClock.monotonic()));
        }
        self.wait_for(self.sent.saturating_sub(IN_FLIGHT_MAX - 1))?;
        let deadline = SystemClock.monotonic() + self.patience;
        loop {
            match self.producer.send(self.sent, message) {
                Ok(()) => break,
                Err(SendError::QueueFull) if SystemClock.monotonic() < deadline => std::thread::sleep(PAUSE),
                Err(SendError::QueueFull) => return Err("the queue of the producer stays full".to_owned()),
                Err(SendError::Fatal) => return Err("the producer has met a fatal error".to_owned()),
                Err(SendError::Refused(failure)) => {
                    return Err(format!("Kafka refuses a message: {}", failure.label()));
                }
            }
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits until everything is acknowledged, and says how much is in any case.
    pub(super) fn finish(self) -> (u64, Result<(), String>) {
        let ended = self.wait_for(self.sent);
        let acknowledged = self.acknowledged();
        self.producer.close();
        (acknowledged, ended)
    }

    /// How many messages Kafka has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.reports.lock().acknowledged
    }

    /// Waits until so many messages have their report.
    fn wait_for(&self, reported: u64) -> Result<(), String> {
        let mut outcomes = self.reports.lock();
        loop {
            // The first failure ends it: what follows in the same stream must not pass what has failed.
            if let Some(failure) = outcomes.failed {
                return Err(format!("Kafka did not take a message: {}", failure.label()));
            }
            if outcomes.fatal {
                return Err("the producer has met a fatal error".to_owned());
            }
            if outcomes.reported >= reported {
                return Ok(());
            }
            let before = outcomes.reported;
            let (after, waited) =
                self.reports.changed.wait_timeout(outcomes, self.patience).unwrap_or_else(PoisonError::into_inner);
            outcomes = after;
            if waited.timed_out() && outcomes.reported == before {
                return Err(format!("nothing was acknowledged for {} s", self.patience.as_secs()));
            }
        }
    }
}
