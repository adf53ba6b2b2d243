//! The turns of the ladder: leaving Direct, the spool's answers, the handover back.
//!
//! It promises the two rules of the gate: leaving Direct sends everything unreported to the spool in order of number
//! before anything newer, and the old producer is purged only when all of that is answered; entering Direct needs an
//! empty spool and nothing on its way into it.

use super::protocol::{Alert, Answer, Cause, Command, Denial, FrameHead, Sequence, SpoolFault, Time};
use super::waiting::Place;
use super::{Ladder, Phase, SpoolHealth};

impl Ladder {
    /// Every frame queued up to `through`, and not reported as failed, is fsynced.
    pub fn appended(&mut self, through: Sequence, now: Time, commands: &mut Vec<Command>) {
        self.spool = SpoolHealth::Well;
        let mut numbers = std::mem::take(&mut self.numbers);
        self.waiting.collect(Place::Appending, through, &mut numbers);
        for sequence in numbers.drain(..) {
            self.waiting.settle(sequence);
            commands.push(Command::Answer(sequence, Answer::Spool));
        }
        self.numbers = numbers;
        if self.phase == Phase::Direct {
            // Late word of an append that was given up: those callbacks were refused, and nothing else is in there.
            self.backlog.disown(through);
        } else {
            self.backlog.append(through);
        }
        self.turn(now, commands);
    }

    /// No frame queued up to `through`, and not reported before, is safe.
    pub fn append_failed(&mut self, through: Sequence, fault: SpoolFault, now: Time, commands: &mut Vec<Command>) {
        self.spool_fault(through, fault, now, commands);
        self.turn(now, commands);
    }

    /// The probe of the spool came back.
    pub fn spool_probed(&mut self, result: Result<(), SpoolFault>, now: Time, commands: &mut Vec<Command>) {
        if matches!(self.spool, SpoolHealth::Bad(..)) {
            self.spool = match result {
                Ok(()) => SpoolHealth::Well,
                Err(fault) => SpoolHealth::Bad(fault, Some(now + self.settings.backoff.most)),
            };
        }
        self.turn(now, commands);
    }

    /// Frames after `after`, as asked; none but these exist up to `through`.
    pub fn frames_read(
        &mut self,
        (after, through): (Sequence, Sequence),
        frames: &[FrameHead],
        now: Time,
        commands: &mut Vec<Command>,
    ) {
        if self.backlog.frames_read((after, through), frames, now, &self.settings, commands) {
            for frame in frames {
                self.offer(frame.lane);
            }
        }
        self.turn(now, commands);
    }

    /// The read failed.
    pub fn read_failed(&mut self, after: Sequence, now: Time, commands: &mut Vec<Command>) {
        self.backlog.read_failed(after, now, &self.settings);
        self.alert(Alert::SpoolUnreadable, commands);
        self.turn(now, commands);
    }

    /// The commit succeeded or failed.
    pub fn committed(&mut self, success: bool, now: Time, commands: &mut Vec<Command>) {
        self.backlog.committed(success, now, &self.settings);
        self.turn(now, commands);
    }

    /// Something is wrong with the direct producer. With a spool that takes frames, everything unreported goes
    /// there; without one, the message at fault is refused, and with a dead producer all that it held.
    pub(super) fn direct_fault(
        &mut self,
        sequence: Option<Sequence>,
        cause: Cause,
        denial: Denial,
        now: Time,
        commands: &mut Vec<Command>,
    ) {
        if self.phase != Phase::Direct {
            self.direct.lose(cause, now, self.settings.backoff, commands);
        } else if self.spool_takes_frames() {
            self.leave_direct(cause, now, commands);
        } else {
            if let Some(sequence) = sequence {
                self.deny(sequence, denial, commands);
            }
            if matches!(cause, Cause::Fatal | Cause::Watchdog) {
                self.lose_direct(cause, denial, now, commands);
            }
        }
    }

    /// Gives up the direct producer where nothing can be spooled: all that it held is refused.
    pub(super) fn lose_direct(&mut self, cause: Cause, denial: Denial, now: Time, commands: &mut Vec<Command>) {
        let through = self.last;
        self.deny_all(Place::Sent, through, denial, commands);
        self.deny_all(Place::Parked, through, denial, commands);
        self.direct.lose(cause, now, self.settings.backoff, commands);
    }

    /// Direct → Spooling. The spool takes frames.
    pub(super) fn leave_direct(&mut self, cause: Cause, now: Time, commands: &mut Vec<Command>) {
        self.deny_all(Place::Sent, self.denied_through, Denial::KafkaRefused, commands);
        let before = self.waiting.oldest().map_or(self.last, |(first, ..)| Sequence(first.0 - 1));
        self.backlog.skip_to(before);
        self.phase = Phase::Behind;
        self.drained_some = false;
        self.backlog.prove(false);
        self.tell(cause, commands);
        self.append_all(Place::Sent, now, commands);
        self.append_all(Place::Parked, now, commands);
        self.closing = self.direct.detach().map(|generation| (generation, self.last));
        self.direct.postpone(cause, now, self.settings.backoff);
    }

    /// The handover took too long, or something went wrong: what was held goes behind the frames.
    pub(super) fn give_up_handover(&mut self, now: Time, commands: &mut Vec<Command>) {
        self.phase = Phase::Behind;
        self.handover_not_before = now + self.settings.handover_pause;
        self.tell(Cause::Routine, commands);
        match self.spool_denial() {
            None => self.append_all(Place::Parked, now, commands),
            Some(denial) => self.deny_all(Place::Parked, self.last, denial, commands),
        }
    }

