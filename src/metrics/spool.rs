//! Metrics of the spool.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::{Declare, SECONDS};

/// Bounds of the buckets of frames in one group commit.
const FRAMES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];

/// Metrics of the spool.
pub struct SpoolMetrics {
    frames: IntGauge,
    bytes: IntGauge,
    bytes_max: IntGauge,
    room: IntGauge,
    info: IntGaugeVec,
    oldest_seconds: IntGauge,
    segments: IntGauge,
    damaged: IntGauge,
    set_aside: IntGauge,
    healthy: IntGauge,
    /// Why it is not healthy, for the status page alone.
    is_full: AtomicBool,
    /// Time of one group commit, sync included.
    pub append_duration: Histogram,
    /// Frames of one group commit.
    pub batch_frames: Histogram,
    /// Frames that were published.
    pub drained: IntCounter,
    /// Frames that Kafka refuses for good, in the dead letters.
    pub dead_lettered: IntCounter,
}

/// How the spool is, in a moment.
#[derive(Debug, Clone, Copy)]
pub struct SpoolGauges {
    /// Frames that are not published yet.
    pub frames: u64,
    /// Bytes taken on disk.
    pub bytes: u64,
    /// Bytes that may be taken.
    pub bytes_max: u64,
    /// Bytes of events for which there is room.
    pub room: u64,
    /// Age of the oldest frame in seconds; 0 if there is none.
    pub oldest_seconds: i64,
    /// Segment files.
    pub segments: u64,
    /// Stretches that could not be read.
    pub damaged: u64,
    /// Files kept for a human.
    pub set_aside: u64,
    /// Whether an append could succeed, as far as is known.
    pub healthy: bool,
    /// Whether there is no room for another event: then it is not healthy, and nothing is wrong with its storage.
    pub full: bool,
}

impl SpoolMetrics {
    pub(super) fn new(declare: &mut Declare) -> Self {
        Self {
            frames: declare.gauge("spool_frames", "Events in the spool that are not published yet."),
            bytes: declare.gauge("spool_bytes", "Bytes that the spool takes on disk."),
            bytes_max: declare.gauge("spool_bytes_max", "Bytes that the spool may take on disk."),
            room: declare.gauge("spool_room_bytes", "Bytes of events for which the spool and its volume have room."),
            info: declare.gauges(
                "spool_info",
                "Always 1; the label names the spool, whichever process has it.",
                &["spool"],
            ),
            oldest_seconds: declare.gauge("spool_oldest_age_seconds", "Age of the oldest event in the spool."),
            segments: declare.gauge("spool_segments", "Segment files of the spool."),
            damaged: declare.gauge("spool_damaged_stretches", "Stretches of the spool that could not be read."),
            set_aside: declare.gauge("spool_segments_set_aside", "Damaged segment files that are kept for a human."),
            healthy: declare.gauge("spool_healthy", "Whether the spool could take an event now: 1 or 0."),
            is_full: AtomicBool::new(false),
            append_duration: declare.histogram(
                "spool_append_duration_seconds",
                "Time to write and sync one batch of events.",
                &SECONDS,
            ),
            batch_frames: declare.histogram("spool_batch_frames", "Events in one batch.", &FRAMES),
            drained: declare.counter("spool_drained_total", "Events of the spool that were published."),
            dead_lettered: declare
                .counter("spool_dead_lettered_total", "Events that Kafka refuses for good and that were set aside."),
        }
    }

    /// Names the spool by its own id: so it is seen that nobody has it any more.
    pub fn identify(&self, id: &str) {
        self.info.with_label_values(&[id]).set(1);
    }

    /// What the gauges say, as of the last [`SpoolMetrics::observe`].
    #[must_use]
    pub fn last(&self) -> SpoolGauges {
        let get = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        SpoolGauges {
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            bytes_max: get(&self.bytes_max),
            room: get(&self.room),
            oldest_seconds: self.oldest_seconds.get(),
            segments: get(&self.segments),
            damaged: get(&self.damaged),
            set_aside: get(&self.set_aside),
            healthy: self.healthy.get() != 0,
            full: self.is_full.load(Ordering::Relaxed),
        }
    }

    /// Sets every gauge.
    pub fn observe(&self, gauges: &SpoolGauges) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.frames, gauges.frames);
        set(&self.bytes, gauges.bytes);
        set(&self.bytes_max, gauges.bytes_max);
        set(&self.room, gauges.room);
        set(&self.segments, gauges.segments);
        set(&self.damaged, gauges.damaged);
        set(&self.set_aside, gauges.set_aside);
        self.oldest_seconds.set(gauges.oldest_seconds);
        self.healthy.set(i64::from(gauges.healthy));
        self.is_full.store(gauges.full, Ordering::Relaxed);
    }
}
