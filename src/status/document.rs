//! What is shown, as JSON. Members that do not apply are left out.

use std::fmt::Display;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Extract, Journal, KafkaPresent, Place, Present, Row};
use crate::event::Timestamp;
use crate::metrics::Outcome;

#[derive(Serialize)]
struct Wire<'a> {
    version: &'static str,
    #[serde(serialize_with = "display")]
    begun_at: Timestamp,
    #[serde(serialize_with = "display")]
    at: Timestamp,
    state: &'static str,
    state_words: &'static str,
    state_class: &'static str,
    title: String,
    is_ready: bool,
    readiness: String,
    path: &'a str,
    received: u64,
    in_flight: u64,
    connection_faults: u64,
    kafka: &'a KafkaPresent,
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<WireSpool>,
    clock: WireClock,
    keys: Vec<WireKey<'a>>,
    facts: Vec<(&'static str, String)>,
    hour: Vec<WireMinute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callbacks: Option<Vec<WireRow<'a>>>,
}

#[derive(Serialize)]
struct WireSpool {
    events: u64,
    bytes: u64,
    bytes_max: u64,
    room_bytes: u64,
    oldest_age_seconds: i64,
    is_healthy: bool,
    is_full: bool,
}

#[derive(Serialize)]
struct WireClock {
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_seconds: Option<f64>,
    words: String,
}

#[derive(Serialize)]
struct WireKey<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_at: Option<String>,
}

impl<'a> WireKey<'a> {
    fn of((name, verified_at): (&'a str, Option<Timestamp>)) -> Self {
        Self { name, verified_at: verified_at.map(|at| at.to_string()) }
    }
}

#[derive(Serialize)]
struct WireMinute {
    #[serde(serialize_with = "display")]
    at: Timestamp,
    accepted: u32,
    spooled: u32,
    other: u32,
    refused: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct WireRow<'a> {
    number: u64,
    #[serde(serialize_with = "display")]
    pub(super) at: Timestamp,
    pub(super) outcome: &'static str,
    pub(super) reason: &'static str,
    is_authentic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) file: String,
    pub(super) milliseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spool_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<IpAddr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    member: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<&'static str>,
}

#[derive(Serialize)]
struct WireRows<'a> {
    callbacks: Vec<WireRow<'a>>,
}

fn display<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::cast_precision_loss, reason = "durations of callbacks are far below 2^52 µs")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

const CONSTANT: &str = "these types have nothing that JSON cannot express";

impl Journal {
    /// Everything: this moment, the last hour and the last callbacks.
    ///
    /// # Panics
    /// Never: there is nothing in it that JSON cannot express.
    #[must_use]
    pub fn document(&self, present: &Present) -> String {
        let extract = self.since(0);
        let wire = self.wire(present, Some(self.rows(&extract)));
        serde_json::to_string(&wire).expect(CONSTANT)
    }

    /// This moment and the last hour.
    ///
    /// # Panics
    /// Never, as above.
    #[must_use]
    pub fn present(&self, present: &Present) -> String {
        serde_json::to_string(&self.wire(present, None)).expect(CONSTANT)
    }

    /// These callbacks.
    ///
    /// # Panics
    /// Never, as above.
    #[must_use]
    pub fn callbacks(&self, extract: &Extract) -> String {
        serde_json::to_string(&WireRows { callbacks: self.rows(extract) }).expect(CONSTANT)
    }

    pub(super) fn rows(&self, extract: &Extract) -> Vec<WireRow<'_>> {
        extract.rows.iter().map(|row| self.row(row)).collect()
    }

    fn wire<'a>(&'a self, present: &'a Present, callbacks: Option<Vec<WireRow<'a>>>) -> Wire<'a> {
        Wire {
            version: env!("CARGO_PKG_VERSION"),
            begun_at: self.begun(),
            at: present.at,
            state: present.state.label(),
            state_words: present.state_words(),
            state_class: present.state_class(),
            title: present.title(),
            is_ready: present.is_ready,
            readiness: present.readiness_words(),
            path: &present.path,
            received: present.received,
            in_flight: present.in_flight,
            connection_faults: present.connection_faults,
            kafka: &present.kafka,
            spool: present.spool.map(|spool| WireSpool {
                events: spool.frames,
                bytes: spool.bytes,
                bytes_max: spool.bytes_max,
                room_bytes: spool.room,
                oldest_age_seconds: spool.oldest_seconds,
                is_healthy: spool.healthy,
                is_full: spool.full,
            }),
            clock: WireClock { ahead_seconds: present.clock_ahead_seconds, words: present.clock_words() },
            keys: self.keys().into_iter().map(WireKey::of).collect(),
            facts: present.facts(),
            hour: self.minutes(present.at),
            callbacks,
        }
    }

    fn minutes(&self, now: Timestamp) -> Vec<WireMinute> {
        let minutes = self.hour();
        let minutes = minutes.until(now).map(|minute| WireMinute {
            at: u64::try_from(minute.begins())
                .ok()
                .and_then(|second| Timestamp::from_seconds(second, 0))
                .unwrap_or(now),
            accepted: minute.accepted,
            spooled: minute.spooled,
            other: minute.other,
            refused: minute.refused,
            p50_ms: minute.quantile(50).map(milliseconds),
            p99_ms: minute.quantile(99).map(milliseconds),
        });
        minutes.collect()
    }

    fn row(&self, row: &Row) -> WireRow<'_> {
        let (partition, offset, spool_sequence) = match row.place {
            Some(Place::Kafka { partition, offset }) => (Some(partition), Some(offset), None),
            Some(Place::Spool(sequence)) => (None, None, Some(sequence)),
            None => (None, None, None),
        };
        WireRow {
            number: row.number,
            at: row.at,
            outcome: row.outcome.label(),
            reason: row.outcome.reason(),
            is_authentic: row.signed.is_some_and(|signed| signed.is_timely),
            key: row.signed.map(|signed| self.key_name(signed.key_index)),
            kind: row.signed.and_then(|signed| signed.kind).map(crate::callback::Kind::label),
            stream: row.stream.shown(),
            file: row.signed.map(|signed| signed.file.shown()).unwrap_or_default(),
            milliseconds: milliseconds(row.microseconds),
            partition,
            offset,
            spool_sequence,
            source: row.source,
            member: row.member,
            hint: match row.outcome {
                Outcome::Refused(refusal) => Some(refusal.advice_to(row.signed.is_some())),
                Outcome::DeadLettered(_) => Some("no event can be made of it: look at the member that is named"),
                _ => None,
            },
        }
    }
}
