//! An event that was published or set aside before, put together anew from its value: for `replay`.
//!
//! The value stays as it is, byte for byte; everything else is made of it, as for a new event. So a copy has the key, the
//! identity and the kind of the first. A header says that it is one.

use bytes::Bytes;
use serde::Deserialize;

use super::{FACTS_DIGEST, Header, Hex, Message, PROVIDER, RECEIVED_AT, digest};
use crate::event::Timestamp;

/// Header of a message that was put into the topic again by hand: when.
pub const REPLAYED: &str = "replayed";

/// What every event says of itself.
#[derive(Deserialize)]
struct Head {
    schema: String,
    kind: String,
    event_id: String,
    app_id: String,
    stream_id: String,
    /// When it happened: one kind has the one of these, another the other.
    #[serde(alias = "occurred_at", alias = "reported_at")]
    recording_ended_at: Option<String>,
}

impl Message {
    /// The message of an event with this value, whose callback was received at `received_at`; `None` if the value is no
    /// event.
    #[must_use]
    pub fn again(payload: Bytes, received_at: Timestamp) -> Option<Self> {
        let head: Head = serde_json::from_slice(&payload).ok()?;
        let is_whole = [&head.schema, &head.kind, &head.event_id, &head.app_id, &head.stream_id];
        if is_whole.iter().any(|text| text.is_empty()) {
            return None;
        }
        let key = Bytes::from(head.stream_id);
        let mut headers = vec![
            Header::new("ce_specversion", &b"1.0"[..]),
            Header::new("ce_id", head.event_id),
            Header::new("ce_type", head.kind),
            Header::new("ce_source", format!("/{PROVIDER}/{}", head.app_id)),
            Header::new("ce_subject", key.clone()),
        ];
        headers.extend(head.recording_ended_at.map(|time| Header::new("ce_time", time)));
        headers.extend([
            Header::new("content-type", &b"application/json"[..]),
            Header::new(RECEIVED_AT, received_at.to_string()),
            Header::new(FACTS_DIGEST, Hex(digest(&payload)).to_string()),
        ]);
        Some(Self::from_parts(key, payload, headers))
    }

    /// Says in a header that it is put into the topic again at `now`, and adds the headers that it had the first time and
    /// has not yet.
    pub fn mark_replayed(&mut self, earlier: Vec<Header>, now: Timestamp) {
        for header in earlier {
            if header.name != REPLAYED && !self.headers.iter().any(|present| present.name == header.name) {
                self.headers.push(header);
            }
        }
        self.headers.push(Header::new(REPLAYED, now.to_string()));
    }
}
