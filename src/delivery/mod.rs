//! Delivery: takes a message, gives back a receipt once it is safe, or says why it is not.
//!
//! A [`Receipt`] is the only thing from which a 200 for a recording can be made, and only a delivery report of Kafka
//! makes one. A message that is not acknowledged within the deadline is an error here and a 503 outside: the sender
//! keeps it. If Kafka acknowledges it after all, that is counted, and the sender's retry brings the same `event_id`
//! again.
//!
//! Numbering and sending happen under one lock, the gate, so that no message can pass an earlier one on its way
//! into the producer. A producer that met a fatal error can never send again; `guardian` replaces it.

mod guardian;
mod outstanding;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::kafka::{Delivered, Failure, Observer, Producer, Producers, Report, SendError, StartError, Statistics};
use crate::message::Message;
use crate::metrics::{BrokerState, Metrics, RebuildReason};
use outstanding::{Entry, Outstanding};

/// How often the end of the process looks whether it has become urgent.
const FLUSH_SLICE: Duration = Duration::from_millis(100);

/// How long delivery waits for Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long a callback waits for the acknowledgement.
    pub ack_deadline: Duration,
    /// How long messages may be outstanding with nothing acknowledged before the producer is replaced.
    pub watchdog: Duration,
}

/// Proof that an event is safe.
#[derive(Debug)]
pub struct Receipt(Delivered);

impl Receipt {
    /// Where Kafka put the event.
    #[must_use]
    pub fn delivered(&self) -> &Delivered {
        &self.0
    }
}

/// Why an event is not safe. A copy may be in the topic all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryError {
    /// No acknowledgement within the deadline.
    Deadline,
    /// The producer's queue is full.
    QueueFull,
    /// The producer is being replaced.
    ProducerFatal,
    /// Kafka refused the message.
    Refused(Failure),
    /// The process is stopping.
    Stopping,
}

/// The way of every message into Kafka.
#[derive(Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Mutex<Gate>,
    /// Wakes the guardian: a producer has died, or the process stops.
    alarm: Condvar,
    ready: AtomicBool,
    producers: Box<dyn Producers>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    config: Config,
}

/// What is decided under one lock: the number of a message and the producer it goes to.
struct Gate {
    outstanding: Outstanding,
    generation: u64,
    producer: Arc<dyn Producer>,
    /// The current producer met a fatal error.
    dead: bool,
    /// When Kafka last acknowledged something, or the current producer was made.
    last_progress: Instant,
    stopping: bool,
}

