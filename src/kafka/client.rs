//! The adapter to librdkafka: one producer, one thread that polls it.
//!
//! `FutureProducer` is not used: on a full queue it waits and lets callers overtake each other, and it costs a channel
//! per message. Here a full queue is an answer, and the number of a message travels as librdkafka's opaque pointer
//! value, so that nothing is allocated for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics as RawStatistics;

use super::report::{Delivered, Failure, Report, SendError, Statistics};
use super::{Config, Observer, ProbeError, Producer, Producers, Purpose, StartError, settings};
use crate::message::Message;

/// How long the polling thread sleeps when nothing happens. It only bounds how soon a closed producer is let go.
const POLL: Duration = Duration::from_secs(1);

/// Version of the librdkafka in this build.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// Makes librdkafka producers for one topic.
#[derive(Debug)]
pub struct LibrdkafkaProducers {
    latency: ClientConfig,
    throughput: ClientConfig,
    topic: Arc<str>,
    complaints: Arc<Complaints>,
}

impl LibrdkafkaProducers {
    /// For the dead-letter topic of `config`.
    ///
    /// # Errors
    /// If the settings are unusable.
    pub fn for_dead_letters(config: &Config) -> Result<Self, StartError> {
        Ok(Self { topic: config.dead_letter_topic.as_str().into(), ..Self::new(config)? })
    }

    /// For the topic of `config`.
    ///
    /// # Errors
    /// If the settings are unusable.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            latency: settings::producer(config, Purpose::Latency)?,
            throughput: settings::producer(config, Purpose::Throughput)?,
            topic: config.topic.as_str().into(),
            complaints: Arc::default(),
        })
    }
}

impl Producers for LibrdkafkaProducers {
    fn check(&self) -> Result<(), StartError> {
        let mut settings = self.latency.clone();
        // Without brokers: to let go of a producer that looks a broker up waits for the name server, and a dead one
        // would hold up the start for the length of an outage.
        settings.remove("bootstrap.servers");
        let made: Result<BaseProducer, _> = settings.create();
        made.map(drop).map_err(unusable)
    }

    fn start(
        &self,
        generation: u64,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<dyn Producer>, StartError> {
        let settings = match purpose {
            Purpose::Latency => &self.latency,
            Purpose::Throughput => &self.throughput,
        };
        let context = Context {
            generation,
            topic: Arc::clone(&self.topic),
            observer,
            dead: AtomicBool::new(false),
            complaints: Arc::clone(&self.complaints),
            client: OnceLock::new(),
        };
        let client = BaseProducer::from_config_and_context(settings, context).map_err(unusable)?;
        let client = Arc::new(client);
        client.context().know(&client);
        let closed = Arc::new(AtomicBool::new(false));
        let polled = (Arc::clone(&client), Arc::clone(&closed));
        thread::Builder::new()
            .name(format!("kafka-poll-{generation}"))
            .spawn(move || {
                let (client, closed) = polled;
                while !closed.load(Ordering::Acquire) {
                    client.poll(POLL);
                }
            })
            .map_err(|error| StartError::new(format!("the producer's thread cannot be started: {error}")))?;
        Ok(Arc::new(LibrdkafkaProducer { client, closed, topic: Arc::clone(&self.topic) }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn unusable(error: KafkaError) -> StartError {
    StartError::new(format!("the producer cannot be made: {error}"))
}

struct LibrdkafkaProducer {
    client: Arc<BaseProducer<Context>>,
    closed: Arc<AtomicBool>,
    topic: Arc<str>,
}

impl Producer for LibrdkafkaProducer {
    fn send(&self, token: u64, message: &Message) -> Result<(), SendError> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers().len());
        for header in message.headers() {
            headers = headers.insert(Header { key: header.name.as_ref(), value: Some(header.value.as_ref()) });
        }
        let opaque = usize::try_from(token).expect("a pointer holds a token on every supported platform");
        let record =
            BaseRecord::with_opaque_to(&self.topic, opaque).payload(message.payload().as_ref()).headers(headers);
        // Without a key any partition will do; an empty one would mean a partition.
        let record = if message.key().is_empty() { record } else { record.key(message.key().as_ref()) };
        self.client.send(record).map_err(|(error, _)| SendError::of(&error, self.client.context().is_dead()))
    }

    fn flush(&self, deadline: Duration) {
        if let Err(error) = self.client.flush(deadline) {
            tracing::debug!(%error, "some messages have no delivery report at the flush deadline");
        }
    }

    fn probe(&self, deadline: Duration) -> Result<(), ProbeError> {
        let metadata = self.client.client().fetch_metadata(Some(&self.topic), deadline);
        let metadata = metadata.map_err(|error| ProbeError::Unreachable(error.to_string()))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == &*self.topic);
        let topic = topic.filter(|topic| topic.error().is_none()).ok_or(ProbeError::TopicMissing)?;
        let leaderless = topic.partitions().iter().filter(|partition| partition.leader() < 0).count();
        match (topic.partitions().len(), leaderless) {
            (0, _) => Err(ProbeError::TopicMissing),
            (_, 0) => Ok(()),
            (partitions, leaderless) => Err(ProbeError::Leaderless { partitions, leaderless }),
        }
    }

    fn close(self: Arc<Self>) {
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.closed.store(true, Ordering::Release);
    }
}

/// Receives what librdkafka has to say.
struct Context {
    generation: u64,
    /// Tells the producers of events from those of dead letters in the log.
    topic: Arc<str>,
    observer: Arc<dyn Observer>,
    dead: AtomicBool,
    complaints: Arc<Complaints>,
    /// The producer that this context belongs to; weak, since the producer holds the context.
    client: OnceLock<Weak<BaseProducer<Self>>>,
}

/// What librdkafka complained of since Kafka last acknowledged a message. All producers of a topic share it, since in an
/// outage each new one complains of the same again.
#[derive(Debug, Default)]
struct Complaints {
    /// How often, by subject.
    counts: Mutex<HashMap<String, u64>>,
    /// Whether there are any: acknowledgements look here first.
    any: AtomicBool,
}

/// Most subjects that are told apart. They hold the names of brokers, so their number is not ours.
const SUBJECTS_MAX: usize = 64;

impl Complaints {
    /// How often `subject` was complained of, if that is worth a line: the first time, and when it is 8, 64, 512 times and
    /// so on. librdkafka repeats some for every attempt to connect, dozens a second for as long as an outage lasts.
    fn note(&self, subject: &str) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(true, Ordering::Release);
        if counts.len() >= SUBJECTS_MAX && !counts.contains_key(subject) {
            counts.clear();
        }
        let count = counts.entry(subject.to_owned()).or_default();
        *count = count.wrapping_add(1);
        (count.is_power_of_two() && count.trailing_zeros().is_multiple_of(3)).then_some(*count)
    }

    /// Kafka has acknowledged a message: whatever is complained of from here on is news.
    fn forget(&self) {
        if self.any.load(Ordering::Acquire) {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Release);
            counts.clear();
        }
    }
}

