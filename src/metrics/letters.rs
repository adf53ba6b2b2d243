//! Metrics of the dead letters, and the same of the other events.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Declare;

/// How the publishing of dead letters, or of other events, goes, and why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// Everything is published, or kept because the topic refuses it.
    Idle,
    /// Letters are on their way.
    Publishing,
    /// No broker answers, or some partition has no leader.
    Unreachable,
    /// The topic does not exist, or may not be seen.
    TopicMissing,
    /// The brokers do not let us write.
    NotAuthorised,
    /// The topic refuses so many letters that nothing more is tried.
    Refused,
    /// The folder cannot be read.
    Unreadable,
    /// Something else.
    Failing,
}

impl LetterState {
    pub(super) const ALL: [Self; 8] = [
        Self::Idle,
        Self::Publishing,
        Self::Unreachable,
        Self::TopicMissing,
        Self::NotAuthorised,
        Self::Refused,
        Self::Unreadable,
        Self::Failing,
    ];

    /// Value of the `state` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Publishing => "publishing",
            Self::Unreachable => "unreachable",
            Self::TopicMissing => "topic_missing",
            Self::NotAuthorised => "not_authorised",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Failing => "failing",
        }
    }
}

/// Metrics of the dead letters, or of the other events.
pub struct LetterMetrics {
    frames: IntGauge,
    bytes: IntGauge,
    bytes_max: IntGauge,
    oldest_seconds: IntGauge,
    damaged: IntGauge,
    set_aside: IntGauge,
    healthy: IntGauge,
    /// Letters written and synced.
    pub appended: IntCounter,
    /// Letters that could not be written.
    pub append_failures: IntCounter,
    /// Letters that the topic acknowledged.
    pub published: IntCounter,
    /// Letters that the topic refuses for good.
    pub refused: IntGauge,
    failures: IntCounterVec,
    state: IntGaugeVec,
}

/// How the dead letters are, in a moment.
#[derive(Debug, Clone, Copy)]
pub struct LetterGauges {
    /// Letters that are not published yet.
    pub frames: u64,
    /// Bytes taken on disk.
    pub bytes: u64,
    /// Bytes that may be taken.
    pub bytes_max: u64,
    /// Age of the oldest letter in seconds; 0 if there is none.
    pub oldest_seconds: i64,
    /// Stretches that could not be read.
    pub damaged: u64,
    /// Files kept for a human.
    pub set_aside: u64,
    /// Whether an append could succeed, as far as is known.
    pub healthy: bool,
}

impl LetterMetrics {
    /// `name` begins the name of each metric, and `what` is what its help speaks of.
    pub(super) fn new(declare: &mut Declare, (name, what): (&str, &str), failures: &[&str]) -> Self {
        let named = |end: &str| format!("{name}{end}");
        let help = |end: &str| format!("{what} {end}");
        let metrics = Self {
            frames: declare.gauge(name, &help("that are not published yet.")),
            bytes: declare.gauge(&named("_bytes"), &help("on disk, in bytes.")),
            bytes_max: declare.gauge(&named("_bytes_max"), &help("that the disk may take, in bytes.")),
            oldest_seconds: declare
                .gauge(&named("_oldest_age_seconds"), &help("that are not published yet: the age of the oldest.")),
            damaged: declare.gauge(&named("_damaged_stretches"), &help("that could not be read, in stretches.")),
            set_aside: declare
                .gauge(&named("_segments_set_aside"), &help("in damaged files that are kept for a human: the files.")),
            healthy: declare.gauge(&named("_healthy"), &help("could be written now: 1 or 0.")),
            appended: declare.counter(&named("_appended_total"), &help("written and synced.")),
            append_failures: declare.counter(&named("_append_failures_total"), &help("that could not be written.")),
            published: declare.counter(&named("_published_total"), &help("acknowledged by their topic.")),
            refused: declare.gauge(&named("_refused"), &help("that their topic refuses for good, kept on disk.")),
            failures: declare.counters(
                &named("_delivery_failures_total"),
                &help("whose delivery was reported as failed, by failure."),
                &["failure"],
            ),
            state: declare.gauges(
                &named("_state"),
                &help("and how their publishing goes: 1 for the present state."),
                &["state"],
            ),
        };
        for failure in failures {
            metrics.failures.with_label_values(&[*failure]);
        }
        for state in LetterState::ALL {
            metrics.state.with_label_values(&[state.label()]);
        }
        metrics
    }

    /// Counts a delivery report of failure under its label.
    pub fn failed(&self, failure: &'static str) {
        self.failures.with_label_values(&[failure]).inc();
    }

    /// Says how the publishing goes.
    pub fn state(&self, state: LetterState) {
        for known in LetterState::ALL {
            self.state.with_label_values(&[known.label()]).set(i64::from(known == state));
        }
    }

    /// Sets every gauge.
    pub fn observe(&self, gauges: &LetterGauges) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.frames, gauges.frames);
        set(&self.bytes, gauges.bytes);
        set(&self.bytes_max, gauges.bytes_max);
        set(&self.damaged, gauges.damaged);
        set(&self.set_aside, gauges.set_aside);
        self.oldest_seconds.set(gauges.oldest_seconds);
        self.healthy.set(i64::from(gauges.healthy));
    }
}
