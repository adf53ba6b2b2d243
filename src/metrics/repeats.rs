//! Metrics of the window of repeats. Repeats themselves are an outcome of callbacks.

use prometheus::{IntCounter, IntGauge};

use super::Declare;

/// Metrics of the window of repeats.
pub struct RepeatsMetrics {
    /// Messages that were published although another version of their event was known.
    pub conflicts: IntCounter,
    /// Entries in use.
    pub entries: IntGauge,
    /// Most entries.
    pub entries_max: IntGauge,
    /// How far back repeats are recognised for sure.
    pub covered_seconds: IntGauge,
}

impl RepeatsMetrics {
    pub(super) fn new(declare: &mut Declare) -> Self {
        Self {
            conflicts: declare
                .counter("conflicts_total", "Events published although another version of them had been seen."),
            entries: declare.gauge("repeats_entries", "Events in the window of repeats."),
            entries_max: declare.gauge("repeats_entries_max", "Events for which the window of repeats has room."),
            covered_seconds: declare.gauge("repeats_covered_seconds", "How far back repeats are recognised for sure."),
        }
    }
}
