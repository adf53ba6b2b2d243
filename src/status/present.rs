//! What is known of this moment, and how it is worded.

use serde::Serialize;

use crate::callback::Standing;
use crate::event::Timestamp;
use crate::metrics::{DeliveryState, SpoolGauges};

/// What is known of this moment.
#[derive(Debug)]
pub struct Present {
    /// This moment.
    pub at: Timestamp,
    /// Where new events go.
    pub state: DeliveryState,
    /// Whether a 200 could be made true.
    pub is_ready: bool,
    /// Whether the process has been told to stop.
    pub is_stopping: bool,
    /// The client of Kafka.
    pub kafka: KafkaPresent,
    /// The spool, if there is one.
    pub spool: Option<SpoolGauges>,
    /// Seconds that our clock is ahead of the sender's, if a signature tells.
    pub clock_ahead_seconds: Option<f64>,
    /// The path that takes callbacks.
    pub path: String,
    /// Requests whose head has reached the service.
    pub received: u64,
    /// Callbacks without an outcome yet.
    pub in_flight: u64,
    /// Connections that ended by a fault before a request's head was whole.
    pub connection_faults: u64,
}

/// Kafka, as its client sees it.
#[derive(Debug, Serialize)]
pub struct KafkaPresent {
    /// Brokers to begin with.
    pub brokers: Vec<String>,
    /// The topic of events.
    pub topic: String,
    /// The topic of dead letters.
    pub dead_letter_topic: String,
    /// Brokers that it is connected to.
    pub brokers_up: u64,
    /// Brokers that it is connecting to.
    pub brokers_connecting: u64,
    /// Brokers that it has no connection to.
    pub brokers_down: u64,
    /// Messages without a delivery report.
    pub outstanding_messages: u64,
    /// Whether the last probe found that it could take an event; `None` before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_events: Option<bool>,
    /// What keeps it from taking events, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

impl Present {
    /// The state in words.
    #[must_use]
    pub fn state_words(&self) -> &'static str {
        let without_spool =
            "Kafka does not take events, and there is no spool: callbacks are refused, and the sender keeps them.";
        if self.spool.is_some() && !self.is_ready && !self.is_stopping && self.state != DeliveryState::Stopped {
            return "Neither Kafka nor the spool takes new events: callbacks are refused, and the sender keeps them.";
        }
        match (self.state, self.spool.is_some(), self.kafka.takes_events) {
            (DeliveryState::Direct, _, Some(true)) => "Events go straight to Kafka.",
            (DeliveryState::Direct, _, None) => "Events go straight to Kafka, which has not answered yet.",
            (DeliveryState::Direct, true, Some(false)) => {
                "Kafka does not seem to take events. Each is tried, and kept in the spool if Kafka does not take it."
            }
            (DeliveryState::Spooling, true, _) => {
                "Kafka does not take events. They are kept in the spool, and published when it does."
            }
            (DeliveryState::Draining, true, Some(false)) => {
                "The spool is published as far as Kafka takes events, and new events go behind it."
            }
            (DeliveryState::Draining, true, _) => {
                "Kafka takes events again. The spool is being published, and new events go behind it."
            }
            (DeliveryState::Direct, false, Some(false))
            | (DeliveryState::Spooling | DeliveryState::Draining, false, _) => without_spool,
            (DeliveryState::Stopped, ..) => "The process is stopping.",
        }
    }

