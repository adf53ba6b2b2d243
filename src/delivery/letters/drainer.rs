//! The thread that publishes dead letters: read, send, wait for the reports, note how far it got.
//!
//! It shares nothing with the main path but the disk: its producer, its topic and its waits are its own. A letter is
//! held to be refused for good only if it was sent alone; it is then kept, and tried again from time to time. Any other
//! failure is ours or the topic's: the same letters are tried again, with a pause, for ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::gate::Shared;
use super::super::ladder;
use super::super::link::gravity;
use super::post::{Outcome, Post, Reports};
use super::progress::Progress;
use super::{Desk, Shelf};
use crate::kafka::{Failure, ProbeError, Producers, Purpose};
use crate::metrics::{LetterMetrics, LetterState};
use crate::spool::{Drain, Frame, Storage};

/// Letters that are sent at once, and bytes that are read at once.
const WINDOW: usize = 256;
const READ_BYTES_MAX: usize = 1 << 20;
/// The pause after a failure, doubled each time.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// How long brokers may take to answer the first question.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// After this time without a report, they are called unreachable.
const SILENCE: Duration = Duration::from_secs(5);
/// How often kept letters are tried again: the topic may have been mended. Each try that fails costs a producer.
const KEPT_INTERVAL: Duration = Duration::from_secs(300);

/// What the drainer works with.
pub(in super::super) struct Drainer<S: Storage> {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    producers: Box<dyn Producers>,
    drain: Drain<S>,
    progress: Progress,
    /// Letters that were read and are not all published, in order.
    read: VecDeque<Unsent>,
    post: Option<Post>,
    generation: u64,
    /// Who is at fault is being found out: one letter at a time.
    is_singly: bool,
    kept_tried_at: Duration,
    state: Option<LetterState>,
}

struct Unsent {
    frame: Frame,
    is_published: bool,
}

/// What one turn came to.
enum Turn {
    /// There was nothing to do.
    Idle,
    /// It went on.
    Moved,
    /// It did not, for this reason.
    Stuck(LetterState),
}

/// Runs until the desk is closed.
pub(in super::super) fn drain<S: Storage>(mut drainer: Drainer<S>) {
    let desk = Arc::clone(&drainer.desk);
    let mut pause = PAUSE_LEAST;
    while !desk.is_stopping() {
        let known = desk.batches();
        match drainer.turn() {
            Turn::Moved => pause = PAUSE_LEAST,
            Turn::Idle => {
                drainer.enter(LetterState::Idle);
                desk.await_written(known, KEPT_INTERVAL);
            }
            // The end of the process is no reason to complain.
            Turn::Stuck(_) if desk.is_stopping() => {}
            Turn::Stuck(state) => {
                drainer.enter(state);
                desk.rest(pause);
                pause = (pause * 2).min(PAUSE_MOST);
            }
        }
    }
    drainer.give_up_producer();
    desk.note_ended();
}

