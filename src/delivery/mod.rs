//! Delivery: takes a message, gives back a receipt once it is safe, or says why it is not.
//!
//! A [`Receipt`] is the only thing from which a 200 for a recording can be made. It is made of a delivery report of
//! Kafka or of the proof that the spool has synced the message, and of nothing else.
//!
//! [`window`] knows what was made safe of late, so that the sender's repeats are not published again.
//! [`ladder`] decides, and touches nothing; `gate` is the lock under which messages are numbered, placed and sent,
//! and carries out what the ladder says; `workers` are the threads that wait for disks and brokers, so that the gate
//! never does. Everything that happens (a message, a report, an fsync, the passing of time) is one input to the
//! ladder under the gate.

mod gate;
mod held;
pub mod ladder;
mod letters;
mod link;
mod orders;
mod renewal;
mod repeats;
pub mod window;
mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::Timestamp;
use crate::kafka::{Delivered, Producers, StartError, Trouble};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::spool::{Spool, Storage, Synced};
use gate::Shared;
use ladder::Denial;
use letters::{Desk, Shelf};
pub use letters::{SetAside, SetAsideError};
use repeats::Arrival;

/// How long delivery waits.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long a callback waits for the acknowledgement of Kafka.
    pub ack_deadline: Duration,
    /// How long messages may be outstanding with nothing acknowledged before the producer is replaced.
    pub watchdog: Duration,
    /// How far back repeats are recognised.
    pub repeats: window::Config,
}

/// The spool of messages and that of dead letters.
#[derive(Debug)]
pub struct Spools<S: Storage> {
    /// Messages that Kafka has not taken yet.
    pub messages: Spool<S>,
    /// Callbacks that make no event, and messages that Kafka will never take.
    pub dead_letters: Spool<S>,
}

/// Proof that an event is safe: of the message itself, or the remembered one of the message that it repeats.
#[derive(Debug)]
pub struct Receipt {
    proof: Proof,
    is_repeat: bool,
}

/// What a receipt rests on. Nothing else is ever remembered as safe.
#[derive(Debug, Clone, Copy)]
enum Proof {
    Kafka(Delivered),
    Spool(Synced),
}

impl window::Proof for Proof {
    fn frame(&self) -> Option<u64> {
        match self {
            Self::Kafka(_) => None,
            Self::Spool(synced) => Some(synced.sequence()),
        }
    }
}

impl Receipt {
    fn of(proof: Proof) -> Self {
        Self { proof, is_repeat: false }
    }

    fn of_repeat(proof: Proof) -> Self {
        Self { proof, is_repeat: true }
    }

    /// Partition and offset at which Kafka has the event; `None` if it rested in the spool when it became safe.
    #[must_use]
    pub fn place(&self) -> Option<(i32, i64)> {
        match &self.proof {
            Proof::Kafka(delivered) => Some((delivered.partition(), delivered.offset())),
            Proof::Spool(_) => None,
        }
    }

    /// The number under which the event rests in the spool; `None` if Kafka has it.
    #[must_use]
    pub fn spool_sequence(&self) -> Option<u64> {
        window::Proof::frame(&self.proof)
    }

    /// Whether the message was a repeat, and was not published again.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.is_repeat
    }
}

/// Why an event is not safe. A copy may be in the topic all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryError {
    /// No acknowledgement within the deadline, and no spool.
    Deadline,
    /// The producer's queue is full, or as many messages wait as may.
    QueueFull,
    /// The producer is being replaced, and there is no spool.
    ProducerLost,
    /// Kafka refused the message, and there is no spool.
    Refused,
    /// The spool has no room.
    SpoolFull,
    /// The spool cannot write.
    SpoolUnhealthy,
    /// The process is stopping.
    Stopping,
}

impl From<Denial> for DeliveryError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::AckDeadline => Self::Deadline,
            Denial::QueueFull => Self::QueueFull,
            Denial::ProducerLost => Self::ProducerLost,
            Denial::KafkaRefused => Self::Refused,
            Denial::SpoolFull => Self::SpoolFull,
            Denial::SpoolUnhealthy => Self::SpoolUnhealthy,
            Denial::Stopping => Self::Stopping,
        }
    }
}

/// The way of every message into Kafka.
#[derive(Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
    /// Where callbacks of other kinds go.
    other_events: Option<Arc<Desk>>,
    /// Whether they are to go there; if not, they are only counted.
    passes_on: bool,
}