    /// Deadlines of messages sent directly.
    pub(super) fn tick_direct(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.phase != Phase::Direct {
            return;
        }
        let late = |since: Time| now >= since + self.settings.ack_deadline;
        if self.spool_takes_frames() {
            if self.waiting.oldest().is_some_and(|(_, _, since)| late(since)) {
                self.leave_direct(Cause::AckDeadline, now, commands);
            }
            return;
        }
        while let Some((sequence, _, since)) = self.waiting.oldest() {
            if now < since + self.settings.ack_deadline {
                break;
            }
            self.deny(sequence, Denial::AckDeadline, commands);
        }
        if self.direct.overdue(now, self.settings.watchdog) {
            self.direct_fault(None, Cause::Watchdog, Denial::ProducerLost, now, commands);
        }
    }

    /// An append that hangs, and the probe of a spool that takes nothing.
    pub(super) fn tick_spool(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.waiting.appending() > 0
            && let Some((_, since)) = self.waiting.first_in(Place::Appending)
            && now >= since + self.settings.append_patience
        {
            self.spool_fault(self.last, SpoolFault::Unhealthy, now, commands);
        }
        if let SpoolHealth::Bad(fault, Some(at)) = self.spool
            && now >= at
        {
            self.spool = SpoolHealth::Bad(fault, None);
            commands.push(Command::ProbeSpool);
        }
    }

    /// What follows from any input: start what is needed, retire what is not, and change state if the time is ripe.
    pub(super) fn turn(&mut self, now: Time, commands: &mut Vec<Command>) {
        if self.phase == Phase::Stopped {
            return;
        }
        let answered = |through| self.waiting.oldest().is_none_or(|(first, ..)| first > through);
        if let Some((generation, _)) = self.closing.filter(|(_, through)| answered(*through)) {
            self.closing = None;
            commands.push(Command::RetireProducer(generation));
        }
        self.backlog.advance();
        self.backlog.commit(self.flush_deadline.is_some(), now, commands);
        if self.phase == Phase::Direct {
            self.direct.want(now, &mut self.generations, commands);
        } else if !self.flushed(now) {
            self.turn_drain(now, commands);
            self.turn_back(now, commands);
        }
        self.turn_stop(now, commands);
        self.tell(Cause::Routine, commands);
    }

    /// The way back: Handover when few frames are left, Direct when none is.
    fn turn_back(&mut self, now: Time, commands: &mut Vec<Command>) {
        let near = self.backlog.span() <= self.settings.handover_frames_max;
        let proven = self.drained_some || self.backlog.is_empty();
        let reachable = now >= self.unreachable_until;
        if near && proven && self.closing.is_none() {
            self.direct.want(now, &mut self.generations, commands);
        }
        let ready = reachable && self.closing.is_none() && self.direct.ready().is_some();
        if ready && self.backlog.is_empty() && self.waiting.appending() == 0 {
            self.enter_direct(commands);
            return;
        }
        let promising = ready && near && self.spool_takes_frames() && self.backlog.is_well();
        match self.phase {
            Phase::Handover(until) if !promising || now >= until => self.give_up_handover(now, commands),
            Phase::Behind if promising && proven && self.flush_deadline.is_none() => {
                if now >= self.handover_not_before && self.drain.ready().is_some() {
                    self.phase = Phase::Handover(now + self.settings.handover_max);
                }
            }
            Phase::Direct | Phase::Behind | Phase::Handover(_) | Phase::Stopped => {}
        }
    }

    /// Draining → Direct. A producer of its own begins: everything older is acknowledged, so it keeps the rule of
    /// the prefix. What was held at the gate is sent first, by `next_send`.
    fn enter_direct(&mut self, commands: &mut Vec<Command>) {
        self.phase = Phase::Direct;
        self.drain.retire(commands);
        self.trial.retire(commands);
        self.sendable.clear();
        for lane in &mut self.backlog.lanes {
            lane.queued = false;
        }
        self.tell(Cause::Routine, commands);
    }

    fn spool_fault(&mut self, through: Sequence, fault: SpoolFault, now: Time, commands: &mut Vec<Command>) {
        let (alert, denial) = match fault {
            SpoolFault::Full => (Alert::SpoolFull, Denial::SpoolFull),
            SpoolFault::Unhealthy => (Alert::SpoolUnhealthy, Denial::SpoolUnhealthy),
        };
        self.deny_all(Place::Appending, through, denial, commands);
        if !matches!(self.spool, SpoolHealth::Bad(..)) {
            self.spool = SpoolHealth::Bad(fault, Some(now + self.settings.backoff.least));
        }
        self.alert(alert, commands);
    }

    fn append_all(&mut self, place: Place, now: Time, commands: &mut Vec<Command>) {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.waiting.collect(place, self.last, &mut numbers);
        for sequence in numbers.drain(..) {
            self.waiting.relocate(sequence, Place::Appending, now);
            commands.push(Command::Append(sequence));
        }
        self.numbers = numbers;
    }

    pub(super) fn deny_all(&mut self, place: Place, through: Sequence, denial: Denial, commands: &mut Vec<Command>) {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.waiting.collect(place, through, &mut numbers);
        for sequence in numbers.drain(..) {
            self.deny(sequence, denial, commands);
        }
        self.numbers = numbers;
    }

    /// Tells the shell about a new state, once.
    pub(super) fn tell(&mut self, cause: Cause, commands: &mut Vec<Command>) {
        let state = self.state();
        if state != self.told {
            self.told = state;
            commands.push(Command::Moved(state, cause));
        }
    }

    /// Whether the time for sending has passed because the process is stopping.
    pub(super) fn flushed(&self, now: Time) -> bool {
        self.flush_deadline.is_some_and(|deadline| now >= deadline)
    }
}
