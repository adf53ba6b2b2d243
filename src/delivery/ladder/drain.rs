//! The drain: frames of the spool to Kafka, and the trial of those that Kafka may be refusing for good.
//!
//! It promises that a frame is convicted only after it was refused on a producer that held nothing else, that a
//! convicted frame is done only when it is safe among the dead letters, and that a producer is replaced only when it
//! is dead, owes an acknowledgement for too long, or logs in with what does not count any more.

use super::lane::Next;
use super::protocol::{
    Alert, Attempt, Cause, Command, Failure, Generation, Lane, Outcome, SendRefusal, Sequence, Time,
};
use super::{Ladder, Phase};

/// Fatal ends in a row after which the first frame of each lane is put on trial, in case the refusal that killed
/// them was never reported.
const DEATHS_BEFORE_SUSPICION: u32 = 2;

impl Ladder {
    /// The convicted frame is fsynced among the dead letters, or could not be written there.
    pub fn dead_lettered(
        &mut self,
        (sequence, lane): (Sequence, Lane),
        success: bool,
        now: Time,
        commands: &mut Vec<Command>,
    ) {
        let backoff = self.settings.backoff;
        let index = self.lane_index(lane);
        let Some(owner) = self.backlog.lane(index) else { return };
        if success {
            if owner.set_aside(sequence) {
                commands.push(Command::Release(sequence));
            }
            self.offer(lane);
        } else {
            // Losing nothing wins: the frame stays, and holds its lane back.
            owner.postpone(now, backoff);
            self.alert(Alert::DeadLettersBlocked, commands);
        }
        self.turn(now, commands);
    }

    pub(super) fn next_drain_send(&mut self, now: Time) -> Option<Attempt> {
        if !self.may_publish(now) || self.drain_full {
            return None;
        }
        let generation = self.drain.ready()?;
        while let Some(index) = self.sendable.front().copied() {
            if let Some(lane) = self.backlog.lane(index) {
                if let Next::Frame(sequence) = lane.next(now, Some(generation)) {
                    lane.hand_over(generation, now);
                    self.drain.handed(now);
                    return Some(attempt(generation, sequence, index));
                }
                lane.queued = false;
            }
            self.sendable.pop_front();
        }
        None
    }

    /// One suspect at a time, lane after lane. The producer holds nothing else, so its refusal means this frame.
    pub(super) fn next_trial_send(&mut self, now: Time) -> Option<Attempt> {
        if !self.may_publish(now) || self.trial.outstanding() > 0 {
            return None;
        }
        let generation = self.trial.ready()?;
        let lanes = self.backlog.lanes.len();
        for turn in 0..lanes {
            let index = (self.trial_turn + turn) % lanes;
            if let Some(lane) = self.backlog.lane(index)
                && let Next::Suspect(sequence) = lane.next(now, None)
            {
                lane.hand_over(generation, now);
                self.trial.handed(now);
                self.trial_turn = index + 1;
                return Some(attempt(generation, sequence, index));
            }
        }
        None
    }

    pub(super) fn drain_send_refused(
        &mut self,
        attempt: Attempt,
        why: SendRefusal,
        now: Time,
        commands: &mut Vec<Command>,
    ) {
        if !self.is_draining_by(attempt.generation) {
            return;
        }
        match why {
            SendRefusal::QueueFull | SendRefusal::Fatal => {
                let index = self.lane_index(attempt.lane);
                if let Some(lane) = self.backlog.lane(index) {
                    lane.take_back(attempt.sequence);
                }
                let slot = if self.is_trial(attempt.generation) { &mut self.trial } else { &mut self.drain };
                slot.failed();
                if why == SendRefusal::Fatal {
                    slot.die(now);
                } else {
                    self.drain_full = true;
                }
            }
            SendRefusal::Convicting => {
                self.drain_report(attempt, Outcome::Failed(Failure::Convicting), now, commands);
            }
            SendRefusal::Ours => self.drain_report(attempt, Outcome::Failed(Failure::Ours), now, commands),
        }
    }

    pub(super) fn drain_report(&mut self, attempt: Attempt, outcome: Outcome, now: Time, commands: &mut Vec<Command>) {
        if !self.is_draining_by(attempt.generation) {
            return;
        }
        let trial = self.is_trial(attempt.generation);
        let backoff = self.settings.backoff;
        let index = self.lane_index(attempt.lane);
        let Some(lane) = self.backlog.lane(index) else { return };
        let suspect = outcome == Outcome::Failed(Failure::Convicting);
        let counted = match outcome {
            Outcome::Delivered => lane.delivered(attempt.sequence, now),
            Outcome::Failed(_) => lane.failed(attempt.sequence, suspect, now, backoff),
        };
        if !counted {
            return;
        }
        let slot = if trial { &mut self.trial } else { &mut self.drain };
        match outcome {
            Outcome::Delivered => {
                slot.acknowledged(now);
                self.acknowledged_by_drain();
                commands.push(Command::Release(attempt.sequence));
            }
            Outcome::Failed(failure) => {
                slot.failed();
                if failure == Failure::Fatal {
                    slot.die(now);
                }
                self.judge(failure, commands);
                if suspect && trial {
                    self.convict(attempt.sequence, index, now, commands);
                }
            }
        }
        self.drain_full = false;
        self.offer(attempt.lane);
    }

