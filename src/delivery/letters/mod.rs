//! Dead letters: what can never become an event, or never be published as one, kept in a spool of its own and
//! published to a topic of its own. Other events go the same way, with a [`Desk`] of their own: callbacks of kinds that
//! are not published, where a topic for them is configured. What is said of letters here holds for them too.
//!
//! A letter is always written to the spool and synced first; [`SetAside`], which a 200 can be made from, exists only
//! after that. `appender` is the one thread that writes, `drainer` the one that publishes. Neither is ever waited for
//! by the main path: without the topic, or without brokers, letters stay on disk, and that is all.

mod appender;
mod drainer;
mod post;
mod progress;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

pub(super) use appender::append;
pub(super) use drainer::{Drainer, drain};

use super::ladder::Lane;
use crate::event::Timestamp;
use crate::kafka::Failure;
use crate::message::Message;
use crate::metrics::{LetterGauges, LetterMetrics, Metrics};
use crate::spool::{AppendError, Appended, BATCH_BYTES, Frame, Health, Monitor, Status, Storage};

/// Letters of callbacks that may wait for the disk, and their bytes. More are refused at once: memory has a limit.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The same of other events. It is well below what may be in flight in all (`http.in_flight_max`, and the bytes of
/// waiting messages), so that a disk that hangs under them leaves room for events.
const OTHERS_WAITING_MAX: usize = 512;
const OTHERS_WAITING_BYTES_MAX: usize = 16 << 20;
/// Letters of one group commit: enough to make a sync cheap, few enough to keep it short.
const BATCH_LETTERS_MAX: usize = 256;
/// How often a spool that cannot write is tried without traffic.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end waits for the last letters to be synced and for what was published to be noted.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Proof that a callback that makes no event is synced among the dead letters or the other events.
#[derive(Debug)]
pub struct SetAside(#[expect(dead_code, reason = "it is there to be had, not to be looked at")] Appended);

/// Why a callback was not set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAsideError {
    /// There is no spool.
    Off,
    /// Their spool has no room, or as many letters wait for it as may.
    Full,
    /// Their spool cannot write.
    Unhealthy,
    /// The process is stopping.
    Stopping,
}

impl From<&AppendError> for SetAsideError {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Full(_) => Self::Full,
            AppendError::Unhealthy(_) | AppendError::Invalid(_) => Self::Unhealthy,
        }
    }
}

/// What a desk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Callbacks that make no event, and messages that Kafka refuses for good.
    DeadLetters,
    /// Callbacks of kinds that are not published.
    OtherEvents,
}

impl Shelf {
    /// What stands on it, as sentences of the log say it.
    fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead letters",
            Self::OtherEvents => "other events",
        }
    }

    /// How many may wait for the disk, and how many bytes.
    fn waiting_max(self) -> (usize, usize) {
        match self {
            Self::DeadLetters => (WAITING_MAX, WAITING_BYTES_MAX),
            Self::OtherEvents => (OTHERS_WAITING_MAX, OTHERS_WAITING_BYTES_MAX),
        }
    }

    fn metrics(self, metrics: &Metrics) -> &LetterMetrics {
        match self {
            Self::DeadLetters => &metrics.letters,
            Self::OtherEvents => &metrics.other_events,
        }
    }
}

/// A letter on its way to the disk.
enum Letter {
    /// Of a callback that waits.
    Callback(Message, Timestamp, oneshot::Sender<Result<SetAside, SetAsideError>>),
    /// A frame of the spool of messages that Kafka refuses for good.
    Convicted(u64, Lane, Frame, Failure),
}

impl Letter {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Callback(message, ..) | Self::Convicted(_, _, Frame { message, .. }, _) => message.size_bytes(),
        }
    }
}

/// What the threads of the dead letters share with those who hand them in.
pub(super) struct Desk {
    shelf: Shelf,
    papers: Mutex<Papers>,
    /// Rung for the appender.
    handed_in: Condvar,
    /// Rung for the drainer.
    written: Condvar,
    /// Rung when a thread has ended.
    ended: Condvar,
    status: Box<dyn Fn() -> Status + Send + Sync>,
    /// Letters that were published although an earlier one was not.
    published_beyond: AtomicU64,
}

#[derive(Default)]
struct Papers {
    waiting: VecDeque<Letter>,
    waiting_bytes: usize,
    /// Batches written since the start.
    batches: u64,
    is_stopping: bool,
    /// Of the two threads.
    threads_ended: u8,
}

