//! The ladder's commands, carried out under the gate. Nothing here waits: what may wait is queued for `workers`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::gate::{Append, DrainJob, Gate, Grounds, Shared};
use super::ladder::{Alert, Answer, Cause, Command, Sequence, State};
use super::{DeliveryError, Proof};
use crate::kafka::Failure;
use crate::metrics::{DeliveryState, RebuildReason};

impl Shared {
    pub(super) fn obey(&self, gate: &mut Gate, command: Command, grounds: Grounds, now: Duration) {
        match command {
            Command::Answer(sequence, answer) => self.answer(gate, sequence, answer, grounds, now),
            Command::Append(Sequence(sequence)) => {
                if let Some(held) = gate.holding.get(sequence) {
                    // It sleeps only when nothing is queued, and every call to wake it is one to the system.
                    if gate.appends.is_empty() {
                        self.appender.notify_one();
                    }
                    gate.appends.push_back(Append::Frame(sequence, held.accepted_at, Arc::clone(&held.message)));
                }
            }
            Command::ProbeSpool => {
                gate.appends.push_back(Append::Probe);
                self.appender.notify_one();
            }
            Command::StartProducer(generation, purpose, cause) => {
                tracing::debug!(generation = generation.0, ?purpose, ?cause, "starting a producer");
                if let Some(reason) = rebuild_reason(cause) {
                    self.metrics.producer_rebuilt(reason);
                }
                gate.starts.push_back((generation, purpose));
                self.starter.notify_one();
            }
            Command::RetireProducer(generation) => {
                gate.starts.retain(|(present, _)| *present != generation);
                let place = gate.producers.iter().position(|(present, _)| *present == generation);
                if let Some(place) = place {
                    super::workers::reap(gate.producers.swap_remove(place).1);
                }
            }
            Command::ReadSpool { after: Sequence(after), through: Sequence(through) } => {
                gate.drains.push_back(DrainJob::Read { after, through });
                self.drainer.notify_one();
            }
            Command::Commit(Sequence(watermark)) => {
                gate.drains.push_back(DrainJob::Commit(watermark));
                self.drainer.notify_one();
            }
            Command::Release(Sequence(sequence)) => {
                gate.frames.remove(&sequence);
                gate.refused.remove(&sequence);
            }
            Command::DeadLetter(Sequence(sequence), lane) => {
                if let Some((frame, letters)) = gate.frames.get(&sequence).zip(self.letters.as_ref()) {
                    let failure = gate.refused.get(&sequence).copied().unwrap_or(Failure::Other);
                    letters.hand_in_convicted(sequence, lane, frame.clone(), failure);
                }
            }
            Command::Alert(alert) => log_alert(alert),
            Command::Moved(state, cause) => {
                self.metrics.delivery_state(state_label(state));
                log_move(state, cause, self.kafka_ready.load(Ordering::Acquire));
            }
            Command::Finished => {
                gate.is_finished = true;
                self.finished.notify_all();
            }
        }
    }

    fn answer(&self, gate: &mut Gate, sequence: Sequence, answer: Answer, grounds: Grounds, now: Duration) {
        let Some(held) = gate.holding.take(sequence.0) else { return };
        self.metrics.outstanding.dec();
        let outcome = match (answer, grounds) {
            (Answer::Kafka, Grounds::Delivered(delivered)) => {
                self.metrics.ack_duration.observe(now.saturating_sub(held.since).as_secs_f64());
                Ok(Proof::Kafka(delivered))
            }
            (Answer::Spool, Grounds::Appended(appended)) => {
                appended.frame(sequence.0).map(Proof::Spool).ok_or_else(|| unproven(sequence, answer))
            }
            (Answer::Denied(denial), _) => Err(denial.into()),
            (Answer::Kafka | Answer::Spool, _) => Err(unproven(sequence, answer)),
        };
        if !Self::conclude(gate, held, outcome, now) {
            // The whole request had taken too long, and its callback was refused.
            self.metrics.delivered_after_refusal.inc();
        }
    }
}

/// The ladder never answers without grounds; if it did, a 200 would be a lie.
fn unproven(sequence: Sequence, answer: Answer) -> DeliveryError {
    tracing::error!(sequence = sequence.0, ?answer, "an answer without proof: this is a defect");
    DeliveryError::ProducerLost
}

pub(super) fn state_label(state: State) -> DeliveryState {
    match state {
        State::Direct => DeliveryState::Direct,
        State::Spooling => DeliveryState::Spooling,
        State::Draining | State::Handover => DeliveryState::Draining,
        State::Stopped => DeliveryState::Stopped,
    }
}

fn rebuild_reason(cause: Cause) -> Option<RebuildReason> {
    match cause {
        Cause::Routine | Cause::Stopping => None,
        Cause::Fatal => Some(RebuildReason::Fatal),
        Cause::Watchdog => Some(RebuildReason::Watchdog),
        Cause::AckDeadline => Some(RebuildReason::AckDeadline),
        Cause::QueueFull => Some(RebuildReason::QueueFull),
        Cause::Failed => Some(RebuildReason::Failed),
        Cause::Unreachable => Some(RebuildReason::Unreachable),
        Cause::Credentials => Some(RebuildReason::Credentials),
        Cause::NotCreated => Some(RebuildReason::NotCreated),
    }
}

fn log_alert(alert: Alert) {
    let sentence = match alert {
        Alert::TopicRefuses => "Kafka refuses message after message: look at the topic's settings",
        Alert::KafkaRefusesUs => "Kafka refuses us: look at authorisation and at whether the topic exists",
        Alert::DeadLettersBlocked => "a refused message cannot be set aside, and holds its streams back",
        Alert::SpoolFull => "the spool has no room: callbacks are refused while Kafka does not take them",
        Alert::SpoolUnhealthy => "the spool cannot write: callbacks are refused while Kafka does not take them",
        Alert::SpoolUnreadable => "the spool cannot be read; trying again",
    };
    tracing::error!("{sentence}");
}

/// `is_known`: a broker has answered of late.
fn log_move(state: State, cause: Cause, is_known: bool) {
    match state {
        State::Direct if is_known => tracing::info!("events go straight to Kafka"),
        State::Direct => tracing::info!("events go to Kafka as soon as it answers"),
        State::Spooling if cause == Cause::Stopping => {
            tracing::info!("stopping: what Kafka does not acknowledge in time goes to the spool");
        }
        State::Spooling if cause == Cause::Credentials => {
            tracing::info!("events go to the spool while the producer is replaced by one with the new credentials");
        }
        State::Spooling => {
            let cause = rebuild_reason(cause).map(RebuildReason::label);
            tracing::warn!(cause, "events go to the spool: Kafka does not take them");
        }
        State::Draining => tracing::info!("the spool is draining"),
        State::Handover => tracing::debug!("the last frames of the spool are on their way"),
        State::Stopped => tracing::info!("every callback has its answer"),
    }
}
