//! The adapter to librdkafka: one producer, one thread that polls it.
//!
//! `FutureProducer` is not used: on a full queue it waits and lets callers overtake each other, and it costs a channel
//! per message. Here a full queue is an answer, and the number of a message travels as librdkafka's opaque pointer
//! value, so that nothing is allocated for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics as RawStatistics;

use super::complaints::{Complaints, broker, common_part, lasting_part};
use super::credentials::{Contents, Credentials};
use super::offsets::Offsets;
use super::report::{Delivered, Failure, Report, SendError, Statistics};
use super::trouble::Trouble;
use super::{Config, Look, Observer, ProbeError, Producer, Producers, Purpose, StartError, diagnosis, settings};
use crate::message::Message;

/// How long the polling thread sleeps when nothing happens. It only bounds how soon a closed producer is let go.
const POLL: Duration = Duration::from_secs(1);

/// Generation of clients that are given no message; those of producers begin at 1.
const NOBODY: u64 = 0;

/// Version of the librdkafka in this build.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// Makes librdkafka producers for one topic.
#[derive(Debug)]
pub struct LibrdkafkaProducers {
    config: Arc<Config>,
    pub(super) credentials: Arc<Credentials>,
    topic: Arc<str>,
    complaints: Arc<Complaints>,
}

impl LibrdkafkaProducers {
    /// For the topic of `config`.
    ///
    /// # Errors
    /// If a file that it names cannot be used.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            topic: config.topic.as_str().into(),
            credentials: Arc::new(Credentials::read(config)?),
            config: Arc::new(config.clone()),
            complaints: Arc::default(),
        })
    }

    /// For the dead-letter topic. What one of them finds in the files counts for all.
    #[must_use]
    pub fn for_dead_letters(&self) -> Self {
        self.for_topic(&self.config.dead_letter_topic)
    }

    /// For the topic of other events, if there is one, likewise.
    #[must_use]
    pub fn for_other_events(&self) -> Option<Self> {
        self.config.other_events_topic.as_ref().map(|topic| self.for_topic(topic))
    }

    fn for_topic(&self, topic: &str) -> Self {
        Self {
            topic: topic.into(),
            credentials: Arc::clone(&self.credentials),
            config: Arc::clone(&self.config),
            complaints: Arc::default(),
        }
    }

    fn try_client(&self, contents: &Contents) -> Result<(), StartError> {
        let mut settings = settings::producer(&self.config, contents, Purpose::Latency);
        // Without brokers: to let go of a producer that looks a broker up waits for the name server, and a dead one
        // would hold up the start for the length of an outage.
        settings.remove("bootstrap.servers");
        let made: Result<BaseProducer, _> = settings.create();
        made.map(drop).map_err(unusable)
    }

    fn start_with(
        &self,
        contents: Arc<Contents>,
        generation: u64,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<dyn Producer>, StartError> {
        let settings = settings::producer(&self.config, &contents, purpose);
        let context = Context {
            generation,
            contents,
            topic: Arc::clone(&self.topic),
            observer,
            dead: AtomicBool::new(false),
            complaints: Arc::clone(&self.complaints),
            offsets: Offsets::default(),
            client: OnceLock::new(),
        };
        let client = BaseProducer::from_config_and_context(&settings, context).map_err(unusable)?;
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

impl Producers for LibrdkafkaProducers {
    fn check(&self) -> Result<(), StartError> {
        self.try_client(&self.credentials.contents())
    }

    fn look(&self) -> Look {
        self.credentials.look(&self.config, |contents| self.try_client(contents))
    }

    fn revision(&self) -> u64 {
        self.credentials.revision()
    }

    fn take(&self, revision: u64) {
        self.credentials.take(revision);
    }

    fn trial(&self, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        self.start_with(self.credentials.newest(), NOBODY, Purpose::Latency, observer)
    }

    fn start(
        &self,
        generation: u64,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<dyn Producer>, StartError> {
        self.start_with(self.credentials.contents(), generation, purpose, observer)
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
    /// What the producer logs in with.
    contents: Arc<Contents>,
    /// Tells the producers of events from those of dead letters in the log.
    topic: Arc<str>,
    observer: Arc<dyn Observer>,
    dead: AtomicBool,
    complaints: Arc<Complaints>,
    offsets: Offsets,
    /// The producer that this context belongs to; weak, since the producer holds the context.
    client: OnceLock<Weak<BaseProducer<Self>>>,
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

impl Context {
    fn delivered(&self, partition: i32, offset: i64) -> Result<Delivered, Failure> {
        if self.offsets.believe(partition, offset) {
            return Ok(Delivered::new(partition, offset));
        }
        if let Some(repeated) = self.complaints.note("an acknowledgement without an offset of its own") {
            let (topic, generation) = (&*self.topic, self.generation);
            tracing::error!(
                topic,
                generation,
                partition,
                offset,
                repeated,
                "acknowledged as another message: not believed"
            );
        }
        Err(Failure::NoOffset)
    }

    fn complain(&self, trouble: Option<Trouble>, error: &KafkaError, reason: &str, repeated: u64) {
        let (topic, generation) = (&*self.topic, self.generation);
        match trouble {
            None => tracing::warn!(topic, generation, reason, repeated, "no broker can be reached"),
            Some(Trouble::Other) => tracing::warn!(topic, generation, %error, reason, repeated, "librdkafka"),
            Some(found) if found.is_refusal() => {
                tracing::error!(topic, generation, reason, repeated, "{}", found.sentence());
            }
            Some(found) => tracing::warn!(topic, generation, reason, repeated, "{}", found.sentence()),
        }
        if trouble == Some(Trouble::Tls) {
            self.look_into(reason);
        }
    }

    /// Finds out what is wrong with TLS and says it, on a thread of its own, one at a time.
    fn look_into(&self, reason: &str) {
        let Some((host, port)) = broker(reason) else { return };
        if self.complaints.is_looked_into.swap(true, Ordering::AcqRel) {
            return;
        }
        let (host, contents, complaints) = (host.to_owned(), Arc::clone(&self.contents), Arc::clone(&self.complaints));
        let work = move || {
            if let Some(cause) = diagnosis::look(&host, port, &contents) {
                tracing::error!(broker = %format!("{host}:{port}"), cause, "no TLS with a broker, because");
            }
            complaints.is_looked_into.store(false, Ordering::Release);
        };
        if thread::Builder::new().name("tls-diagnosis".to_owned()).spawn(work).is_err() {
            self.complaints.is_looked_into.store(false, Ordering::Release);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let generation = self.generation;
        // librdkafka warns of options that it calls experimental; ours are chosen.
        // A failed connection comes as an error as well.
        let level = if matches!(facility, "CONFWARN" | "FAIL") { RDKafkaLogLevel::Debug } else { level };
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
        let trouble = Trouble::of(&error, reason);
        if let Some(trouble) = trouble {
            self.observer.trouble(self.generation, trouble);
        }
        if let Some(repeated) = self.complaints.note(common_part(reason)) {
            self.complain(trouble, &error, lasting_part(reason), repeated);
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
                self.delivered(message.partition(), message.offset())
            }
            Err((error, _)) => Err(Failure::of(error, self.is_dead())),
        };
        let token = u64::try_from(opaque).expect("a token was put in");
        self.observer.report(Report { generation: self.generation, token, outcome });
    }
}