impl Delivery {
    /// Starts the first producer and the threads that watch over it. Absent brokers are no error: that is an outage.
    ///
    /// # Errors
    /// If the settings of the producer are unusable.
    pub fn start(
        producers: Box<dyn Producers>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, StartError> {
        // The producer reports to what does not exist yet, so it is told through a link that is closed at once.
        let link = Arc::new(Link::default());
        let producer = producers.start(0, Arc::clone(&link) as Arc<dyn Observer>)?;
        let gate = Gate {
            outstanding: Outstanding::default(),
            generation: 0,
            producer,
            dead: false,
            last_progress: clock.monotonic(),
            stopping: false,
        };
        let shared = Arc::new(Shared {
            gate: Mutex::new(gate),
            alarm: Condvar::new(),
            ready: AtomicBool::new(false),
            producers,
            metrics,
            clock,
            config,
        });
        link.close(&shared);
        guardian::start(&shared)?;
        Ok(Self { shared })
    }

    /// Delivers a message.
    ///
    /// # Errors
    /// If Kafka has not acknowledged it within the deadline, whatever the reason.
    pub async fn deliver(&self, message: Message) -> Result<Receipt, DeliveryError> {
        let report = self.shared.send(&message)?;
        match tokio::time::timeout(self.shared.config.ack_deadline, report).await {
            Ok(Ok(Ok(delivered))) => Ok(Receipt(delivered)),
            // The latter: the entry was given up without a report, because its producer is gone.
            Ok(Ok(Err(Failure::Fatal)) | Err(_)) => Err(DeliveryError::ProducerFatal),
            Ok(Ok(Err(failure))) => Err(DeliveryError::Refused(failure)),
            Err(_) => Err(DeliveryError::Deadline),
        }
    }

    /// Whether an acknowledgement could be had now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// Takes no more messages, and waits until every one has its report, `deadline` has passed or the end `is_urgent`.
    /// Blocks.
    pub fn stop(&self, deadline: Duration, is_urgent: impl Fn() -> bool) {
        let producer = {
            let mut gate = self.shared.gate();
            gate.stopping = true;
            Arc::clone(&gate.producer)
        };
        self.shared.ready.store(false, Ordering::Release);
        self.shared.alarm.notify_all();
        let ends = self.shared.clock.monotonic() + deadline;
        loop {
            let left = ends.saturating_duration_since(self.shared.clock.monotonic());
            if self.shared.gate().outstanding.oldest().is_none() || left.is_zero() || is_urgent() {
                break;
            }
            producer.flush(left.min(FLUSH_SLICE));
        }
        let left = self.shared.gate().outstanding.take_all();
        if !left.is_empty() {
            tracing::warn!(messages = left.len(), "stopping with messages that have no delivery report");
        }
        self.shared.metrics.outstanding.set(0);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Delivery").finish_non_exhaustive()
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in a critical section can panic half-way through a change, so a poisoned gate is whole.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: &Message) -> Result<oneshot::Receiver<outstanding::Outcome>, DeliveryError> {
        let (waiter, report) = oneshot::channel();
        let sent_at = self.clock.monotonic();
        let mut gate = self.gate();
        if gate.stopping {
            return Err(DeliveryError::Stopping);
        }
        if gate.dead {
            return Err(DeliveryError::ProducerFatal);
        }
        match gate.producer.send(gate.outstanding.next_sequence(), message) {
            Ok(()) => {
                gate.outstanding.push(Entry { sent_at, waiter });
                self.metrics.outstanding.inc();
                Ok(report)
            }
            Err(SendError::QueueFull) => Err(DeliveryError::QueueFull),
            Err(SendError::Refused(failure)) => Err(DeliveryError::Refused(failure)),
            Err(SendError::Fatal) => {
                gate.dead = true;
                drop(gate);
                self.alarm.notify_all();
                Err(DeliveryError::ProducerFatal)
            }
        }
    }

    /// Puts a new producer in the place of the current one. What the old one had on its way is refused: the sender
    /// keeps it.
    fn replace(self: &Arc<Self>, reason: RebuildReason) -> Result<(), StartError> {
        let generation = self.gate().generation + 1;
        let observer = Arc::new(Link::to(self));
        let producer = self.producers.start(generation, observer)?;
        let (old, left) = {
            let mut gate = self.gate();
            gate.generation = generation;
            gate.dead = false;
            gate.last_progress = self.clock.monotonic();
            let left = gate.outstanding.take_all();
            self.metrics.outstanding.set(0);
            (std::mem::replace(&mut gate.producer, producer), left)
        };
        self.metrics.producer_rebuilt(reason);
        tracing::warn!(reason = reason.label(), generation, refused = left.len(), "the producer was replaced");
        // Dropping the waiters answers their callbacks.
        drop(left);
        guardian::reap(old);
        Ok(())
    }
}

/// What a producer reports to. It holds the delivery weakly, since the delivery holds the producer.
#[derive(Default)]
struct Link {
    shared: std::sync::OnceLock<std::sync::Weak<Shared>>,
}

impl Link {
    fn to(shared: &Arc<Shared>) -> Self {
        let link = Self::default();
        link.close(shared);
        link
    }

    fn close(&self, shared: &Arc<Shared>) {
        let _first = self.shared.set(Arc::downgrade(shared));
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get().and_then(std::sync::Weak::upgrade)
    }
}

impl Observer for Link {
    fn report(&self, report: Report) {
        let Some(shared) = self.shared() else { return };
        let now = shared.clock.monotonic();
        let entry = {
            let mut gate = shared.gate();
            // A late report of a replaced producer never counts for the current one.
            let current = gate.generation == report.generation;
            if current && report.outcome.is_ok() {
                gate.last_progress = now;
            }
            if current { gate.outstanding.take(report.sequence) } else { None }
        };
        if entry.is_some() {
            shared.metrics.outstanding.dec();
        }
        if let Err(failure) = report.outcome {
            shared.metrics.delivery_failed(failure.label());
        } else if let Some(entry) = &entry {
            shared.metrics.ack_duration.observe(now.saturating_duration_since(entry.sent_at).as_secs_f64());
        }
        let heard = entry.is_some_and(|entry| entry.waiter.send(report.outcome).is_ok());
        if !heard && report.outcome.is_ok() {
            shared.metrics.delivered_after_refusal.inc();
        }
    }

    fn fatal(&self, generation: u64) {
        let Some(shared) = self.shared() else { return };
        let mut gate = shared.gate();
        if gate.generation == generation {
            gate.dead = true;
            drop(gate);
            shared.alarm.notify_all();
        }
    }

    fn statistics(&self, generation: u64, statistics: &Statistics) {
        let Some(shared) = self.shared() else { return };
        if shared.gate().generation != generation {
            return;
        }
        let metrics = &shared.metrics;
        metrics.queue_messages.set(i64::try_from(statistics.queue_messages).unwrap_or(i64::MAX));
        metrics.queue_bytes.set(i64::try_from(statistics.queue_bytes).unwrap_or(i64::MAX));
        metrics.brokers(BrokerState::Up, statistics.brokers_up);
        metrics.brokers(BrokerState::Connecting, statistics.brokers_connecting);
        metrics.brokers(BrokerState::Down, statistics.brokers_down);
    }
}