/// What differs from time to time stands behind this: "(after 2ms in state CONNECT, 1 identical error(s) suppressed)".
fn lasting_part(text: &str) -> &str {
    text.split(" (after ").next().unwrap_or(text)
}

impl Context {
    fn know(&self, client: &Arc<BaseProducer<Self>>) {
        let _first = self.client.set(Arc::downgrade(client));
    }

    /// Whether the producer has met a fatal error. Its reports and its error events carry the underlying code, so
    /// librdkafka is asked itself.
    fn is_dead(&self) -> bool {
        let client = self.client.get().and_then(Weak::upgrade);
        if client.is_some_and(|client| client.client().fatal_error().is_some()) {
            self.dead.store(true, Ordering::Release);
        }
        self.dead.load(Ordering::Acquire)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let generation = self.generation;
        // librdkafka warns of options that it calls experimental; ours are chosen.
        let level = if facility == "CONFWARN" { RDKafkaLogLevel::Debug } else { level };
        if matches!(level, RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug) {
            tracing::debug!(generation, facility, text, "librdkafka");
            return;
        }
        let Some(repeated) = self.complaints.note(&format!("{facility} {}", lasting_part(text))) else { return };
        let topic = &*self.topic;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(topic, generation, facility, text, repeated, "librdkafka");
            }
            _ => tracing::warn!(topic, generation, facility, text, repeated, "librdkafka"),
        }
    }

    fn stats(&self, raw: RawStatistics) {
        let mut statistics =
            Statistics { queue_messages: raw.msg_cnt, queue_bytes: raw.msg_size, ..Statistics::default() };
        // Only real brokers: bootstrap entries and the group coordinator have no number of their own.
        for broker in raw.brokers.values().filter(|broker| broker.nodeid >= 0) {
            match broker.state.as_str() {
                "UP" | "UPDATE" => statistics.brokers_up += 1,
                // Never needed so far, so never connected to: that is neither.
                "INIT" => {}
                "DOWN" | "TRY_CONNECT" => statistics.brokers_down += 1,
                _ => statistics.brokers_connecting += 1,
            }
        }
        self.observer.statistics(self.generation, &statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(repeated) = self.complaints.note(&error.to_string()) {
            let topic = &*self.topic;
            tracing::warn!(topic, generation = self.generation, %error, reason, repeated, "librdkafka");
        }
        if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::AllBrokersDown) {
            self.observer.unreachable(self.generation);
        }
        if self.is_dead() {
            self.observer.fatal(self.generation);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let outcome = match result {
            Ok(message) => {
                self.complaints.forget();
                Ok(Delivered::new(message.partition(), message.offset()))
            }
            Err((error, _)) => Err(Failure::of(error, self.is_dead())),
        };
        let token = u64::try_from(opaque).expect("a token was put in");
        self.observer.report(Report { generation: self.generation, token, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_rare_whichever_producer_makes_them_until_kafka_acknowledges_a_message() {
        let complaints = Complaints::default();
        let mut lines = Vec::new();
        // They alternate, as in every outage.
        for _ in 0..1000 {
            for subject in ["refused", "all down"] {
                lines.extend(complaints.note(subject).map(|count| (subject, count)));
            }
        }
        let of = |subject| lines.iter().filter(|line| line.0 == subject).map(|line| line.1).collect::<Vec<_>>();
        assert_eq!((of("refused"), of("all down")), (vec![1, 8, 64, 512], vec![1, 8, 64, 512]));
        complaints.forget();
        assert_eq!(complaints.note("refused"), Some(1), "the next outage is news");
    }

    #[test]
    fn subjects_are_bounded_and_lack_what_differs_each_time() {
        let complaints = Complaints::default();
        for broker in 0..10 * SUBJECTS_MAX {
            assert_eq!(complaints.note(&broker.to_string()), Some(1));
        }
        assert!(complaints.counts.lock().unwrap().len() <= SUBJECTS_MAX);
        assert_eq!(lasting_part("k:9092: refused (after 0ms in state CONNECT)"), "k:9092: refused");
    }
}
