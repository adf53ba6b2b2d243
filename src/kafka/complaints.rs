//! What librdkafka complains of, kept from flooding the log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What librdkafka complained of since Kafka last acknowledged a message. All producers of a topic share it, since in an
/// outage each new one complains of the same again.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// How often, by subject.
    counts: Mutex<HashMap<String, u64>>,
    /// Whether there are any: acknowledgements look here first.
    any: AtomicBool,
    /// Somebody is finding out what is wrong with a broker's TLS.
    pub(super) is_looked_into: AtomicBool,
}

/// Most subjects that are told apart. They hold what brokers say, so their number is not ours.
const SUBJECTS_MAX: usize = 64;

impl Complaints {
    /// How often `subject` was complained of, if that is worth a line: the first time, and when it is 8, 64, 512 times and
    /// so on. librdkafka repeats some for every attempt to connect, dozens a second for as long as an outage lasts.
    pub(super) fn note(&self, subject: &str) -> Option<u64> {
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
    pub(super) fn forget(&self) {
        if self.any.load(Ordering::Acquire) {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Release);
            counts.clear();
        }
    }
}

/// What differs from time to time stands behind this: "(after 2ms in state CONNECT, 1 identical error(s) suppressed)".
pub(super) fn lasting_part(text: &str) -> &str {
    text.split(" (after ").next().unwrap_or(text)
}

/// The lasting part without the broker in front (`ssl://kafka-1:9093/bootstrap: `): what all brokers have in common.
pub(super) fn common_part(text: &str) -> &str {
    let lasting = lasting_part(text);
    let behind = lasting.split_once("://").and_then(|(_, behind)| behind.split_once(": "));
    behind.map_or(lasting, |(_, common)| common)
}

/// Host and port of the broker that `text` begins with.
pub(super) fn broker(text: &str) -> Option<(&str, u16)> {
    let (_, behind) = text.split_once("://")?;
    let (host, port) = behind.split('/').next()?.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
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
        assert_eq!(common_part("ssl://k:9092/bootstrap: SSL handshake failed: why (after 0ms in state CONNECT)"), {
            "SSL handshake failed: why"
        });
        assert_eq!(common_part("2/2 brokers are down"), "2/2 brokers are down");
    }

    #[test]
    fn the_broker_is_read_from_what_is_said_of_it() {
        assert_eq!(broker("ssl://k-1.example.com:9093/bootstrap: failed"), Some(("k-1.example.com", 9093)));
        assert_eq!(broker("sasl_ssl://[::1]:9093/1: failed"), Some(("::1", 9093)));
        assert_eq!(broker("2/2 brokers are down"), None);
    }
}
