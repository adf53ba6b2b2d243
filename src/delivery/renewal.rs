//! The thread that keeps producers in step with the files they log in with.
//!
//! A producer goes on with what it was made of, and its connections live on until a broker closes them: only a new one
//! uses new contents. It is made when that cannot make things worse: at once while brokers refuse the login as it is, and
//! otherwise as soon as a client of its own has shown that a broker accepts the new contents. Until then every producer,
//! whyever it is made, is made of the old ones. So a file that is changed before the brokers
//! are, or that is wrong, interrupts nothing; it is said once, and shown by a metric as long as it lasts.
//!
//! It looks every few seconds, since mounted secrets change in ways that file watching sees differently everywhere.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::gate::{Gate, Grounds, Shared};
use super::link::client_error;
use super::workers::reap;
use crate::kafka::{Look, Observer, ProbeError, Report, Statistics, Trouble};
use crate::metrics::{CredentialState, Metrics};

/// How often the files are looked at, and refused contents are tried again.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a broker may take to accept a login.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn keep_fresh(shared: &Arc<Shared>) {
    let mut renewal = Renewal { in_use: shared.producers.revision(), ..Renewal::default() };
    while wait(shared) {
        renewal.turn(shared);
    }
}

/// Waits until it is time to look again; `false` when the delivery has ended.
fn wait(shared: &Shared) -> bool {
    let nothing_asked = |gate: &mut Gate| !gate.is_look_asked && !gate.is_finished;
    let waited = shared.renewer.wait_timeout_while(shared.gate(), INTERVAL, nothing_asked);
    let mut gate = waited.unwrap_or_else(PoisonError::into_inner).0;
    gate.is_look_asked = false;
    !gate.is_finished
}

#[derive(Default)]
struct Renewal {
    /// The contents that producers are made of, or are being replaced to be.
    in_use: u64,
    /// The newest contents that were spoken of.
    seen: u64,
    /// Why the files cannot be used, if it was said.
    fault: Option<String>,
    /// The newest contents are refused, and that was said.
    is_refused: bool,
}

impl Renewal {
    fn turn(&mut self, shared: &Arc<Shared>) {
        let metrics = &shared.metrics.credentials;
        let revision = match shared.producers.look() {
            Look::Usable(revision) => revision,
            Look::Unusable(fault) => {
                metrics.state(CredentialState::Unusable);
                if self.fault.as_ref() != Some(&fault) {
                    metrics.changed(false);
                    tracing::error!(%fault, "a file of Kafka's login or TLS cannot be used: what it held before stays in use");
                    self.fault = Some(fault);
                }
                return;
            }
        };
        if self.fault.take().is_some() && revision == self.in_use {
            tracing::info!("the files of Kafka's login and TLS can be used again");
        }
        if revision == self.in_use {
            metrics.state(CredentialState::Current);
            return;
        }
        if revision != self.seen {
            self.seen = revision;
            self.is_refused = false;
            tracing::info!("the files of Kafka's login or TLS have changed");
        }
        let is_down = !shared.kafka_ready.load(Ordering::Acquire);
        // A login that is refused as it is cannot be made worse. Everything else that keeps Kafka away says nothing of it.
        let is_hopeless = is_down && shared.trouble().is_some_and(Trouble::is_refusal);
        match if is_hopeless { Ok(()) } else { prove(shared) } {
            Ok(()) => {
                shared.producers.take(revision);
                self.in_use = revision;
                metrics.changed(true);
                metrics.state(CredentialState::Current);
                tracing::info!(tried_first = !is_hopeless, "new producers log in with what the files hold now");
                shared.input(Grounds::None, |ladder, now, commands| {
                    ladder.credentials_changed(is_down, now, commands);
                });
            }
            Err(reason) => {
                metrics.state(CredentialState::Refused);
                // Nobody is there who could have refused them.
                if is_down {
                    tracing::debug!(
                        reason,
                        "the new contents of the files of Kafka's login and TLS could not be tried"
                    );
                } else if !std::mem::replace(&mut self.is_refused, true) {
                    tracing::error!(
                        reason,
                        "the brokers do not accept what the files of Kafka's login and TLS hold now: the producer goes on \
                         with what they held before, and the new contents are tried again and again"
                    );
                }
            }
        }
    }
}

/// Has a client of its own log in with the newest contents and look at the topic.
fn prove(shared: &Arc<Shared>) -> Result<(), String> {
    let witness = Arc::new(Witness(Arc::clone(&shared.metrics)));
    let client = shared.producers.trial(witness).map_err(|error| error.to_string())?;
    let probed = client.probe(PATIENCE);
    reap(client);
    match probed {
        Ok(()) | Err(ProbeError::Leaderless { .. }) => Ok(()),
        // The login in use sees the topic: one that does not would be a step back, even if it is let in.
        Err(error @ (ProbeError::Unreachable(_) | ProbeError::TopicMissing)) => Err(error.to_string()),
    }
}

/// Counts what the client complains of. It is never given a message.
struct Witness(Arc<Metrics>);

impl Observer for Witness {
    fn report(&self, _report: Report) {}

    fn fatal(&self, _generation: u64) {}

    fn trouble(&self, _generation: u64, trouble: Trouble) {
        self.0.credentials.error(client_error(trouble));
    }

    fn unreachable(&self, _generation: u64) {}

    fn statistics(&self, _generation: u64, _statistics: &Statistics) {}
}