    /// The state for the style: how good it is stands beside its name where that is not in the name.
    #[must_use]
    pub fn state_class(&self) -> &'static str {
        match (self.state, self.is_ready, self.kafka.takes_events) {
            (DeliveryState::Direct, true, Some(true)) => "direct",
            (DeliveryState::Direct, true, _) => "direct doubtful",
            (DeliveryState::Direct, false, _) => "direct refusing",
            (DeliveryState::Spooling, true, _) => "spooling",
            (DeliveryState::Spooling, false, _) => "spooling refusing",
            (DeliveryState::Draining, true, _) => "draining",
            (DeliveryState::Draining, false, _) => "draining refusing",
            (DeliveryState::Stopped, ..) => "stopped",
        }
    }

    /// The state for the title of the page.
    #[must_use]
    pub fn title(&self) -> String {
        let unready = if self.is_ready { "" } else { ", not ready" };
        format!("{}{unready}", self.state.label())
    }

    /// Whether a 200 could be made true, and if not, why.
    #[must_use]
    pub fn readiness_words(&self) -> String {
        if self.is_ready {
            return "Ready: callbacks are acknowledged.".to_owned();
        }
        let obstacle = self.kafka.obstacle.as_deref();
        let reason = match &self.spool {
            _ if self.is_stopping => "the process is stopping",
            Some(spool) if spool.full => "the spool is full, and Kafka does not take new events",
            Some(spool) if !spool.healthy => {
                "the spool cannot be written (look at the log and its volume), and Kafka does not take new events"
            }
            _ => obstacle.unwrap_or("Kafka does not take events, or has not answered yet"),
        };
        format!("Not ready: {reason}.")
    }

    /// What there is, by name, for people.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let kafka = &self.kafka;
        let kafka_words = match (kafka.takes_events, self.state) {
            (None, _) => "has not answered yet",
            (Some(false), _) => kafka.obstacle.as_deref().unwrap_or("does not take events"),
            (Some(true), DeliveryState::Spooling) => "answers; whether it takes events again is being tried",
            (Some(true), _) => "takes events",
        };
        let (up, connecting, down) = (kafka.brokers_up, kafka.brokers_connecting, kafka.brokers_down);
        let brokers = match (up, connecting, down) {
            (0, 0, 0) => "not known yet".to_owned(),
            _ => format!("{up} connected, {connecting} connecting, {down} not connected"),
        };
        let faults = self.connection_faults;
        vec![
            ("Kafka", kafka_words.to_owned()),
            ("Spool", self.spool.as_ref().map_or_else(|| "none (spool.enabled is false)".to_owned(), spool_words)),
            ("Brokers", brokers),
            ("Found through", kafka.brokers.join(", ")),
            ("Topic", kafka.topic.clone()),
            ("Dead letters", kafka.dead_letter_topic.clone()),
            ("Unacknowledged", format!("{} messages", kafka.outstanding_messages)),
            ("Our clock", self.clock_words()),
            ("Path of callbacks", self.path.clone()),
            ("Requests", format!("{} since the start, {} under way", self.received, self.in_flight)),
            ("No requests", format!("{faults} connections brought none that could be read (TLS, HTTP)")),
            ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ]
    }

    /// What the clocks come to, in words.
    #[must_use]
    pub fn clock_words(&self) -> String {
        let Some(ahead) = self.clock_ahead_seconds else {
            return "unknown until a callback is authentic".to_owned();
        };
        // It is the smallest of what callbacks say, so the clock may be further behind, and not as far ahead.
        let (bound, side) = if ahead < 0.0 { ("at least", "behind") } else { ("at most", "ahead of") };
        let seconds = ahead.abs();
        let verdict = match Standing::of(ahead) {
            Standing::Agrees => "agrees",
            Standing::Ahead => "synchronise it, unless only late retries came of late",
            Standing::Behind => "synchronise it",
        };
        format!("{bound} {seconds:.1} s {side} the sender's: {verdict}")
    }
}

