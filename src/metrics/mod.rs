//! Every metric as a typed field, every label value from a closed set.
//!
//! Declared once, here; the table in the README is checked against these declarations by a test. Label values are
//! enums of this crate, names from the configuration or the id of the spool, never input. Counters whose labels are known are created at
//! start, so that a rate is right from the first event on.

mod credentials;
mod keys;
mod labels;
mod letters;
mod repeats;
mod spool;
mod tls;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::callback::Kind;
use crate::refusal::Refusal;
pub use credentials::{ClientError, CredentialMetrics, CredentialState};
pub use keys::KeyMetrics;
pub use labels::{BrokerState, ConnectionFault, ConnectionRefusal, DeliveryState, Outcome, RebuildReason};
pub use letters::{LetterGauges, LetterMetrics, LetterState};
pub use repeats::RepeatsMetrics;
pub use spool::{SpoolGauges, SpoolMetrics};
pub use tls::TlsMetrics;

/// Bounds of the duration buckets in seconds: from the half millisecond of a good day to the sender's 20 s.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// Every metric of the bridge.
pub struct Metrics {
    registry: Registry,
    /// Requests whose head has reached the service.
    pub received: IntCounter,
    callbacks: IntCounterVec,
    accepted: IntCounter,
    spooled: IntCounter,
    /// Callbacks between their head and their outcome.
    pub in_flight: IntGauge,
    duration: HistogramVec,
    accepted_duration: Histogram,
    /// The keys, and what they have signed.
    pub keys: KeyMetrics,
    /// Unknown members that did not fit into an event.
    pub members_dropped: IntCounter,
    /// Deliveries acknowledged by Kafka after their callback had been refused.
    pub delivered_after_refusal: IntCounter,
    /// Time from handing a message to the producer to its acknowledgement.
    pub ack_duration: Histogram,
    /// Messages without a delivery report.
    pub outstanding: IntGauge,
    failures: IntCounterVec,
    /// Messages in the producer's queue, by its own count.
    pub queue_messages: IntGauge,
    /// Bytes in the producer's queue, by its own count.
    pub queue_bytes: IntGauge,
    brokers: IntGaugeVec,
    rebuilds: IntCounterVec,
    /// Open connections of the callback listener.
    pub connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_evicted: IntCounterVec,
    connection_faults: IntCounterVec,
    /// Whether a 200 could be made true: 1 or 0.
    pub ready: IntGauge,
    state: IntGaugeVec,
    /// The certificate of the callback listener.
    pub tls: TlsMetrics,
    /// Logins and TLS towards Kafka.
    pub credentials: CredentialMetrics,
    /// The window of repeats.
    pub repeats: RepeatsMetrics,
    /// The spool.
    pub spool: SpoolMetrics,
    /// The dead letters.
    pub letters: LetterMetrics,
    /// The callbacks of other kinds that are passed on.
    pub other_events: LetterMetrics,
}

