//! Metrics of the keys, and of what they have signed.

use prometheus::{Gauge, Histogram, IntCounterVec, IntGaugeVec};

use super::Declare;
use crate::callback::Kind;
use crate::refusal::Refusal;

/// Bounds of the signature age in seconds: one step for every retry of the sender, and its expiry at 600.
const SIGNATURE_AGE_SECONDS: [f64; 16] =
    [0.0, 1.0, 5.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 600.0, 720.0, 840.0, 1020.0];

/// Metrics of the keys.
pub struct KeyMetrics {
    authentic: IntCounterVec,
    untimely: IntCounterVec,
    /// Time between signature and receipt.
    pub signature_age: Histogram,
    /// Seconds that our clock is ahead of the sender's; not a number until a signature tells.
    pub clock_offset: Gauge,
    reloads: IntCounterVec,
    rejected: IntGaugeVec,
}

impl KeyMetrics {
    pub(super) fn new(declare: &mut Declare, key_names: &[&str]) -> Self {
        let metrics = Self {
            authentic: declare.counters(
                "authentic_callbacks_total",
                "Authentic callbacks by the name of the key that signed them and by kind.",
                &["key", "kind"],
            ),
            untimely: declare.counters(
                "untimely_callbacks_total",
                "Callbacks refused as out of time although a key has signed them, by the name of the key and by reason.",
                &["key", "reason"],
            ),
            signature_age: declare.histogram(
                "signature_age_seconds",
                "Time between the making of an authentic signature and its receipt.",
                &SIGNATURE_AGE_SECONDS,
            ),
            clock_offset: declare.number(
                "clock_offset_seconds",
                "Seconds that our clock is ahead of the sender's, as far as signatures tell.",
            ),
            reloads: declare.counters("key_reloads_total", "Changes of key files seen, by result.", &["result"]),
            rejected: declare.gauges("key_file_rejected", "Whether a key file cannot be used: 1 or 0.", &["key"]),
        };
        for key in key_names {
            metrics.authentic.with_label_values(&[*key, Kind::Recording.label()]);
            for refusal in [Refusal::Expired, Refusal::TooFarAhead] {
                metrics.untimely.with_label_values(&[*key, refusal.label()]);
            }
            metrics.rejected.with_label_values(&[*key]);
        }
        for result in ["taken", "rejected"] {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics.clock_offset.set(f64::NAN);
        metrics
    }

    /// Counts an authentic callback; `kind` is `None` where it names no readable type.
    pub fn authentic(&self, key_name: &str, kind: Option<Kind>) {
        self.authentic.with_label_values(&[key_name, kind.map_or("unreadable", Kind::label)]).inc();
    }

    /// Counts a callback that a key has signed, refused for being out of time.
    pub fn untimely(&self, key_name: &str, refusal: Refusal) {
        self.untimely.with_label_values(&[key_name, refusal.label()]).inc();
    }

    /// Counts a change of a key file that was taken over, or could not be.
    pub fn reloaded(&self, taken: bool) {
        self.reloads.with_label_values(&[if taken { "taken" } else { "rejected" }]).inc();
    }

    /// Says whether the file of a key cannot be used.
    pub fn file_rejected(&self, key_name: &str, rejected: bool) {
        self.rejected.with_label_values(&[key_name]).set(i64::from(rejected));
    }
}
