//! The limits and periods that the ladder works with.
//!
//! It owns their defaults and the reason for each. Reading them from a file is not its business.

use super::protocol::Time;

/// A delay that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay.
    pub least: Time,
    /// The longest delay.
    pub most: Time,
}

impl Backoff {
    /// The delay after `failures` earlier ones in a row.
    #[must_use]
    pub fn after(self, failures: u32) -> Time {
        self.least.saturating_mul(1_u32 << failures.min(16)).min(self.most)
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long Kafka has to acknowledge a message sent directly before the spool takes it.
    pub ack_deadline: Time,
    /// How long one append may take before the spool is held to hang. With `ack_deadline` it bounds every answer.
    pub append_patience: Time,
    /// How long a producer may owe an acknowledgement before it is replaced.
    pub watchdog: Time,
    /// How long a lane may stay without any report before the drain's producer is replaced although other lanes
    /// move. Above the client's own message timeout, so that it only meets reports that are lost.
    pub report_patience: Time,
    /// How long a lane may be silent before reading goes on past its frames.
    pub lane_patience: Time,
    /// How long the reports of a dead producer are waited for.
    pub fatal_grace: Time,
    /// Delay before a producer is replaced, a failed frame sent again, a read, commit or probe repeated.
    pub backoff: Backoff,
    /// How long the word that no broker can be reached is believed.
    pub unreachable_period: Time,
    /// How long new messages may be held at the gate while the last frames are published.
    pub handover_max: Time,
    /// Pause after a handover that failed.
    pub handover_pause: Time,
    /// Undelivered frames at which a handover is tried: few enough to be published well within `handover_max`.
    pub handover_frames_max: u64,
    /// Messages held at the gate at most.
    pub parked_max: usize,
    /// Span of numbers between the oldest open message and the newest.
    pub waiting_max: usize,
    /// Lanes.
    pub lanes: u16,
    /// Frames of one lane in memory, and so in flight.
    pub lane_frames_max: usize,
    /// The same until Kafka has acknowledged something: in an outage, reading ahead only costs memory and time.
    pub lane_frames_unproven_max: usize,
    /// Bytes of one lane in memory; a single frame may exceed it.
    pub lane_bytes_max: u64,
    /// Pause before frames that were appended meanwhile are read, once the synced end was reached: many small reads
    /// would cost more than they publish.
    pub read_pause: Time,
    /// Pause between two commits. What a crash in between repeats is bounded by it.
    pub commit_pause: Time,
    /// Convictions in a row without an acknowledgement at which the topic is blamed.
    pub convictions_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ack_deadline: Time::from_secs(5),
            append_patience: Time::from_millis(1_500),
            watchdog: Time::from_secs(30),
            report_patience: Time::from_secs(600),
            lane_patience: Time::from_secs(1),
            fatal_grace: Time::from_millis(500),
            backoff: Backoff { least: Time::from_millis(100), most: Time::from_secs(5) },
            unreachable_period: Time::from_secs(10),
            handover_max: Time::from_millis(500),
            handover_pause: Time::from_secs(1),
            handover_frames_max: 1_024,
            parked_max: 4_096,
            waiting_max: 1 << 20,
            lanes: 64,
            lane_frames_max: 256,
            lane_frames_unproven_max: 8,
            lane_bytes_max: 1 << 20,
            read_pause: Time::from_millis(20),
            commit_pause: Time::from_millis(10),
            convictions_max: 3,
        }
    }
}