impl Metrics {
    /// Declares every metric; `key_names` are the configured names, `failures` the labels of failed deliveries.
    #[must_use]
    pub fn new(key_names: &[&str], failures: &[&str], librdkafka: &str) -> Self {
        let mut declare = Declare { registry: Registry::new() };
        let callbacks = declare.counters("callbacks_total", "Callbacks by outcome and reason.", &["outcome", "reason"]);
        let duration = declare.histograms(
            "callback_duration_seconds",
            "Time from a request's head to its answer, by outcome.",
            &SECONDS,
            &["outcome"],
        );
        Self {
            received: declare.counter("callbacks_received_total", "Requests whose head has reached the service, those for the health path excepted."),
            spooled: callbacks.with_label_values(&[Outcome::Spooled.label(), Outcome::Spooled.reason()]),
            accepted: callbacks.with_label_values(&[Outcome::Accepted.label(), Outcome::Accepted.reason()]),
            callbacks,
            in_flight: declare.gauge("callbacks_in_flight", "Callbacks between their head and their outcome."),
            accepted_duration: duration.with_label_values(&[Outcome::Accepted.label()]),
            duration,
            keys: KeyMetrics::new(&mut declare, key_names),
            members_dropped: declare.counter(
                "members_dropped_total",
                "Members of callbacks that were left out of their events: unknown ones that are nested, too long, too many, or no plain number, and those of record_detail that cannot be read.",
            ),
            delivered_after_refusal: declare.counter(
                "delivered_after_refusal_total",
                "Events acknowledged by Kafka after their callback had been refused; the sender's retry repeats them.",
            ),
            ack_duration: declare.histogram(
                "kafka_ack_duration_seconds",
                "Time from handing a message to the producer to its acknowledgement.",
                &SECONDS,
            ),
            outstanding: declare.gauge("kafka_outstanding_messages", "Messages without a delivery report."),
            failures: declare.counters("kafka_delivery_failures_total", "Failed deliveries, by failure.", &["failure"]),
            queue_messages: declare.gauge("kafka_queue_messages", "Messages in the producer's queue."),
            queue_bytes: declare.gauge("kafka_queue_bytes", "Bytes in the producer's queue."),
            brokers: declare.gauges("kafka_brokers", "Brokers by state of the connection.", &["state"]),
            rebuilds: declare.counters("kafka_producer_rebuilds_total", "Producers replaced, by reason.", &["reason"]),
            connections: declare.gauge("connections", "Open connections of the callback listener."),
            connections_refused: declare.counters(
                "connections_refused_total",
                "Connections closed on arrival, by reason.",
                &["reason"],
            ),
            connections_evicted: declare.counters(
                "connections_evicted_total",
                "Idle connections closed to make room for new ones, by reason.",
                &["reason"],
            ),
            connection_faults: declare.counters(
                "connection_faults_total",
                "Connections ended before a request's head was whole and well formed, by reason.",
                &["reason"],
            ),
            ready: declare.gauge("ready", "Whether a 200 could be made true now: 1 or 0."),
            state: declare.gauges("delivery_state", "Where new events go: 1 for the present state.", &["state"]),
            tls: TlsMetrics::new(&mut declare),
            credentials: CredentialMetrics::new(&mut declare),
            repeats: RepeatsMetrics::new(&mut declare),
            spool: SpoolMetrics::new(&mut declare),
            letters: LetterMetrics::new(&mut declare, ("dead_letters", "Dead letters"), failures),
            other_events: LetterMetrics::new(&mut declare, ("other_events", "Other events"), failures),
            registry: declare.registry,
        }
        .completed(failures, librdkafka)
    }

    fn completed(self, failures: &[&str], librdkafka: &str) -> Self {
        self.create_known_series(failures);
        self.describe_build(librdkafka);
        self
    }