fn spool_words(spool: &SpoolGauges) -> String {
    let verdict = match (spool.full, spool.healthy) {
        (true, _) => "full: bring Kafka back, or raise spool.bytes_max; ",
        (false, false) => "cannot be written: look at the log and its volume; ",
        (false, true) => "",
    };
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let hundredths = spool.bytes.saturating_mul(100).checked_div(spool.bytes_max).unwrap_or(0);
    let (taken, most) = (mebibytes(spool.bytes), mebibytes(spool.bytes_max));
    let waiting = match spool.frames {
        0 => "no event waits".to_owned(),
        1 => format!("1 event waits, for {} s now", spool.oldest_seconds),
        frames => format!("{frames} events wait, the oldest for {} s", spool.oldest_seconds),
    };
    format!("{verdict}{waiting}; {taken} MiB of {most} MiB ({hundredths} %)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(state: DeliveryState, takes_events: Option<bool>, spool: Option<SpoolGauges>) -> Present {
        Present {
            at: Timestamp::from_seconds(1_770_000_000, 0).unwrap(),
            state,
            is_ready: true,
            is_stopping: false,
            kafka: KafkaPresent {
                brokers: vec!["kafka:9092".to_owned()],
                topic: "recordings".to_owned(),
                dead_letter_topic: "recordings.dead-letter".to_owned(),
                brokers_up: 0,
                brokers_connecting: 0,
                brokers_down: 0,
                outstanding_messages: 0,
                takes_events,
                obstacle: (takes_events == Some(false)).then(|| "the topic does not exist".to_owned()),
            },
            spool,
            clock_ahead_seconds: None,
            path: String::new(),
            received: 0,
            in_flight: 0,
            connection_faults: 0,
        }
    }

    fn spool(healthy: bool, full: bool) -> SpoolGauges {
        let (bytes, bytes_max) = (10 << 20, 10 << 20);
        let (room, segments, damaged, set_aside) = (0, 1, 0, 0);
        SpoolGauges {
            frames: 7,
            bytes,
            bytes_max,
            room,
            oldest_seconds: 9,
            segments,
            damaged,
            set_aside,
            healthy,
            full,
        }
    }

    fn fact(present: &Present, wanted: &str) -> String {
        present.facts().into_iter().find(|(name, _)| *name == wanted).unwrap().1
    }

    #[test]
    fn kafka_is_worded_by_what_the_last_probe_found_and_never_better() {
        for state in [DeliveryState::Direct, DeliveryState::Spooling, DeliveryState::Draining] {
            for spool in [Some(spool(true, false)), None] {
                let words = |takes_events| {
                    let present = present(state, takes_events, spool);
                    (fact(&present, "Kafka"), present.state_words(), present.state_class())
                };
                let (kafka, state_words, class) = words(Some(false));
                assert_eq!(kafka, "the topic does not exist");
                assert!(!state_words.contains("go straight") && !state_words.contains("takes events again"));
                assert_ne!(class, "direct");
                let (kafka, state_words, class) = words(None);
                assert_eq!(kafka, "has not answered yet");
                assert!(state_words != "Events go straight to Kafka." && class != "direct");
                let (kafka, ..) = words(Some(true));
                assert_eq!(kafka == "takes events", state != DeliveryState::Spooling, "{kafka}");
            }
        }
        let well = present(DeliveryState::Direct, Some(true), None);
        assert_eq!((well.state_words(), well.state_class()), ("Events go straight to Kafka.", "direct"));
        assert_eq!(fact(&well, "Brokers"), "not known yet");
    }

    #[test]
    fn without_a_spool_an_outage_is_no_green_direct() {
        let mut down = present(DeliveryState::Direct, Some(false), None);
        down.is_ready = false;
        assert_eq!((down.state_class(), down.title()), ("direct refusing", "direct, not ready".to_owned()));
        assert!(down.state_words().contains("callbacks are refused"), "{}", down.state_words());
        assert_eq!(down.readiness_words(), "Not ready: the topic does not exist.");
    }

    #[test]
    fn a_full_spool_is_told_from_one_that_cannot_be_written_and_both_show_what_they_hold() {
        for (healthy, full, right, wrong) in [
            (true, false, "7 events wait", "cannot be written"),
            (false, true, "full", "cannot be written"),
            (false, false, "cannot be written", "full"),
        ] {
            let mut present = present(DeliveryState::Spooling, Some(false), Some(spool(healthy, full)));
            present.is_ready = healthy;
            let words = fact(&present, "Spool");
            assert!(words.contains(right) && !words.contains(wrong), "{words}");
            assert!(words.ends_with("7 events wait, the oldest for 9 s; 10 MiB of 10 MiB (100 %)"), "{words}");
            let readiness = present.readiness_words();
            assert!(healthy || readiness.contains(right) && !readiness.contains(wrong), "{readiness}");
            let state_words = present.state_words();
            assert_eq!(healthy, state_words.contains("are kept in the spool"), "{state_words}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_so_at_least() {
        let words = |ahead| Present { clock_ahead_seconds: Some(ahead), ..present(DeliveryState::Direct, None, None) };
        assert_eq!(words(0.5).clock_words(), "at most 0.5 s ahead of the sender's: agrees");
        assert_eq!(words(-90.0).clock_words(), "at least 90.0 s behind the sender's: synchronise it");
    }
}
