//! What each error of librdkafka means.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::report::{Failure, SendError};
use super::trouble::Trouble;

impl Failure {
    /// Classifies an error of a delivery report. `fatal` says whether the producer is dead: its reports carry the
    /// underlying code, not the fatal one. A code that says by itself what is wrong is kept, since a refused message
    /// leaves a gap and so kills its producer, and the operator must learn of the refusal.
    pub(super) fn of(error: &KafkaError, fatal: bool) -> Self {
        let Some(code) = error.rdkafka_error_code() else { return Self::Other };
        match code {
            // First, since these say whether a copy may exist.
            Code::PurgeQueue => Self::PurgedQueued,
            Code::PurgeInflight => Self::PurgedInFlight,
            Code::Fatal | Code::GaplessGuarantee | Code::Fenced => Self::Fatal,
            Code::MessageSizeTooLarge => Self::MessageTooLarge,
            Code::InvalidRecord => Self::InvalidRecord,
            Code::UnsupportedForMessageFormat => Self::UnsupportedForFormat,
            Code::InvalidTimestamp => Self::InvalidTimestamp,
            Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut => Self::TimedOut,
            Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => Self::NotEnoughReplicas,
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => Self::UnknownTopic,
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::SaslAuthenticationFailed => {
                Self::NotAuthorised
            }
            Code::AllBrokersDown | Code::BrokerTransportFailure | Code::BrokerNotAvailable | Code::Resolve => {
                Self::Unreachable
            }
            _ if fatal => Self::Fatal,
            _ => Self::Other,
        }
    }
}

impl SendError {
    pub(super) fn of(error: &KafkaError, fatal: bool) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => Self::QueueFull,
            _ => match Failure::of(error, fatal) {
                Failure::Fatal => Self::Fatal,
                failure => Self::Refused(failure),
            },
        }
    }
}

impl Trouble {
    /// Sorts an error that came with `reason`; `None` for the mere sum of others, that all brokers are down.
    #[must_use]
    pub fn of(error: &KafkaError, reason: &str) -> Option<Self> {
        let Some(code) = error.rdkafka_error_code() else { return Some(Self::Other) };
        Some(match code {
            Code::AllBrokersDown => return None,
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                Self::Authentication
            }
            Code::SSL => Self::Tls,
            Code::Resolve => Self::Name,
            // A broker that does not like our certificate says so when TLS 1.3 is through, and hangs up.
            Code::BrokerTransportFailure if reason.contains("SSL") => Self::Tls,
            Code::BrokerTransportFailure | Code::OperationTimedOut | Code::BrokerNotAvailable => Self::Connection,
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_dead_producer_is_fatal_unless_its_code_says_more() {
        let failed = |code| KafkaError::MessageProduction(code);
        assert_eq!(Failure::of(&failed(Code::OutOfOrderSequenceNumber), true), Failure::Fatal);
        assert_eq!(Failure::of(&failed(Code::PurgeQueue), true), Failure::PurgedQueued);
        assert_eq!(Failure::of(&failed(Code::TopicAuthorizationFailed), true), Failure::NotAuthorised);
        assert_eq!(Failure::of(&failed(Code::OutOfOrderSequenceNumber), false), Failure::Other);
        assert_eq!(SendError::of(&failed(Code::QueueFull), true), SendError::QueueFull);
        assert_eq!(SendError::of(&failed(Code::Fatal), false), SendError::Fatal);
        assert_eq!(
            SendError::of(&failed(Code::MessageSizeTooLarge), false),
            SendError::Refused(Failure::MessageTooLarge)
        );
    }

    #[test]
    fn errors_are_sorted_by_where_to_look() {
        let sorted = |code, reason: &str| Trouble::of(&KafkaError::Global(code), reason);
        assert_eq!(sorted(Code::Authentication, ""), Some(Trouble::Authentication));
        assert_eq!(sorted(Code::SSL, ""), Some(Trouble::Tls));
        assert_eq!(sorted(Code::BrokerTransportFailure, "SSL alert number 46"), Some(Trouble::Tls));
        assert_eq!(sorted(Code::BrokerTransportFailure, "Connection refused"), Some(Trouble::Connection));
        assert_eq!(sorted(Code::AllBrokersDown, ""), None);
    }
}
