//! Metrics of logins and TLS towards Kafka.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Declare;

/// How what the files of `kafka.tls` and `kafka.sasl` hold relates to what producers log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    /// It is the same.
    Current,
    /// The files have changed, and the brokers refuse what they hold now: a producer that works goes on as it is.
    Refused,
    /// The files cannot be used: producers log in with what they held before.
    Unusable,
}

impl CredentialState {
    pub(super) const ALL: [Self; 3] = [Self::Current, Self::Refused, Self::Unusable];

    fn label(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Refused => "refused",
            Self::Unusable => "unusable",
        }
    }
}

/// What stands between a client and a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// The login.
    Authentication,
    /// Certificates, or one side that speaks no TLS.
    Tls,
    /// A name without an address.
    Name,
    /// The network, or a broker that is away.
    Connection,
    /// Anything else.
    Other,
}

impl ClientError {
    pub(super) const ALL: [Self; 5] = [Self::Authentication, Self::Tls, Self::Name, Self::Connection, Self::Other];

    fn label(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Tls => "tls",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Other => "other",
        }
    }
}

/// Metrics of logins and TLS towards Kafka.
pub struct CredentialMetrics {
    state: IntGaugeVec,
    changes: IntCounterVec,
    errors: IntCounterVec,
}

impl CredentialMetrics {
    pub(super) fn new(declare: &mut Declare) -> Self {
        let metrics = Self {
            state: declare.gauges(
                "kafka_credentials",
                "How the files of kafka.tls and kafka.sasl relate to what producers log in with: 1 for the present state.",
                &["state"],
            ),
            changes: declare.counters(
                "kafka_credential_changes_total",
                "Changes of the files of kafka.tls and kafka.sasl, by result.",
                &["result"],
            ),
            errors: declare.counters("kafka_client_errors_total", "Errors of Kafka clients, by reason.", &["reason"]),
        };
        metrics.state(CredentialState::Current);
        for result in ["taken", "rejected"] {
            metrics.changes.with_label_values(&[result]);
        }
        for error in ClientError::ALL {
            metrics.errors.with_label_values(&[error.label()]);
        }
        metrics
    }

    /// Says how files and producers relate.
    pub fn state(&self, state: CredentialState) {
        for known in CredentialState::ALL {
            self.state.with_label_values(&[known.label()]).set(i64::from(known == state));
        }
    }

    /// Counts a change of the files that was taken over, or could not be.
    pub fn changed(&self, taken: bool) {
        self.changes.with_label_values(&[if taken { "taken" } else { "rejected" }]).inc();
    }

    /// Counts what a client complained of.
    pub fn error(&self, error: ClientError) {
        self.errors.with_label_values(&[error.label()]).inc();
    }
}
