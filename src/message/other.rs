//! Other events: authentic callbacks of kinds that are not published, in the form that goes to a topic of their own.
//!
//! The value is what the provider sent, bounded and masked by the caller: `schema/other-event.v1.schema.json` says what
//! holds of it. What kind it is stands in headers. It is pinned by golden files.

use serde_json::value::RawValue;

use super::{Header, Message, RECEIVED_AT};
use crate::event::{StreamId, Timestamp};

/// Header of the provider's number of the kind.
pub const EVENT_TYPE: &str = "event_type";
/// Header of how many values were left out or cut short, where some were.
pub const LEFT_OUT: &str = "left_out";

/// A callback of a kind that is not published.
#[derive(Debug, Clone, Copy)]
pub struct OtherEvent<'a> {
    /// Its kind, as a label.
    pub kind: &'a str,
    /// The provider's number of its kind.
    pub event_type: u64,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its account, if it names a usable one.
    pub app_id: Option<u64>,
    /// Its stream, if it names a usable one.
    pub stream_id: Option<&'a StreamId<'a>>,
    /// One JSON object: what it says, bounded and masked.
    pub payload: &'a RawValue,
    /// How many values were left out of it or cut short.
    pub left_out: u64,
}

impl Message {
    /// The message of a callback of another kind. Its key is the stream; without one it has none. The identity is a
    /// digest of what it says: the same callback has the same one, however often it comes.
    #[must_use]
    pub fn other_event(event: &OtherEvent<'_>) -> Self {
        let key = super::letter::key(event.stream_id);
        let kind = format!("callback.{}", event.kind);
        let mut headers = super::letter::headers(&kind, event.payload.get(), super::letter::source(event.app_id), &key);
        headers.push(Header::new(RECEIVED_AT, event.received_at.to_string()));
        headers.push(Header::new(EVENT_TYPE, event.event_type.to_string()));
        if event.left_out > 0 {
            headers.push(Header::new(LEFT_OUT, event.left_out.to_string()));
        }
        Self::from_parts(key, event.payload.get().to_owned().into(), headers)
    }
}
