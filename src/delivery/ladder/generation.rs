//! What the client and the shell say about producers, as opposed to messages.
//!
//! It promises that word of a generation touches only the slot that the generation holds; of any other it is ignored.
//! That credentials have changed is word of all of them.

use super::protocol::{Cause, Command, Denial, Generation, Time};
use super::{Ladder, Phase};

impl Ladder {
    /// The client says that `generation` is dead.
    pub fn producer_fatal(&mut self, generation: Generation, now: Time, commands: &mut Vec<Command>) {
        if self.direct.reporting() == Some(generation) {
            self.direct_fault(None, Cause::Fatal, Denial::ProducerLost, now, commands);
        } else if self.drain.ready() == Some(generation) {
            self.drain.die(now);
        } else if self.trial.ready() == Some(generation) {
            self.trial.die(now);
        }
        self.turn(now, commands);
    }

    /// The client says that `generation` reaches no broker. Only the direct producer's word counts: the drain keeps
    /// trying in any case, and is the probe.
    pub fn brokers_unreachable(&mut self, generation: Generation, now: Time, commands: &mut Vec<Command>) {
        if self.direct.ready() == Some(generation) {
            self.unreachable_until = now + self.settings.unreachable_period;
            if self.phase == Phase::Direct && self.spool_takes_frames() {
                self.leave_direct(Cause::Unreachable, now, commands);
            }
        }
        self.turn(now, commands);
    }

    /// What a probe of Kafka found. It ends the word that no broker is there, or prolongs it while there is nothing
    /// to publish that would be the better probe; it never begins it. Optional: an acknowledgement ends that word,
    /// too, and so does time.
    pub fn brokers_probed(&mut self, reachable: bool, now: Time, commands: &mut Vec<Command>) {
        if reachable {
            self.unreachable_until = Time::ZERO;
        } else if now < self.unreachable_until && self.backlog.is_empty() {
            self.unreachable_until = now + self.settings.unreachable_period;
        }
        self.turn(now, commands);
    }

    /// Producers that are made from now on log in otherwise than those that exist, or are being made. `is_down`: Kafka
    /// takes nothing through these. Where it does, and there is no spool for what is on its way, they stay.
    pub fn credentials_changed(&mut self, is_down: bool, now: Time, commands: &mut Vec<Command>) {
        for slot in [&mut self.direct, &mut self.drain, &mut self.trial] {
            slot.hope();
        }
        match self.phase {
            Phase::Direct if self.spool_takes_frames() => self.leave_direct(Cause::Credentials, now, commands),
            Phase::Direct if is_down => self.lose_direct(Cause::Credentials, Denial::ProducerLost, now, commands),
            Phase::Direct | Phase::Stopped => {}
            Phase::Behind | Phase::Handover(_) => {
                if matches!(self.phase, Phase::Handover(_)) {
                    self.give_up_handover(now, commands);
                }
                self.direct.lose(Cause::Credentials, now, self.settings.backoff, commands);
                self.lose_drain(Cause::Credentials, now, commands);
                self.lose_trial(Cause::Credentials, now, commands);
            }
        }
        self.turn(now, commands);
    }

    /// The producer exists. `false` if it is not wanted any more.
    pub fn producer_ready(&mut self, generation: Generation, now: Time, commands: &mut Vec<Command>) -> bool {
        let slots = [&mut self.direct, &mut self.drain, &mut self.trial];
        let is_wanted = slots.into_iter().any(|slot| slot.created(generation));
        self.turn(now, commands);
        is_wanted
    }

    /// The producer could not be created.
    pub fn producer_failed(&mut self, generation: Generation, now: Time, commands: &mut Vec<Command>) {
        for slot in [&mut self.direct, &mut self.drain, &mut self.trial] {
            slot.not_created(generation, now, self.settings.backoff);
        }
        self.turn(now, commands);
    }
}
