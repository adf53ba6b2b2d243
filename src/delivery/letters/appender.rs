//! The thread that writes dead letters: whatever waits becomes one write and one sync, and all who wait learn of it.
//!
//! It promises that a callback is told of its place on disk only after the sync that covers it.

use std::sync::Arc;
use std::thread;

use super::super::gate::{Grounds, Shared};
use super::super::ladder::Sequence;
use super::super::workers::COMMIT_INTERVAL;
use super::{Desk, Letter, PROBE_INTERVAL, SetAside, Shelf};
use crate::spool::{AppendError, Appended, Frame, Health, Storage, Writer};

/// Runs until the desk is closed and everything that was handed in has its answer.
pub(in super::super) fn append<S: Storage>(shared: &Arc<Shared>, desk: &Arc<Desk>, mut writer: Writer<S>) {
    let metrics = desk.shelf.metrics(&shared.metrics);
    let mut was_written = true;
    while let Some(letters) = desk.next_batch(PROBE_INTERVAL) {
        // Without traffic nothing else would tell that the storage is well again.
        if (desk.status)().health != Health::Ready {
            let _still_unwell = writer.probe().is_err();
        }
        if letters.is_empty() {
            continue;
        }
        let started = shared.now();
        let frames = numbered(&letters, writer.next_sequence());
        let result = writer.append_batch(&frames);
        match &result {
            Ok(_) => {
                metrics.appended.inc_by(frames.len() as u64);
                desk.note_written();
            }
            Err(error) => {
                metrics.append_failures.inc_by(frames.len() as u64);
                if desk.shelf == Shelf::DeadLetters && matches!(error, AppendError::Unhealthy(_)) {
                    // A convicted message that rests among the letters is in doubt with them.
                    shared.doubt_spool();
                }
                // Whoever refuses a callback says so, one by one.
                if was_written {
                    tracing::error!(%error, letters = frames.len(), "{} cannot be written", desk.shelf.name());
                }
            }
        }
        was_written = result.is_ok();
        for (letter, frame) in letters.into_iter().zip(frames) {
            tell(shared, letter, frame.sequence, result);
        }
        thread::sleep(COMMIT_INTERVAL.saturating_sub(shared.now().saturating_sub(started)));
    }
    desk.note_ended();
}

/// The letters as frames, numbered from `first` on.
fn numbered(letters: &[Letter], first: u64) -> Vec<Frame> {
    let frame = |(sequence, letter): (u64, &Letter)| match letter {
        Letter::Callback(message, accepted_at, _) => {
            Frame { sequence, accepted_at: *accepted_at, message: message.clone() }
        }
        Letter::Convicted(_, _, frame, failure) => Frame {
            sequence,
            accepted_at: frame.accepted_at,
            message: frame.message.refused(failure.label(), frame.accepted_at),
        },
    };
    (first..).zip(letters).map(frame).collect()
}

fn tell(shared: &Arc<Shared>, letter: Letter, written_as: u64, result: Result<Appended, AppendError>) {
    match letter {
        Letter::Callback(_, _, waiter) => {
            let outcome = match result {
                Ok(appended) if appended.covers(written_as) => Ok(SetAside(appended)),
                Ok(_) => Err(super::SetAsideError::Unhealthy),
                Err(error) => Err((&error).into()),
            };
            // Whoever does not wait any more has been answered with a refusal at the deadline.
            drop(waiter.send(outcome));
        }
        Letter::Convicted(sequence, lane, _, failure) => {
            let reason = failure.label();
            match &result {
                Ok(_) => {
                    shared.metrics.spool.dead_lettered.inc();
                    tracing::error!(sequence, reason, "Kafka refuses this message for good; it was set aside");
                }
                Err(error) => tracing::error!(
                    sequence, reason, %error, "a message that Kafka refuses cannot be set aside; trying again"
                ),
            }
            shared.input(Grounds::None, |ladder, now, commands| {
                ladder.dead_lettered((Sequence(sequence), lane), result.is_ok(), now, commands);
            });
        }
    }
}
