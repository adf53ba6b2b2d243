//! One lane of the drain: the frames of some streams, in order, between being read and being done.
//!
//! It promises the order of a lane. Frames are handed over in order, to one producer at a time; after a failure
//! nothing more is handed over until everything outstanding has been reported, and then again from the first frame
//! that is not done. What one producer persists of such a *run* is a prefix of it, and every run begins at or before
//! the first frame that is not done: so a copy that lands late is a duplicate, never an inversion.

use std::collections::VecDeque;

use super::protocol::{FrameHead, Generation, Sequence, Time};
use super::settings::{Backoff, Settings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    InFlight,
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    sequence: Sequence,
    bytes: u32,
    stage: Stage,
    /// A refusal that named it may have meant a batch-mate: it is handed over only to a producer of its own.
    suspect: bool,
}

/// What a lane may hold in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) frames: usize,
    pub(super) bytes: u64,
}

/// What a lane would hand over next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, now.
    Nothing,
    /// This frame, to the producer of the drain.
    Frame(Sequence),
    /// This frame, on trial.
    Suspect(Sequence),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    frames: VecDeque<Frame>,
    bytes: u64,
    /// Frames at the front that were handed over in this run, done ones included.
    handed: usize,
    in_flight: usize,
    suspects: usize,
    /// Who holds what is in flight.
    carrier: Option<Generation>,
    /// A frame of this run failed: wait for the other reports, then begin again.
    halted: bool,
    not_before: Time,
    failures: u32,
    last_report: Time,
    /// The front frame belongs among the dead letters, and whether it has to be sent there (again).
    condemned: Option<(Sequence, bool)>,
    /// The last frame that was taken into memory. Nothing up to here is taken again.
    taken: Option<Sequence>,
    /// The first frame that was passed over, for want of room.
    passed_over: Option<Sequence>,
    /// Whether the lane stands in the queue of those that may have something to hand over.
    pub(super) queued: bool,
}

impl Lane {
    /// Whether `frame` was taken before, or follows one that was passed over.
    pub(super) fn must_ignore(&self, frame: Sequence) -> bool {
        self.passed_over.is_some() || self.taken.is_some_and(|taken| frame <= taken)
    }

    /// Whether the bytes of `sequence` are needed.
    pub(super) fn holds(&self, sequence: Sequence) -> bool {
        let found = self.frames.binary_search_by_key(&sequence, |frame| frame.sequence);
        found.is_ok_and(|index| self.frames.get(index).is_some_and(|frame| frame.stage != Stage::Done))
    }

    /// Whether another frame of `bytes` may be held.
    pub(super) fn has_room(&self, bytes: u32, room: Room) -> bool {
        self.frames.is_empty() || (self.frames.len() < room.frames && self.bytes + u64::from(bytes) <= room.bytes)
    }

    /// Whether it is worth reading on for this lane: half empty.
    pub(super) fn wants_more(&self, room: Room) -> bool {
        self.frames.len() <= room.frames / 2 && self.bytes <= room.bytes / 2
    }

    /// Whether the lane takes no messages at present, so that waiting for it would hold the others back.
    pub(super) fn is_blocked(&self, now: Time, settings: &Settings) -> bool {
        self.halted
            || self.condemned.is_some()
            || self.suspects > 0
            || now < self.not_before
            || (self.in_flight > 0 && now >= self.last_report + settings.lane_patience)
    }

    /// Whether something went wrong in it that is not yet mended.
    pub(super) fn is_troubled(&self) -> bool {
        self.halted || self.condemned.is_some() || self.suspects > 0 || self.failures > 0
    }

    /// Takes a frame into memory.
    pub(super) fn take(&mut self, head: FrameHead) {
        self.taken = Some(head.sequence);
        self.bytes += u64::from(head.bytes);
        self.frames.push_back(Frame {
            sequence: head.sequence,
            bytes: head.bytes,
            stage: Stage::Waiting,
            suspect: false,
        });
    }

    /// Notes that `frame` was not taken.
    pub(super) fn pass_over(&mut self, frame: Sequence) {
        self.passed_over.get_or_insert(frame);
    }

    /// The first frame that was passed over.
    pub(super) fn passed_over(&self) -> Option<Sequence> {
        self.passed_over
    }

    /// Reading has gone back to before the first frame that was passed over.
    pub(super) fn resume(&mut self) {
        self.passed_over = None;
    }

    /// The first frame that is not done: nothing from here on may be committed.
    pub(super) fn first_open(&self) -> Option<Sequence> {
        self.frames.front().map(|frame| frame.sequence).or(self.passed_over)
    }

