//! What a producer reports to. It holds the gate weakly, since the gate holds the producer.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::gate::{Grounds, Shared};
use super::ladder::{self, Generation};
use crate::kafka::{Failure, Observer, Purpose, Report, Statistics, Trouble};
use crate::metrics::{BrokerState, ClientError};

pub(super) struct Link {
    shared: Weak<Shared>,
}

impl Link {
    pub(super) fn to(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared: Arc::downgrade(shared) })
    }
}

impl Observer for Link {
    fn report(&self, report: Report) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Err(failure) = report.outcome {
            shared.metrics.delivery_failed(failure.label());
        }
        shared.report(report.generation, report.token, report.outcome);
    }

    fn fatal(&self, generation: u64) {
        if let Some(shared) = self.shared.upgrade() {
            let generation = Generation(generation);
            shared.input(Grounds::None, |ladder, now, commands| ladder.producer_fatal(generation, now, commands));
        }
    }

    fn trouble(&self, _generation: u64, trouble: Trouble) {
        if let Some(shared) = self.shared.upgrade() {
            shared.metrics.credentials.error(client_error(trouble));
            *shared.trouble() = Some(trouble);
        }
    }

    fn unreachable(&self, generation: u64) {
        if let Some(shared) = self.shared.upgrade() {
            let generation = Generation(generation);
            shared.input(Grounds::None, |ladder, now, commands| {
                ladder.brokers_unreachable(generation, now, commands);
            });
        }
    }

    fn statistics(&self, _generation: u64, statistics: &Statistics) {
        let Some(shared) = self.shared.upgrade() else { return };
        let metrics = &shared.metrics;
        metrics.queue_messages.set(i64::try_from(statistics.queue_messages).unwrap_or(i64::MAX));
        metrics.queue_bytes.set(i64::try_from(statistics.queue_bytes).unwrap_or(i64::MAX));
        metrics.brokers(BrokerState::Up, statistics.brokers_up);
        metrics.brokers(BrokerState::Connecting, statistics.brokers_connecting);
        metrics.brokers(BrokerState::Down, statistics.brokers_down);
    }
}

impl Shared {
    /// Why Kafka does not take events, as far as its clients have said.
    pub(super) fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last probe found.
    pub(super) fn probed(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a trouble is called in metrics.
pub(super) fn client_error(trouble: Trouble) -> ClientError {
    match trouble {
        Trouble::Authentication => ClientError::Authentication,
        Trouble::Tls => ClientError::Tls,
        Trouble::Name => ClientError::Name,
        Trouble::Connection => ClientError::Connection,
        Trouble::Other => ClientError::Other,
    }
}

/// What a failure means for the ladder.
pub(super) fn gravity(failure: Failure) -> ladder::Failure {
    match failure {
        Failure::MessageTooLarge | Failure::InvalidRecord | Failure::UnsupportedForFormat => {
            ladder::Failure::Convicting
        }
        Failure::TimedOut
        | Failure::PurgedQueued
        | Failure::PurgedInFlight
        | Failure::NotEnoughReplicas
        | Failure::Unreachable => ladder::Failure::Transient,
        Failure::InvalidTimestamp | Failure::UnknownTopic | Failure::NotAuthorised | Failure::Other => {
            ladder::Failure::Ours
        }
        // Whoever has lost count of its messages would lose more of them.
        Failure::Fatal | Failure::NoOffset => ladder::Failure::Fatal,
    }
}

/// What a producer of the ladder is, in the words of Kafka.
pub(super) fn purpose(purpose: ladder::Purpose) -> Purpose {
    match purpose {
        ladder::Purpose::Direct | ladder::Purpose::Trial => Purpose::Latency,
        ladder::Purpose::Drain => Purpose::Throughput,
    }
}