    /// Producers that are dead, silent or unneeded; frames that wait for the dead letters; lanes that may go on.
    pub(super) fn tick_drain(&mut self, now: Time, commands: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Direct | Phase::Stopped) {
            return;
        }
        self.drain_full = false;
        for index in 0..self.backlog.lanes.len() {
            let Some(lane) = self.backlog.lane(index) else { continue };
            if let Some(sequence) = lane.take_condemned(now) {
                commands.push(Command::DeadLetter(sequence, lane_of(index)));
            }
            self.offer(lane_of(index));
        }
        if self.drain.overdue(now, self.settings.watchdog)
            || self.backlog.is_overdue(now, self.settings.report_patience)
        {
            self.lose_drain(Cause::Watchdog, now, commands);
        }
        if self.trial.overdue(now, self.settings.watchdog) {
            self.lose_trial(Cause::Watchdog, now, commands);
        }
    }

    /// Starts and retires producers, and reads on.
    pub(super) fn turn_drain(&mut self, now: Time, commands: &mut Vec<Command>) {
        let grace = self.settings.fatal_grace;
        if self.drain.finished_dying(now, grace) {
            self.lose_drain(Cause::Fatal, now, commands);
        }
        if self.trial.finished_dying(now, grace) {
            self.lose_trial(Cause::Fatal, now, commands);
        }
        if self.closing.is_some() || self.backlog.is_empty() {
            return;
        }
        self.drain.want(now, &mut self.generations, commands);
        if self.backlog.has_suspects() {
            self.trial.want(now, &mut self.generations, commands);
        } else if self.trial.outstanding() == 0 {
            self.trial.retire(commands);
        }
        if self.drain.ready().is_some() {
            self.backlog.read(now, &self.settings, commands);
        }
    }

    /// Puts a lane into the queue of those that may have something to hand over.
    pub(super) fn offer(&mut self, lane: Lane) {
        let index = self.lane_index(lane);
        if let Some(owner) = self.backlog.lane(index)
            && !std::mem::replace(&mut owner.queued, true)
        {
            self.sendable.push_back(index);
        }
    }

    /// Kafka refused the frame although it was alone.
    fn convict(&mut self, sequence: Sequence, index: usize, now: Time, commands: &mut Vec<Command>) {
        self.convictions = self.convictions.saturating_add(1);
        if self.convictions >= self.settings.convictions_max {
            // So many in a row: it is not the messages. The lane's backoff has begun; nothing is set aside.
            self.alert(Alert::TopicRefuses, commands);
        } else if let Some(lane) = self.backlog.lane(index) {
            lane.condemn(sequence);
            commands.extend(lane.take_condemned(now).map(|sequence| Command::DeadLetter(sequence, lane_of(index))));
        }
    }

    fn acknowledged_by_drain(&mut self) {
        self.convictions = 0;
        self.drained_some = true;
        self.backlog.prove(true);
        self.alerts.clear();
        self.unreachable_until = Time::ZERO;
    }

    pub(super) fn lose_drain(&mut self, cause: Cause, now: Time, commands: &mut Vec<Command>) {
        let suspicious = cause == Cause::Fatal && self.drain.deaths() >= DEATHS_BEFORE_SUSPICION;
        if let Some(generation) = self.drain.reporting() {
            self.backlog.abandon(generation, suspicious);
        }
        self.backlog.prove(false);
        self.drain.lose(cause, now, self.settings.backoff, commands);
    }

    pub(super) fn lose_trial(&mut self, cause: Cause, now: Time, commands: &mut Vec<Command>) {
        if let Some(generation) = self.trial.reporting() {
            self.backlog.abandon(generation, false);
        }
        self.trial.lose(cause, now, self.settings.backoff, commands);
    }

    fn may_publish(&self, now: Time) -> bool {
        matches!(self.phase, Phase::Behind | Phase::Handover(_)) && !self.flushed(now)
    }

    fn is_trial(&self, generation: Generation) -> bool {
        self.trial.reporting() == Some(generation)
    }

    fn is_draining_by(&self, generation: Generation) -> bool {
        self.drain.reporting() == Some(generation) || self.is_trial(generation)
    }

    fn lane_index(&self, lane: Lane) -> usize {
        usize::from(lane.0) % self.backlog.lanes.len().max(1)
    }
}

fn attempt(generation: Generation, sequence: Sequence, index: usize) -> Attempt {
    Attempt { generation, sequence, lane: lane_of(index) }
}

fn lane_of(index: usize) -> Lane {
    Lane(u16::try_from(index).unwrap_or(u16::MAX))
}