    /// Frames under suspicion.
    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }

    /// The frame that has to be sent to the dead letters now. It is named once, and again after a failure.
    pub(super) fn take_condemned(&mut self, now: Time) -> Option<Sequence> {
        let (sequence, due) = self.condemned.as_mut().filter(|_| now >= self.not_before)?;
        std::mem::take(due).then_some(*sequence)
    }

    /// What may be handed over to a producer, `drain` being that of ordinary frames.
    pub(super) fn next(&mut self, now: Time, drain: Option<Generation>) -> Next {
        while self.frames.get(self.handed).is_some_and(|frame| frame.stage == Stage::Done) {
            self.handed += 1;
        }
        let Some(frame) = self.frames.get(self.handed) else { return Next::Nothing };
        if self.halted || self.condemned.is_some() || now < self.not_before {
            return Next::Nothing;
        }
        if frame.suspect {
            return if self.in_flight == 0 { Next::Suspect(frame.sequence) } else { Next::Nothing };
        }
        let free = self.in_flight == 0 || self.carrier == drain;
        if free && drain.is_some() { Next::Frame(frame.sequence) } else { Next::Nothing }
    }

    /// The frame that `next` named goes to `generation`.
    pub(super) fn hand_over(&mut self, generation: Generation, now: Time) {
        if let Some(frame) = self.frames.get_mut(self.handed) {
            frame.stage = Stage::InFlight;
            self.handed += 1;
            if self.in_flight == 0 {
                self.last_report = now;
            }
            self.in_flight += 1;
            self.carrier = Some(generation);
        }
    }

    /// The producer did not take the frame that was handed over last.
    pub(super) fn take_back(&mut self, sequence: Sequence) {
        if let Some(frame) = self.frame(sequence).filter(|frame| frame.stage == Stage::InFlight) {
            frame.stage = Stage::Waiting;
            self.in_flight -= 1;
            self.handed -= 1;
        }
    }

    /// `sequence` is safe. Gives whether it was in flight.
    pub(super) fn delivered(&mut self, sequence: Sequence, now: Time) -> bool {
        let Some(frame) = self.frame(sequence).filter(|frame| frame.stage == Stage::InFlight) else { return false };
        frame.stage = Stage::Done;
        let suspect = std::mem::take(&mut frame.suspect);
        self.suspects -= usize::from(suspect);
        self.in_flight -= 1;
        self.failures = 0;
        self.last_report = now;
        self.drop_done();
        self.end_run(now, None);
        true
    }

    /// `sequence` failed; `suspect` says that it may be its own fault. Gives whether it was in flight.
    pub(super) fn failed(&mut self, sequence: Sequence, suspect: bool, now: Time, backoff: Backoff) -> bool {
        let Some(frame) = self.frame(sequence).filter(|frame| frame.stage == Stage::InFlight) else { return false };
        frame.stage = Stage::Waiting;
        let fresh = suspect && !frame.suspect;
        frame.suspect |= suspect;
        self.suspects += usize::from(fresh);
        self.in_flight -= 1;
        self.halted = true;
        self.last_report = now;
        self.end_run(now, Some(backoff));
        true
    }

    /// The producer is gone: whatever it held goes out again, in a new run.
    pub(super) fn abandon(&mut self, generation: Generation, suspect_first: bool) {
        if self.carrier != Some(generation) {
            return;
        }
        for frame in self.frames.iter_mut().filter(|frame| frame.stage == Stage::InFlight) {
            frame.stage = Stage::Waiting;
        }
        if suspect_first
            && self.in_flight > 0
            && let Some(frame) = self.frames.front_mut()
            && !std::mem::replace(&mut frame.suspect, true)
        {
            self.suspects += 1;
        }
        self.in_flight = 0;
        self.handed = 0;
        self.halted = false;
        self.carrier = None;
    }

    /// The front frame was convicted, and goes to the dead letters.
    pub(super) fn condemn(&mut self, sequence: Sequence) {
        self.condemned = Some((sequence, true));
        self.not_before = Time::ZERO;
    }

    /// The front frame could not be set aside; try again later.
    pub(super) fn postpone(&mut self, now: Time, backoff: Backoff) {
        if let Some((_, due)) = &mut self.condemned {
            *due = true;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + backoff.after(self.failures);
    }

    /// The condemned frame is safe among the dead letters. Gives whether it was awaited.
    pub(super) fn set_aside(&mut self, sequence: Sequence) -> bool {
        let awaited = self.condemned.is_some_and(|(condemned, _)| condemned == sequence);
        if awaited {
            self.condemned = None;
            self.failures = 0;
            self.handed = 0;
            self.suspects -= 1;
            if let Some(frame) = self.frame(sequence) {
                frame.stage = Stage::Done;
            }
            self.drop_done();
        }
        awaited
    }

    /// Whether it owes a report for `patience`.
    pub(super) fn is_overdue(&self, now: Time, patience: Time) -> bool {
        self.in_flight > 0 && now >= self.last_report + patience
    }

    fn end_run(&mut self, now: Time, backoff: Option<Backoff>) {
        if self.halted && self.in_flight == 0 {
            self.halted = false;
            self.handed = 0;
            if let Some(backoff) = backoff {
                self.not_before = now + backoff.after(self.failures);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    fn drop_done(&mut self) {
        while let Some(frame) = self.frames.front().filter(|frame| frame.stage == Stage::Done) {
            self.bytes -= u64::from(frame.bytes);
            self.handed = self.handed.saturating_sub(1);
            self.frames.pop_front();
        }
    }

    fn frame(&mut self, sequence: Sequence) -> Option<&mut Frame> {
        let index = self.frames.binary_search_by_key(&sequence, |frame| frame.sequence).ok()?;
        self.frames.get_mut(index)
    }
}
