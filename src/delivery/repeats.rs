//! Repeats at the gate: a message meets the window before it is numbered, and its outcome settles its claim.
//!
//! The claim travels with the held message and is settled where the outcome is known, whether or not anybody still
//! waits for it: a request deadline ends the waiting, not the delivery. An entry in flight is believed only while its
//! message is held; whoever joins it waits with the message, and is answered or let go with it.

use std::time::Duration;

use tokio::sync::oneshot;

use super::gate::{Gate, Shared};
use super::held::Held;
use super::window::{Recalled, Stretch};
use super::{DeliveryError, Proof, Receipt};
use crate::message::Identity;

/// Where an outcome is handed over.
pub(super) type Waiter = oneshot::Sender<Result<Receipt, DeliveryError>>;

/// Expired entries that one look at the metrics gives up: few enough to keep the gate free.
const SWEPT_PER_LOOK: usize = 8192;

/// What becomes of a message that arrives.
pub(super) enum Arrival {
    /// It is safe already.
    Settled(Receipt),
    /// Its outcome comes here.
    Waits(oneshot::Receiver<Result<Receipt, DeliveryError>>),
}

/// How a message that arrives relates to what is known.
pub(super) enum Meeting {
    /// It is to be published. If another version of its event is known: the facts of that.
    Fresh(Waiter, Option<u128>),
    /// It waits for the outcome of the same message.
    Joined,
    /// It is safe already.
    Settled(Receipt),
}

impl Gate {
    /// Compares a message that arrives with what is known.
    pub(super) fn meet(&mut self, identity: Option<Identity>, waiter: Waiter, now: Duration) -> Meeting {
        let recalled = identity.map_or(Recalled::Unknown, |identity| self.window.recall(identity, now));
        match recalled {
            Recalled::Unknown => Meeting::Fresh(waiter, None),
            Recalled::Conflict(facts) => Meeting::Fresh(waiter, Some(facts)),
            Recalled::Safe(proof) => Meeting::Settled(Receipt::of_repeat(proof)),
            Recalled::InFlight(claim) => {
                if let Some(held) = self.holding.get_mut(claim.sequence()) {
                    held.joined.push(waiter);
                    return Meeting::Joined;
                }
                // Its message was given up without an outcome.
                self.window.settle(claim, None, now);
                self.meet(identity, waiter, now)
            }
        }
    }
}

impl Shared {
    /// Hands over the outcome of a message and settles its claim. `false` if it is safe, and its callback was refused
    /// for taking too long.
    pub(super) fn conclude(gate: &mut Gate, held: Held, outcome: Result<Proof, DeliveryError>, now: Duration) -> bool {
        if let Some(claim) = held.claim {
            gate.window.settle(claim, outcome.ok(), now);
        }
        for joined in held.joined {
            // Whoever has left was answered at the request deadline.
            drop(joined.send(outcome.map(Receipt::of_repeat)));
        }
        !matches!(held.waiter.send(outcome.map(Receipt::of)), Err(Ok(_)))
    }

    /// Frames in these stretches cannot be read: what rests on them is not safe any more, and a repeat of it has to be
    /// published again.
    pub(super) fn forget(&self, stretches: &[Stretch]) {
        if stretches.is_empty() {
            return;
        }
        let forgotten = self.gate().window.forget(stretches);
        if forgotten > 0 {
            tracing::warn!(
                events = forgotten,
                "repeats of events that rest on doubtful frames will be published again"
            );
        }
    }

    /// A write to the spool failed. The segment that it hit may have lost what was synced before, until it has been
    /// written anew, so nobody can vouch for what rests on the spool.
    pub(super) fn doubt_spool(&self) {
        self.forget(&[Stretch { after: 0, before: None }]);
    }

    /// Brings the gauges of the window up to date.
    pub(super) fn observe_repeats(&self) {
        let now = self.now();
        let mut gate = self.gate();
        gate.window.sweep(now, SWEPT_PER_LOOK);
        let (entries, covered) = (gate.window.len(), gate.window.covered(now));
        drop(gate);
        self.metrics.repeats.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.metrics.repeats.covered_seconds.set(i64::try_from(covered.as_secs()).unwrap_or(i64::MAX));
    }
}