impl Delivery {
    /// Starts the threads, and with them the first producer; `letter_producers` are those for the dead-letter topic;
    /// without them, dead letters are written and not published.
    /// Absent brokers are no error: that is an outage. Without
    /// `spools` an outage is answered with refusals.
    ///
    /// # Errors
    /// If the settings of the producer are unusable, or a thread cannot be had.
    pub fn start<S: Storage>(
        producers: Box<dyn Producers>,
        letter_producers: Option<Box<dyn Producers>>,
        spools: Option<Spools<S>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, StartError> {
        producers.check()?;
        let recovered = spools.as_ref().map(|spools| workers::recovered(&spools.messages));
        let monitor = spools.as_ref().map(|spools| spools.messages.monitor.clone());
        let desk = spools.as_ref().map(|spools| Desk::of(Shelf::DeadLetters, spools.dead_letters.monitor.clone()));
        let shared = Shared::new(producers, recovered, monitor, desk, metrics, clock, config);
        // The first producer is made before anything is accepted: a callback must not meet a gate without one.
        shared.tick();
        workers::start_waiting_producers(&shared);
        workers::start(&shared, spools, letter_producers)?;
        Ok(Self { shared, other_events: None, passes_on: false })
    }

    /// Passes callbacks of kinds that are not published on to the topic of `producers`, by way of `spool`; without a
    /// spool they are refused. Without producers they are not passed on, and what is in the spool is only shown. What is
    /// wrong with either touches nothing else.
    ///
    /// # Errors
    /// If a thread cannot be had.
    pub fn passing_on<S: Storage>(
        mut self,
        producers: Option<Box<dyn Producers>>,
        spool: Option<Spool<S>>,
    ) -> Result<Self, StartError> {
        self.passes_on = producers.is_some();
        let Some(spool) = spool else { return Ok(self) };
        let desk = Desk::of(Shelf::OtherEvents, spool.monitor);
        match producers {
            Some(producers) => {
                workers::start_passing_on(&self.shared, &desk, producers, (spool.writer, spool.drain))?;
            }
            None => desk.rest_unattended(),
        }
        self.other_events = Some(desk);
        Ok(self)
    }

    /// Delivers a message that was accepted at `accepted_at`, unless it repeats one of late: then its receipt is that
    /// one's, and it shares the outcome of one that is still on its way. A delivery goes on when nobody waits for it
    /// any more.
    ///
    /// # Errors
    /// If it is neither acknowledged by Kafka nor synced in the spool, whatever the reason.
    pub async fn deliver(&self, message: Message, accepted_at: Timestamp) -> Result<Receipt, DeliveryError> {
        let outcome = match self.shared.arrive(message, accepted_at)? {
            Arrival::Settled(receipt) => return Ok(receipt),
            Arrival::Waits(outcome) => outcome,
        };
        // Every held message is answered by the ladder; a gate that is gone answers nobody.
        outcome.await.unwrap_or(Err(DeliveryError::Stopping))
    }

    /// Sets a callback aside of which no event can be made: its letter goes to the spool of dead letters, and from there
    /// to their topic.
    ///
    /// # Errors
    /// If the letter is not synced in that spool, whatever the reason.
    pub async fn set_aside(&self, letter: Message, accepted_at: Timestamp) -> Result<SetAside, SetAsideError> {
        hand_in(self.shared.letters.as_deref(), letter, accepted_at).await
    }

    /// Whether callbacks of other kinds have a place to go.
    #[must_use]
    pub fn passes_on(&self) -> bool {
        self.passes_on
    }

    /// Passes a callback on that is of a kind which is not published: to the spool of other events, and from there to
    /// their topic.
    ///
    /// # Errors
    /// If it is not synced in that spool, whatever the reason.
    pub async fn pass_on(&self, message: Message, accepted_at: Timestamp) -> Result<SetAside, SetAsideError> {
        hand_in(self.other_events.as_deref(), message, accepted_at).await
    }

    /// Whether a receipt could be had now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// Has the files of Kafka's login and TLS looked at now rather than within seconds. Does not wait.
    pub fn look_at_credentials(&self) {
        self.shared.gate().is_look_asked = true;
        self.shared.renewer.notify_one();
    }

    /// What keeps Kafka from taking events; `None` if it takes them, or nobody has complained.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.shared.kafka_ready.load(Ordering::Acquire) {
            return None;
        }
        self.shared.trouble().map(Trouble::sentence)
    }

    /// What the last probe of Kafka found: that it could take an event, or why not; `None` before the first.
    #[must_use]
    pub fn probed(&self) -> Option<Result<(), String>> {
        self.shared.probed().clone()
    }

    /// Brings the gauges up to date that nothing else does.
    pub fn observe(&self) {
        self.shared.observe();
        for desk in self.desks() {
            desk.observe(&self.shared.metrics, self.shared.wall());
        }
    }

    /// Takes no more messages, waits for reports until `deadline` has passed or the end `is_urgent`, and gives the rest
    /// to the spool. Returns when every message has its answer. Blocks.
    pub fn stop(&self, deadline: Duration, is_urgent: impl Fn() -> bool) {
        self.shared.stop(deadline, &is_urgent);
        self.desks().for_each(Desk::close);
        self.desks().for_each(Desk::await_ended);
    }

    fn desks(&self) -> impl Iterator<Item = &Desk> {
        self.shared.letters.as_deref().into_iter().chain(self.other_events.as_deref())
    }
}

async fn hand_in(desk: Option<&Desk>, letter: Message, accepted_at: Timestamp) -> Result<SetAside, SetAsideError> {
    let outcome = desk.ok_or(SetAsideError::Off)?.hand_in(letter, accepted_at)?;
    // Every letter that was handed in is answered by the appender; one that is gone answers nobody.
    outcome.await.unwrap_or(Err(SetAsideError::Stopping))
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Delivery").finish_non_exhaustive()
    }
}
