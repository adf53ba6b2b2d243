//! What is in the spool and not yet done: what to read, what is in memory, how far it may be committed.
//!
//! It promises that nothing beyond the synced position is asked for, that a frame which is done is not handed over
//! again whatever becomes of producers, and that the watermark stays below every frame that is not done. Memory is
//! bounded by the lanes alone: a lane that takes nothing is passed over, and its frames are read again later.

use std::collections::BTreeSet;

use super::lane::{Lane, Room};
use super::protocol::{Command, FrameHead, Generation, Recovered, Sequence, Time};
use super::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) lanes: Vec<Lane>,
    /// Every frame up to here was read; of a lane that was passed over, only those before its mark.
    cursor: Sequence,
    /// Every frame up to here is fsynced. Nothing beyond is read.
    synced: Sequence,
    /// Every frame up to here is done.
    watermark: Sequence,
    /// The watermark that the spool was last told, and when it may be told again.
    committed: Sequence,
    committing: bool,
    commit_not_before: Time,
    commit_failed: bool,
    /// Where the read that is under way began, and how far it was to go.
    reading: Option<(Sequence, Sequence)>,
    read_not_before: Time,
    /// The lane that reading waits for.
    paused_by: Option<usize>,
    /// Whether Kafka has acknowledged a frame since it last was in doubt.
    proven: bool,
    /// Messages acknowledged by the direct producer while their frames were being written.
    known: BTreeSet<Sequence>,
}

impl Backlog {
    pub(super) fn new(lanes: u16, found: Option<Recovered>) -> Self {
        let watermark = found.map_or(Sequence(0), |found| found.watermark);
        Self {
            lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(),
            cursor: watermark,
            synced: found.map_or(watermark, |found| found.last.max(watermark)),
            watermark,
            committed: watermark,
            committing: false,
            commit_not_before: Time::ZERO,
            commit_failed: false,
            reading: None,
            read_not_before: Time::ZERO,
            paused_by: None,
            proven: false,
            known: BTreeSet::new(),
        }
    }

    /// Whether every synced frame is done.
    pub(super) fn is_empty(&self) -> bool {
        self.watermark >= self.synced
    }

    /// Whether Kafka takes frames.
    pub(super) fn is_moving(&self) -> bool {
        self.proven
    }

    /// Upper bound on the frames that are not done.
    pub(super) fn span(&self) -> u64 {
        self.synced.0.saturating_sub(self.watermark.0)
    }

    /// Frames up to `through` are fsynced.
    pub(super) fn append(&mut self, through: Sequence) {
        self.synced = self.synced.max(through);
    }

    /// Everything up to `through` is done or was never spooled. Only while the backlog is empty.
    pub(super) fn skip_to(&mut self, through: Sequence) {
        debug_assert!(self.is_empty(), "frames that are not done must not be skipped");
        self.synced = self.synced.max(through);
        self.watermark = self.synced;
        self.cursor = self.synced;
        self.reading = None;
        self.known.clear();
    }

    /// Frames that were refused were written after all. Nobody was told that they are safe.
    pub(super) fn disown(&mut self, through: Sequence) {
        if through > self.synced {
            self.skip_to(through);
        }
    }

    /// The direct producer delivered a message whose frame is being written.
    pub(super) fn know(&mut self, sequence: Sequence) {
        if sequence > self.watermark {
            self.known.insert(sequence);
        }
    }

    /// The lane at this index.
    pub(super) fn lane(&mut self, index: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(index)
    }