impl<S: Storage> Drainer<S> {
    pub(in super::super) fn new(
        shared: &Arc<Shared>,
        desk: &Arc<Desk>,
        producers: Box<dyn Producers>,
        drain: Drain<S>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            desk: Arc::clone(desk),
            producers,
            drain,
            progress: Progress::new((desk.status)().watermark),
            read: VecDeque::new(),
            post: None,
            generation: 0,
            is_singly: false,
            kept_tried_at: shared.now(),
            state: None,
        }
    }

    fn turn(&mut self) -> Turn {
        if self.progress.kept_count() > 0 && self.shared.now() >= self.kept_tried_at + KEPT_INTERVAL {
            return self.try_kept();
        }
        if !self.progress.may_go_on() {
            return Turn::Stuck(LetterState::Refused);
        }
        if self.read.is_empty() {
            self.is_singly = false;
            if let Err(state) = self.read_on() {
                return Turn::Stuck(state);
            }
        }
        if self.read.is_empty() {
            return Turn::Idle;
        }
        let batch: Vec<usize> = {
            let unsent = self.read.iter().enumerate().filter(|(_, letter)| !letter.is_published);
            unsent.map(|(place, _)| place).take(if self.is_singly { 1 } else { WINDOW }).collect()
        };
        let frames: Vec<Frame> =
            batch.iter().filter_map(|place| self.read.get(*place)).map(|letter| letter.frame.clone()).collect();
        let outcomes = match self.send(&frames) {
            Ok(outcomes) => outcomes,
            Err(state) => return Turn::Stuck(state),
        };
        for (place, outcome) in batch.iter().zip(&outcomes) {
            if let Some(letter) = self.read.get_mut(*place) {
                letter.is_published = matches!(outcome, Some(Ok(())));
            }
        }
        let verdict = self.judge(&frames, &outcomes);
        self.settle();
        verdict
    }

    /// What follows from the first letter that was not published.
    fn judge(&mut self, frames: &[Frame], outcomes: &[Option<Outcome>]) -> Turn {
        let unhappy = frames.iter().zip(outcomes).find_map(|(frame, outcome)| match outcome {
            Some(Ok(())) => None,
            Some(Err(failure)) => Some((frame.sequence, Some(*failure))),
            None => Some((frame.sequence, None)),
        });
        let failures = outcomes.iter().flatten().filter_map(|outcome| outcome.err());
        // A batch fails whole, so its letters are tried one by one.
        let convicting = failures.into_iter().find(|failure| gravity(*failure) == ladder::Failure::Convicting);
        match (unhappy, convicting) {
            (None, _) => Turn::Moved,
            (Some((sequence, _)), Some(failure)) if frames.len() == 1 => {
                if !self.move_to_dead_letters(sequence, failure) {
                    self.keep(sequence, failure);
                }
                Turn::Moved
            }
            (Some(_), Some(_)) => {
                self.is_singly = true;
                Turn::Moved
            }
            (Some((_, failure)), None) => Turn::Stuck(failure.map_or(LetterState::Unreachable, state_of)),
        }
    }

    /// Another event that its topic refuses for good becomes a dead letter, as an event does: kept here, it would hold all
    /// the files behind it. Whether it did; a dead letter itself cannot.
    fn move_to_dead_letters(&mut self, sequence: u64, failure: Failure) -> bool {
        let Some(letters) = self.shared.letters.as_ref().filter(|_| self.desk.shelf == Shelf::OtherEvents) else {
            return false;
        };
        let Some(place) = self.read.iter().position(|letter| letter.frame.sequence == sequence) else { return false };
        let Some(unsent) = self.read.get_mut(place) else { return false };
        let accepted_at = unsent.frame.accepted_at;
        let outcome = letters.hand_in(unsent.frame.message.refused(failure.label(), accepted_at), accepted_at);
        let is_synced = outcome.is_ok_and(|outcome| matches!(outcome.blocking_recv(), Ok(Ok(_))));
        unsent.is_published |= is_synced;
        if is_synced {
            let reason = failure.label();
            tracing::error!(
                sequence,
                reason,
                "the topic of other events refuses one for good; it is a dead letter now"
            );
        }
        is_synced
    }

    fn keep(&mut self, sequence: u64, failure: Failure) {
        tracing::error!(
            sequence,
            reason = failure.label(),
            "the topic of {} refuses one for good; it is kept, and tried again from time to time",
            self.name()
        );
        if self.progress.kept_count() == 0 {
            self.kept_tried_at = self.shared.now();
        }
        // All before it in the buffer are published.
        self.read.retain(|letter| letter.frame.sequence > sequence);
        self.progress.keep(sequence);
    }

    /// Takes what was published from the front of the buffer, and commits it.
    fn settle(&mut self) {
        while let Some(letter) = self.read.front().filter(|letter| letter.is_published) {
            self.progress.published(letter.frame.sequence);
            self.read.pop_front();
        }
        self.commit();
    }

    fn commit(&mut self) {
        self.metrics().refused.set(i64::try_from(self.progress.kept_count()).unwrap_or(i64::MAX));
        self.desk.published_beyond.store(self.progress.published_beyond(), Ordering::Release);
        let committed = self.drain.commit(self.progress.watermark());
        if let Some(fault) = committed.fault {
            let what = self.name();
            tracing::warn!(%fault, "how far the {what} are published was not noted; a restart may repeat some");
        }
    }

    fn read_on(&mut self) -> Result<(), LetterState> {
        let frames = self.read_after(self.progress.position(), READ_BYTES_MAX)?;
        self.read = frames.into_iter().map(|frame| Unsent { frame, is_published: false }).collect();
        Ok(())
    }

    fn read_after(&mut self, after: u64, bytes_max: usize) -> Result<Vec<Frame>, LetterState> {
        let read = self.drain.read(after, bytes_max).map_err(|error| {
            tracing::error!(%error, "the {} cannot be read; trying again", self.name());
            LetterState::Unreadable
        })?;
        for damaged in &read.damaged {
            tracing::error!(
                file = damaged.file,
                bytes = damaged.bytes,
                "a stretch of the {} is damaged; what could be read goes on, the file is kept",
                self.name()
            );
        }
        Ok(read.frames)
    }

    /// Tries every kept letter once more, each alone. Whatever comes of it, the others have their turn first.
    fn try_kept(&mut self) -> Turn {
        self.kept_tried_at = self.shared.now();
        let kept: Vec<u64> = self.progress.kept().collect();
        for sequence in kept {
            let found = match self.read_after(sequence - 1, 1) {
                Ok(frames) => frames.into_iter().next().filter(|frame| frame.sequence == sequence),
                Err(state) => return Turn::Stuck(state),
            };
            if let Some(frame) = found {
                match self.send(&[frame]).map(|outcomes| outcomes.first().copied().flatten()) {
                    Ok(Some(Ok(()))) => {}
                    Ok(Some(Err(failure))) if gravity(failure) == ladder::Failure::Convicting => continue,
                    Ok(Some(Err(failure))) => return Turn::Stuck(state_of(failure)),
                    Ok(None) => return Turn::Stuck(LetterState::Unreachable),
                    Err(state) => return Turn::Stuck(state),
                }
            }
            self.progress.release(sequence);
            self.commit();
        }
        Turn::Moved
    }

    /// Sends letters and waits for their reports. With any failure the producer goes: its gaps are fatal.
    fn send(&mut self, frames: &[Frame]) -> Result<Vec<Option<Outcome>>, LetterState> {
        let post = self.post()?;
        if matches!(self.state, None | Some(LetterState::Idle)) {
            self.enter(LetterState::Publishing);
        }
        let messages: Vec<_> = frames.iter().map(|frame| &frame.message).collect();
        let (desk, shared, watchdog) = (Arc::clone(&self.desk), Arc::clone(&self.shared), self.shared.watchdog());
        let sent = post.send(&messages, |silence| {
            if silence >= SILENCE {
                self.enter(LetterState::Unreachable);
            }
            // With other credentials it may be better received.
            let is_outdated = silence > Duration::ZERO && shared.producers.revision() != post.revision;
            !desk.is_stopping() && silence < watchdog && !is_outdated
        });
        let letters = self.metrics();
        for outcome in sent.outcomes.iter().flatten() {
            match outcome {
                Ok(()) => letters.published.inc(),
                Err(failure) => letters.failed(failure.label()),
            }
        }
        if sent.is_dead || sent.outcomes.iter().any(|outcome| *outcome != Some(Ok(()))) {
            self.give_up_producer();
        } else {
            self.enter(LetterState::Publishing);
        }
        Ok(sent.outcomes)
    }

    /// The producer, or a new one if the topic could take a letter: to a topic that is not there nothing is sent.
    fn post(&mut self) -> Result<Post, LetterState> {
        let revision = self.producers.revision();
        if let Some(post) = self.post.as_ref().filter(|post| post.revision == revision) {
            return Ok(post.clone());
        }
        self.give_up_producer();
        self.generation += 1;
        let reports = Reports::counted_by(&self.shared.metrics);
        let started = self.producers.start(self.generation, Purpose::Throughput, Arc::<Reports>::clone(&reports));
        let producer = started.map_err(|error| {
            tracing::error!(%error, "no producer for {} can be made; trying again", self.desk.shelf.name());
            LetterState::Failing
        })?;
        let post = Post { producer, reports, revision };
        self.post = Some(post.clone());
        post.producer.probe(PROBE_PATIENCE).map_err(|error| {
            self.give_up_producer();
            match error {
                ProbeError::TopicMissing => LetterState::TopicMissing,
                ProbeError::Unreachable(_) | ProbeError::Leaderless { .. } => LetterState::Unreachable,
            }
        })?;
        Ok(post)
    }

    fn give_up_producer(&mut self) {
        if let Some(post) = self.post.take() {
            super::super::workers::reap(post.producer);
        }
    }

    /// Says how it goes, when that changes.
    fn enter(&mut self, state: LetterState) {
        if self.state == Some(state) {
            return;
        }
        let was_stuck = !matches!(self.state, None | Some(LetterState::Idle | LetterState::Publishing));
        self.state = Some(state);
        self.metrics().state(state);
        let what = self.name();
        match state {
            LetterState::Idle | LetterState::Publishing if was_stuck => tracing::info!("{what} are published"),
            LetterState::Idle | LetterState::Publishing => {}
            LetterState::Unreachable => tracing::warn!("{what} wait on disk: no broker takes them"),
            LetterState::TopicMissing | LetterState::NotAuthorised | LetterState::Refused | LetterState::Failing => {
                tracing::error!(reason = state.label(), "{what} wait on disk: look at their topic");
            }
            LetterState::Unreadable => tracing::error!("{what} wait on disk: they cannot be read"),
        }
    }

    fn metrics(&self) -> &LetterMetrics {
        self.desk.shelf.metrics(&self.shared.metrics)
    }

    fn name(&self) -> &'static str {
        self.desk.shelf.name()
    }
}

/// Why letters wait, by what became of one.
fn state_of(failure: Failure) -> LetterState {
    match failure {
        Failure::UnknownTopic => LetterState::TopicMissing,
        Failure::NotAuthorised => LetterState::NotAuthorised,
        Failure::TimedOut | Failure::Unreachable | Failure::PurgedQueued | Failure::PurgedInFlight => {
            LetterState::Unreachable
        }
        Failure::MessageTooLarge
        | Failure::InvalidRecord
        | Failure::UnsupportedForFormat
        | Failure::InvalidTimestamp
        | Failure::Fatal
        | Failure::NoOffset
        | Failure::NotEnoughReplicas
        | Failure::Other => LetterState::Failing,
    }
}
