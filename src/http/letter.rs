//! The dead letter of an authentic callback of which no event can be made.
//!
//! Pure: it puts together what `callback` has bounded and masked, and words the reason. Keeping the letter is up to
//! `delivery`.

use crate::callback::{AuthenticCallback, Kind, Redaction, Unusable, UnusableReason};
use crate::event::Timestamp;
use crate::message::{DeadLetter, Message};
use crate::refusal::Refusal;

/// The dead letter of `callback`, which is `unusable` and was received at `received_at`.
#[must_use]
pub fn write(
    callback: &AuthenticCallback<'_>,
    unusable: Unusable,
    redaction: &Redaction,
    received_at: Timestamp,
) -> Message {
    let remains = callback.remains(redaction);
    Message::dead_letter(&DeadLetter {
        reason: Refusal::from(unusable).label(),
        detail: &detail(unusable, remains.left_out()),
        event_kind: callback.kind().ok().and_then(Kind::event_kind),
        received_at,
        app_id: remains.app_id(),
        stream_id: remains.stream_id(),
        payload: remains.payload(),
    })
}

fn detail(unusable: Unusable, left_out: u64) -> String {
    let fault = match unusable.reason {
        UnusableReason::Missing => "is absent, null or empty",
        UnusableReason::Invalid => "has the wrong type or is out of range",
    };
    let member = unusable.member;
    match left_out {
        0 => format!("{member} {fault}"),
        left_out => format!("{member} {fault}; {left_out} value(s) were left out of the payload or cut short"),
    }
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match unusable.reason {
            UnusableReason::Missing => Self::MemberMissing,
            UnusableReason::Invalid => Self::MemberInvalid,
        }
    }
}