    /// Whether nothing keeps the last frames from being done soon.
    pub(super) fn is_well(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_troubled() && lane.passed_over().is_none())
    }

    /// Whether a frame waits for a trial.
    pub(super) fn has_suspects(&self) -> bool {
        self.lanes.iter().any(|lane| lane.suspects() > 0)
    }

    /// Whether a lane owes a report for too long.
    pub(super) fn is_overdue(&self, now: Time, patience: Time) -> bool {
        self.lanes.iter().any(|lane| lane.is_overdue(now, patience))
    }

    /// Recomputes the watermark. It never goes back: reading goes back only to frames that are not done.
    pub(super) fn advance(&mut self) {
        let open = self.lanes.iter().filter_map(Lane::first_open).min();
        let below = open.map_or(self.cursor.0, |open| self.cursor.0.min(open.0.saturating_sub(1)));
        debug_assert!(below >= self.watermark.0, "the watermark never goes back");
        if below > self.watermark.0 {
            self.watermark = Sequence(below);
            self.known = self.known.split_off(&Sequence(below + 1));
        }
    }

    /// Tells the spool about a new watermark, one commit at a time, without a pause between them if it is the `last`.
    pub(super) fn commit(&mut self, last: bool, now: Time, commands: &mut Vec<Command>) {
        let due = now >= self.commit_not_before || (last && !self.commit_failed);
        if !self.committing && self.watermark > self.committed && due {
            self.committing = true;
            self.committed = self.watermark;
            commands.push(Command::Commit(self.watermark));
        }
    }

    /// Whether the spool knows what is done, or cannot be told.
    pub(super) fn is_settled(&self) -> bool {
        self.commit_failed || (!self.committing && self.watermark <= self.committed)
    }

    /// The commit succeeded or failed; a failed one is repeated, for its only price is a second delivery.
    pub(super) fn committed(&mut self, success: bool, now: Time, settings: &Settings) {
        self.committing = false;
        self.commit_failed = !success;
        self.commit_not_before = now + settings.commit_pause;
        if !success {
            self.committed = Sequence(0);
            self.commit_not_before = now + settings.backoff.most;
        }
    }

    /// Kafka takes frames, or that is in doubt again.
    pub(super) fn prove(&mut self, proven: bool) {
        self.proven = proven;
    }

    fn room(&self, settings: &Settings) -> Room {
        let frames = if self.proven { settings.lane_frames_max } else { settings.lane_frames_unproven_max };
        Room { frames, bytes: settings.lane_bytes_max }
    }

    /// Asks for more frames, if there are any and there is room.
    pub(super) fn read(&mut self, now: Time, settings: &Settings, commands: &mut Vec<Command>) {
        if self.reading.is_some() {
            return;
        }
        let went_back = self.go_back(now, settings);
        if now < self.read_not_before && !went_back {
            return;
        }
        if let Some(lane) = self.paused_by.and_then(|index| self.lanes.get(index)) {
            if !lane.wants_more(self.room(settings)) && !lane.is_blocked(now, settings) {
                return;
            }
            self.paused_by = None;
        }
        let takes_nothing = self.lanes.iter().all(|lane| lane.passed_over().is_some());
        if self.cursor < self.synced && !takes_nothing {
            self.reading = Some((self.cursor, self.synced));
            commands.push(Command::ReadSpool { after: self.cursor, through: self.synced });
        }
    }

    /// Reads again from the first frame that was passed over, once its lane takes messages. Gives whether it does.
    fn go_back(&mut self, now: Time, settings: &Settings) -> bool {
        let room = self.room(settings);
        let mut earliest = None;
        for lane in &mut self.lanes {
            if lane.wants_more(room)
                && !lane.is_blocked(now, settings)
                && let Some(mark) = lane.passed_over()
            {
                lane.resume();
                earliest = Some(earliest.map_or(mark, |other: Sequence| other.min(mark)));
            }
        }
        if let Some(mark) = earliest {
            self.cursor = self.cursor.min(Sequence(mark.0.saturating_sub(1)));
            self.paused_by = None;
        }
        earliest.is_some()
    }

    /// Takes in what was read. `through` is the number up to which nothing else exists.
    pub(super) fn frames_read(
        &mut self,
        (after, through): (Sequence, Sequence),
        frames: &[FrameHead],
        now: Time,
        settings: &Settings,
        commands: &mut Vec<Command>,
    ) -> bool {
        let Some((_, asked)) = self.reading.filter(|(began, _)| *began == after) else {
            let unneeded = frames.iter().filter(|frame| !self.holds(frame));
            commands.extend(unneeded.map(|frame| Command::Release(frame.sequence)));
            return false;
        };
        self.reading = None;
        let (mut paused, mut took_any) = (false, false);
        for frame in frames {
            let beyond = frame.sequence <= after || frame.sequence > self.synced;
            let taken = !paused && !beyond && self.take(*frame, now, settings, &mut paused);
            took_any |= taken;
            if !taken && !self.holds(frame) {
                commands.push(Command::Release(frame.sequence));
            }
        }
        if !paused {
            self.cursor = self.cursor.max(through.min(self.synced));
            // In an outage every lane is full soon, and what is appended then is passed over.
            let pause = if took_any { settings.read_pause } else { settings.lane_patience };
            self.read_not_before = if through < asked { now } else { now + pause };
        }
        true
    }

    /// Gives whether the frame was taken into memory.
    fn take(&mut self, frame: FrameHead, now: Time, settings: &Settings, paused: &mut bool) -> bool {
        let (index, room) = (self.index(frame), self.room(settings));
        let Some(lane) = self.lanes.get_mut(index) else { return false };
        if lane.must_ignore(frame.sequence) || self.known.contains(&frame.sequence) {
            return false;
        }
        if lane.has_room(frame.bytes, room) {
            lane.take(frame);
            return true;
        }
        if lane.is_blocked(now, settings) {
            lane.pass_over(frame.sequence);
        } else {
            // A lane that moves will have room in a moment; going on past it would mean to read all this twice.
            *paused = true;
            self.paused_by = Some(index);
            self.cursor = Sequence(frame.sequence.0 - 1);
        }
        false
    }

    /// Whether the frame is in memory, read a second time on behalf of another lane.
    fn holds(&self, frame: &FrameHead) -> bool {
        self.lanes.get(self.index(*frame)).is_some_and(|lane| lane.holds(frame.sequence))
    }

    /// The lane that a frame belongs to.
    fn index(&self, frame: FrameHead) -> usize {
        usize::from(frame.lane.0) % self.lanes.len().max(1)
    }

    /// The read failed; try again later.
    pub(super) fn read_failed(&mut self, after: Sequence, now: Time, settings: &Settings) {
        if self.reading.is_some_and(|(began, _)| began == after) {
            self.reading = None;
            self.read_not_before = now + settings.backoff.most;
        }
    }

    /// A producer is gone with what it held.
    pub(super) fn abandon(&mut self, generation: Generation, suspect_first: bool) {
        for lane in &mut self.lanes {
            lane.abandon(generation, suspect_first);
        }
    }
}
