//! The threads that watch over the producer: one heals it, one finds out whether Kafka could take a message.
//!
//! Both stop with the delivery. Neither is on the way of a callback, so both may wait for the network.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::Shared;
use crate::kafka::{Producer, StartError};
use crate::metrics::RebuildReason;

/// How often the watchdog looks, and how long the healer waits after a rebuild before it makes another.
const HEAL_INTERVAL: Duration = Duration::from_secs(1);
/// How often readiness is decided.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe waits for a broker.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

pub(super) fn start(shared: &Arc<Shared>) -> Result<(), StartError> {
    spawn("producer-healer", shared, heal)?;
    spawn("producer-probe", shared, probe)
}

/// Closes a producer on a thread of its own, since that may take as long as a dead name server likes.
pub(super) fn reap(producer: Arc<dyn Producer>) {
    let reaper = thread::Builder::new().name("producer-reaper".to_owned()).spawn(move || producer.close());
    if let Err(error) = reaper {
        tracing::error!(%error, "no thread to close the old producer on");
    }
}

fn spawn(name: &str, shared: &Arc<Shared>, work: fn(&Arc<Shared>)) -> Result<(), StartError> {
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
    thread.map(drop).map_err(|error| StartError::new(format!("the thread {name} cannot be started: {error}")))
}

fn heal(shared: &Arc<Shared>) {
    while wait(shared, HEAL_INTERVAL, |gate_dead| gate_dead) {
        let Some(reason) = needs_healing(shared) else { continue };
        if let Err(error) = shared.replace(reason) {
            tracing::error!(%error, "no new producer could be made; trying again");
        }
        // A producer that dies at once again must not become a busy loop.
        if !wait(shared, HEAL_INTERVAL, |_| false) {
            return;
        }
    }
}

fn needs_healing(shared: &Shared) -> Option<RebuildReason> {
    let now = shared.clock.monotonic();
    let gate = shared.gate();
    if gate.dead {
        return Some(RebuildReason::Fatal);
    }
    let waiting_since = gate.outstanding.oldest()?.max(gate.last_progress);
    (now.saturating_duration_since(waiting_since) > shared.config.watchdog).then_some(RebuildReason::Watchdog)
}

fn probe(shared: &Arc<Shared>) {
    let mut was_ready = None;
    loop {
        let ready = judge(shared);
        let reason = ready.as_ref().err().cloned().unwrap_or_default();
        if was_ready != Some(ready.is_ok()) {
            was_ready = Some(ready.is_ok());
            if ready.is_ok() {
                tracing::info!("Kafka takes events");
            } else {
                tracing::warn!(reason, "Kafka does not take events: callbacks are refused, and the sender keeps them");
            }
        }
        shared.ready.store(ready.is_ok(), Ordering::Release);
        if !wait(shared, PROBE_INTERVAL, |_| false) {
            shared.ready.store(false, Ordering::Release);
            return;
        }
    }
}

/// Ready means that an acknowledgement could be had now. The brokers are asked for the topic and its leaders; messages
/// that have waited beyond the deadline are proof to the contrary, whatever the brokers say.
fn judge(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.monotonic();
    let (producer, overdue) = {
        let gate = shared.gate();
        if gate.dead {
            return Err("the producer met a fatal error and is being replaced".to_owned());
        }
        let oldest = gate.outstanding.oldest();
        let overdue = oldest.is_some_and(|sent| now.saturating_duration_since(sent) > shared.config.ack_deadline);
        (Arc::clone(&gate.producer), overdue)
    };
    if overdue {
        return Err("messages wait for their acknowledgement beyond the deadline".to_owned());
    }
    producer.probe(PROBE_DEADLINE).map_err(|error| error.to_string())
}

/// Waits until `interval` has passed, or until `wakes` says so of a dead producer; `false` when the delivery stops.
fn wait(shared: &Shared, interval: Duration, wakes: fn(bool) -> bool) -> bool {
    let gate = shared.gate();
    let (gate, _) = shared
        .alarm
        .wait_timeout_while(gate, interval, |gate| !gate.stopping && !wakes(gate.dead))
        .unwrap_or_else(PoisonError::into_inner);
    !gate.stopping
}