    /// Series that exist from the start read 0 instead of being absent.
    fn create_known_series(&self, failures: &[&str]) {
        let refusals = Refusal::ALL.into_iter().map(Outcome::Refused);
        let ignored = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Recording).map(Outcome::Ignored);
        let passed_on = Kind::ALL.into_iter().map(Outcome::PassedOn);
        let dead_lettered = [Refusal::MemberMissing, Refusal::MemberInvalid].map(Outcome::DeadLettered);
        for outcome in refusals
            .chain(ignored)
            .chain(passed_on)
            .chain(dead_lettered)
            .chain([Outcome::Duplicate, Outcome::Unresolved])
        {
            self.callbacks.with_label_values(&[outcome.label(), outcome.reason()]);
        }
        for failure in failures {
            self.failures.with_label_values(&[*failure]);
        }
        for state in BrokerState::ALL {
            self.brokers.with_label_values(&[state.label()]);
        }
        for state in DeliveryState::ALL {
            self.state.with_label_values(&[state.label()]);
        }
        for reason in RebuildReason::ALL {
            self.rebuilds.with_label_values(&[reason.label()]);
        }
        for reason in ConnectionRefusal::ALL {
            self.connections_refused.with_label_values(&[reason.label()]);
            if reason != ConnectionRefusal::NotAccepted {
                self.connections_evicted.with_label_values(&[reason.label()]);
            }
        }
        for reason in ConnectionFault::ALL {
            self.connection_faults.with_label_values(&[reason.label()]);
        }
    }

    fn describe_build(&self, librdkafka: &str) {
        let build = IntGaugeVec::new(
            Opts::new("recording_bridge_build_info", "Always 1; the labels name the build."),
            &["version", "librdkafka"],
        )
        .expect("the name and labels are constants in the form that Prometheus asks for");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), librdkafka]).set(1);
        register(&self.registry, build);
        #[cfg(target_os = "linux")]
        self.registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the process is described once");
    }

    /// Counts the end of a callback that took `seconds`.
    pub fn resolved(&self, outcome: Outcome, seconds: f64) {
        match outcome {
            Outcome::Accepted => self.accepted.inc(),
            Outcome::Spooled => self.spooled.inc(),
            _ => {
                self.callbacks.with_label_values(&[outcome.label(), outcome.reason()]).inc();
                self.duration.with_label_values(&[outcome.label()]).observe(seconds);
                return;
            }
        }
        self.accepted_duration.observe(seconds);
    }

    /// Counts a delivery report of failure under its label.
    pub fn delivery_failed(&self, failure: &'static str) {
        self.failures.with_label_values(&[failure]).inc();
    }

    /// Sets the number of brokers in a state.
    pub fn brokers(&self, state: BrokerState, count: usize) {
        self.brokers.with_label_values(&[state.label()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says where new messages go.
    pub fn delivery_state(&self, state: DeliveryState) {
        for known in DeliveryState::ALL {
            self.state.with_label_values(&[known.label()]).set(i64::from(known == state));
        }
    }

    /// Where new messages go, as it was said last.
    #[must_use]
    pub fn present_state(&self) -> DeliveryState {
        let is_present = |state: &DeliveryState| self.state.with_label_values(&[state.label()]).get() != 0;
        // None is marked for a moment while the mark moves on.
        DeliveryState::ALL.into_iter().find(is_present).unwrap_or(DeliveryState::Direct)
    }

    /// The number of brokers in a state, as it was said last.
    #[must_use]
    pub fn brokers_in(&self, state: BrokerState) -> u64 {
        u64::try_from(self.brokers.with_label_values(&[state.label()]).get()).unwrap_or(0)
    }

    /// Connections of the callback listener that ended by a fault.
    #[must_use]
    pub fn connection_fault_count(&self) -> u64 {
        let count = |fault: ConnectionFault| self.connection_faults.with_label_values(&[fault.label()]).get();
        ConnectionFault::ALL.into_iter().map(count).sum()
    }

    /// Counts a replaced producer.
    pub fn producer_rebuilt(&self, reason: RebuildReason) {
        self.rebuilds.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a connection that was closed on arrival.
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        self.connections_refused.with_label_values(&[reason.label()]).inc();
    }

    /// Counts an idle connection that had to make room for a new one.
    pub fn connection_evicted(&self, reason: ConnectionRefusal) {
        self.connections_evicted.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a connection that ended by a fault.
    pub fn connection_fault(&self, fault: ConnectionFault) {
        self.connection_faults.with_label_values(&[fault.label()]).inc();
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes and registers metrics, all under the project's prefix.
struct Declare {
    registry: Registry,
}

const CONSTANT: &str = "metric names, helps, labels and buckets are constants in the form that Prometheus asks for";

impl Declare {
    fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        register(&self.registry, IntCounter::new(prefixed(name), help).expect(CONSTANT))
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        register(&self.registry, IntCounterVec::new(Opts::new(prefixed(name), help), labels).expect(CONSTANT))
    }

    fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        register(&self.registry, IntGauge::new(prefixed(name), help).expect(CONSTANT))
    }

    fn number(&mut self, name: &str, help: &str) -> Gauge {
        register(&self.registry, Gauge::new(prefixed(name), help).expect(CONSTANT))
    }

    fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        register(&self.registry, IntGaugeVec::new(Opts::new(prefixed(name), help), labels).expect(CONSTANT))
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec());
        register(&self.registry, Histogram::with_opts(options).expect(CONSTANT))
    }

    fn histograms(&mut self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec());
        register(&self.registry, HistogramVec::new(options, labels).expect(CONSTANT))
    }
}

fn prefixed(name: &str) -> String {
    format!("recording_bridge_{name}")
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("every metric is declared once, under its own name");
    collector
}

/// Media type of [`Metrics::render`].
pub use prometheus::TEXT_FORMAT;
