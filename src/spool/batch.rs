//! Batches: frames encoded for one write.

use super::fault::{AppendError, Invalid};
use super::frame::Frame;
use super::ledger::Tail;
use super::segment::FRAMES_START;
use super::walk::{Memory, SEQUENCE_JUMP_MAX, Step, Walk};
use crate::event::Timestamp;

/// Frames, encoded.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) oldest: Option<Timestamp>,
}

impl Batch {
    /// No frames; a segment made for it begins at `first`.
    pub(super) fn nothing(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Encodes frames that must be numbered from `expected_min` on, rising.
    pub(super) fn encode(frames: &[Frame], mut expected_min: u64) -> Result<Self, AppendError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(AppendError::Invalid(Invalid::Empty));
        };
        let mut batch = Self {
            bytes: Vec::with_capacity(frames.iter().map(Frame::bytes_usual).sum()),
            frames: frames.len() as u64,
            first: first.sequence,
            last: last.sequence,
            oldest: Some(first.accepted_at),
        };
        for frame in frames {
            let found = frame.sequence;
            // Behind a bad frame a recovery believes no greater jump.
            if found < expected_min || found - expected_min >= SEQUENCE_JUMP_MAX {
                return Err(AppendError::Invalid(Invalid::Sequence { found, expected_min }));
            }
            expected_min = found.saturating_add(1);
            frame
                .encode(&mut batch.bytes)
                .map_err(|size| AppendError::Invalid(Invalid::TooLarge { sequence: found, size }))?;
        }
        Ok(batch)
    }

    /// The frames of the tail above the watermark.
    pub(super) fn undelivered(tail: Option<&Tail>, watermark: u64) -> Self {
        let mut batch = Self::default();
        let Some(tail) = tail else { return batch };
        let source = Memory { start: FRAMES_START, bytes: &tail.bytes };
        let limit = FRAMES_START + tail.bytes.len() as u64;
        let mut walk = Walk::new(FRAMES_START, 0);
        while let Ok(Step::Frame(head, whole)) = walk.step(&source, limit) {
            if head.sequence > watermark {
                batch.bytes.extend_from_slice(whole);
                batch.first = if batch.frames == 0 { head.sequence } else { batch.first };
                batch.frames += 1;
                batch.last = head.sequence;
                batch.oldest = batch.oldest.or(head.accepted_at());
            }
        }
        batch
    }

    /// Puts `later` behind this one.
    pub(super) fn append(&mut self, later: &Self) {
        self.bytes.extend_from_slice(&later.bytes);
        self.frames += later.frames;
        self.last = self.last.max(later.last);
        self.oldest = self.oldest.or(later.oldest);
    }
}
