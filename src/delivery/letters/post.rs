//! Sends some dead letters and waits for what becomes of them.
//!
//! The producer is one of its own. It promises nothing beyond what its reports say: a letter without one may be in the
//! topic or not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::link::client_error;
use crate::kafka::{Failure, Observer, Producer, Report, SendError, Statistics, Trouble};
use crate::message::Message;
use crate::metrics::Metrics;

/// How often a waiting thread looks at the time and at the end.
const SLICE: Duration = Duration::from_millis(200);

/// What became of a letter.
pub(super) type Outcome = Result<(), Failure>;

/// Where the reports of one producer come in.
pub(super) struct Reports {
    arrived: Mutex<Arrived>,
    bell: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Arrived {
    /// Outcomes by token, which is the place in the batch.
    outcomes: Vec<(u64, Outcome)>,
    is_dead: bool,
}

impl Reports {
    pub(super) fn counted_by(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { arrived: Mutex::default(), bell: Condvar::new(), metrics: Arc::clone(metrics) })
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Reports {
    fn report(&self, report: Report) {
        self.arrived().outcomes.push((report.token, report.outcome.map(|_| ())));
        self.bell.notify_one();
    }

    fn fatal(&self, _generation: u64) {
        self.arrived().is_dead = true;
        self.bell.notify_one();
    }

    fn trouble(&self, _generation: u64, trouble: Trouble) {
        self.metrics.credentials.error(client_error(trouble));
    }

    fn unreachable(&self, _generation: u64) {}

    fn statistics(&self, _generation: u64, _statistics: &Statistics) {}
}

/// A producer, and where its reports come in.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) producer: Arc<dyn Producer>,
    pub(super) reports: Arc<Reports>,
    /// What it logs in with; see `Producers::revision`.
    pub(super) revision: u64,
}

/// What is known of a batch.
pub(super) struct Sent {
    /// By place in the batch; `None` is a letter that was not sent, or has no report.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// The producer is of no more use.
    pub(super) is_dead: bool,
}

impl Post {
    /// Sends the messages and waits until each has its report, the producer is dead, or `goes_on` says no, which is
    /// asked with the time since the last report.
    pub(super) fn send(&self, messages: &[&Message], mut goes_on: impl FnMut(Duration) -> bool) -> Sent {
        let mut outcomes = vec![None; messages.len()];
        let (mut awaited, mut is_dead) = (0, false);
        for (place, (token, message)) in outcomes.iter_mut().zip((0..).zip(messages)) {
            match self.producer.send(token, message) {
                Ok(()) => awaited += 1,
                // The rest goes with a later batch.
                Err(SendError::QueueFull) => break,
                Err(SendError::Refused(failure)) => {
                    *place = Some(Err(failure));
                    break;
                }
                Err(SendError::Fatal) => {
                    is_dead = true;
                    break;
                }
            }
        }
        let mut silence = Duration::ZERO;
        let mut arrived = self.reports.arrived();
        arrived.is_dead |= is_dead;
        while awaited > 0 {
            let nothing_new = arrived.outcomes.is_empty();
            for (token, outcome) in std::mem::take(&mut arrived.outcomes) {
                let place = usize::try_from(token).ok().and_then(|place| outcomes.get_mut(place));
                if let Some(place) = place.filter(|place| place.is_none()) {
                    *place = Some(outcome);
                    awaited -= 1;
                }
            }
            if awaited == 0 {
                break;
            }
            if !nothing_new {
                silence = Duration::ZERO;
                continue;
            }
            // A dead producer's reports come at once, if they come.
            if arrived.is_dead && silence > Duration::ZERO {
                break;
            }
            let waited = self.reports.bell.wait_timeout(arrived, SLICE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            arrived = guard;
            silence += if timeout.timed_out() { SLICE } else { Duration::ZERO };
            if !goes_on(silence) {
                break;
            }
        }
        is_dead |= arrived.is_dead;
        Sent { outcomes, is_dead }
    }
}
