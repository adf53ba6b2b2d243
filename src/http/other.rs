//! The message of an authentic callback of a kind that is not published, for the topic of other events.
//!
//! Pure: it puts together what `callback` has bounded and masked. Keeping the message is up to `delivery`.

use crate::callback::{AuthenticCallback, Ignored, Redaction};
use crate::event::Timestamp;
use crate::message::{Message, OtherEvent};

/// The message of `callback`, which is `ignored` otherwise and was received at `received_at`.
#[must_use]
pub fn write(
    callback: &AuthenticCallback<'_>,
    ignored: &Ignored,
    redaction: &Redaction,
    received_at: Timestamp,
) -> Message {
    let remains = callback.remains(redaction);
    Message::other_event(&OtherEvent {
        kind: ignored.kind().label(),
        event_type: ignored.event_type(),
        received_at,
        app_id: remains.app_id(),
        stream_id: remains.stream_id(),
        payload: remains.payload(),
        left_out: remains.left_out(),
    })
}