impl Desk {
    pub(super) fn of<S: Storage>(shelf: Shelf, monitor: Monitor<S>) -> Arc<Self> {
        Arc::new(Self {
            shelf,
            papers: Mutex::default(),
            handed_in: Condvar::new(),
            written: Condvar::new(),
            ended: Condvar::new(),
            status: Box::new(move || monitor.status()),
            published_beyond: AtomicU64::new(0),
        })
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the letter of a callback; its outcome comes when it is synced, or cannot be.
    pub(super) fn hand_in(
        &self,
        message: Message,
        accepted_at: Timestamp,
    ) -> Result<oneshot::Receiver<Result<SetAside, SetAsideError>>, SetAsideError> {
        let mut papers = self.papers();
        if papers.is_stopping {
            return Err(SetAsideError::Stopping);
        }
        let (letters_max, bytes_max) = self.shelf.waiting_max();
        if papers.waiting.len() >= letters_max || papers.waiting_bytes + message.size_bytes() > bytes_max {
            return Err(SetAsideError::Full);
        }
        let (waiter, outcome) = oneshot::channel();
        papers.put(Letter::Callback(message, accepted_at, waiter));
        self.handed_in.notify_one();
        Ok(outcome)
    }

    /// Takes a frame that Kafka refuses for good. The ladder has one of each lane under way at most.
    pub(super) fn hand_in_convicted(&self, sequence: u64, lane: Lane, frame: Frame, failure: Failure) {
        self.papers().put(Letter::Convicted(sequence, lane, frame, failure));
        self.handed_in.notify_one();
    }

    /// What is to be written next; nothing after `patience` without anything. `None` at the end.
    fn next_batch(&self, patience: Duration) -> Option<Vec<Letter>> {
        let is_idle = |papers: &mut Papers| papers.waiting.is_empty() && !papers.is_stopping;
        let waited = self.handed_in.wait_timeout_while(self.papers(), patience, is_idle);
        let mut papers = waited.unwrap_or_else(PoisonError::into_inner).0;
        if papers.waiting.is_empty() && papers.is_stopping {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(letter) = papers.waiting.front() {
            bytes += letter.size_bytes();
            if !batch.is_empty() && (batch.len() >= BATCH_LETTERS_MAX || bytes > BATCH_BYTES) {
                break;
            }
            batch.extend(papers.take());
        }
        Some(batch)
    }

    /// A batch was synced.
    fn note_written(&self) {
        self.papers().batches += 1;
        self.written.notify_all();
    }

    /// How many batches were written so far.
    fn batches(&self) -> u64 {
        self.papers().batches
    }

    /// Waits until more than `known` batches were written, for `patience` at most; `false` when the end has come.
    fn await_written(&self, known: u64, patience: Duration) -> bool {
        let is_idle = |papers: &mut Papers| papers.batches <= known && !papers.is_stopping;
        let waited = self.written.wait_timeout_while(self.papers(), patience, is_idle);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_stopping
    }

    /// Waits for `pause`; `false` when the end has come.
    fn rest(&self, pause: Duration) -> bool {
        self.await_written(u64::MAX, pause)
    }

    fn is_stopping(&self) -> bool {
        self.papers().is_stopping
    }

    pub(super) fn note_ended(&self) {
        self.papers().threads_ended += 1;
        self.ended.notify_all();
    }

    /// There are no threads: what is on disk stays there, and is only looked at.
    pub(super) fn rest_unattended(&self) {
        self.note_ended();
        self.note_ended();
    }

    /// Takes no more letters of callbacks.
    pub(super) fn close(&self) {
        self.papers().is_stopping = true;
        self.handed_in.notify_all();
        self.written.notify_all();
    }

    /// Waits a moment for both threads to finish what they are at.
    pub(super) fn await_ended(&self) {
        let papers = self.papers();
        drop(self.ended.wait_timeout_while(papers, STOP_PATIENCE, |papers| papers.threads_ended < 2));
    }

    /// Brings the gauges up to date.
    pub(super) fn observe(&self, metrics: &Metrics, now: Timestamp) {
        let status = (self.status)();
        let frames = status.frames.saturating_sub(self.published_beyond.load(Ordering::Acquire));
        let oldest = status.oldest_accepted_at.filter(|_| frames > 0);
        self.shelf.metrics(metrics).observe(&LetterGauges {
            frames,
            bytes: status.bytes,
            bytes_max: status.bytes_max,
            oldest_seconds: oldest.map_or(0, |oldest| (now.seconds() - oldest.seconds()).max(0)),
            damaged: status.damaged_stretches,
            set_aside: status.segments_set_aside,
            healthy: status.health == Health::Ready,
        });
    }
}

impl Papers {
    fn put(&mut self, letter: Letter) {
        self.waiting_bytes += letter.size_bytes();
        self.waiting.push_back(letter);
    }

    fn take(&mut self) -> Option<Letter> {
        let letter = self.waiting.pop_front()?;
        self.waiting_bytes -= letter.size_bytes();
        Some(letter)
    }
}
