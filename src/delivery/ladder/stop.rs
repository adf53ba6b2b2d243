//! Stopping: flush until a deadline, give the rest to the spool, leave.
//!
//! It promises `Finished` exactly once, when every callback is answered and the spool has been told what is done. It
//! does not wait for a producer to be dropped, for the spool to be drained beyond the deadline, or for a disk that hangs.

use super::protocol::{Cause, Command, Denial, Time};
use super::waiting::Place;
use super::{Ladder, Phase};

impl Ladder {
    /// The process is stopping: no new message, and whatever has no report at `flush_deadline` goes to the spool.
    /// A second call may bring the deadline forward.
    pub fn stop(&mut self, flush_deadline: Time, now: Time, commands: &mut Vec<Command>) {
        self.flush_deadline = Some(self.flush_deadline.map_or(flush_deadline, |old| old.min(flush_deadline)));
        if matches!(self.phase, Phase::Handover(_)) {
            self.give_up_handover(now, commands);
        }
        self.tick_stop(now, commands);
        self.turn(now, commands);
    }

    /// At the flush deadline: the spool, or nothing.
    pub(super) fn tick_stop(&mut self, now: Time, commands: &mut Vec<Command>) {
        if !self.flushed(now) || self.phase != Phase::Direct {
            return;
        }
        if self.spool_takes_frames() {
            self.leave_direct(Cause::Stopping, now, commands);
        } else {
            self.deny_all(Place::Sent, self.last, Denial::Stopping, commands);
            self.deny_all(Place::Parked, self.last, Denial::Stopping, commands);
        }
    }

    /// Leaves when there is nothing more to do.
    pub(super) fn turn_stop(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some(deadline) = self.flush_deadline else { return };
        // Without a word from Kafka there is no use in waiting for it: what is in the spool is safe there.
        let waits = self.phase != Phase::Direct && !self.backlog.is_empty() && self.backlog.is_moving();
        let published = !waits || self.flushed(now);
        let settled = self.backlog.is_settled() || now >= deadline + self.settings.append_patience;
        if self.waiting.is_empty() && self.closing.is_none() && published && settled {
            self.phase = Phase::Stopped;
            self.tell(Cause::Stopping, commands);
            commands.push(Command::Finished);
        }
    }
}
