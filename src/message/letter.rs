//! Dead letters: what could not become an event, or could not be published as one, in the form that goes to the
//! dead-letter topic.
//!
//! The value is specified by `schema/dead-letter.v1.schema.json` and pinned by golden files. It is a pure function of
//! what is given. The caller has masked the payload; nothing is masked here.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Header, Message, PROVIDER, RECEIVED_AT, TRACE_PARENT, display};
use crate::event::{StreamId, Timestamp};

/// Header `ce_type` of every dead letter.
pub const KIND: &str = "dead-letter";

/// An authentic callback of which no event could be made.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Why, as a label.
    pub reason: &'a str,
    /// Why, as a sentence.
    pub detail: &'a str,
    /// The kind of event that it should have become, if it says so.
    pub event_kind: Option<&'a str>,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its account, if it names a usable one.
    pub app_id: Option<u64>,
    /// Its stream, if it names a usable one.
    pub stream_id: Option<&'a StreamId<'a>>,
    /// One JSON object: what is left of it, bounded and masked.
    pub payload: &'a RawValue,
}

/// The wire form: members in the order of the schema.
#[derive(Serialize)]
struct WireLetter<'a> {
    reason: &'a str,
    detail: &'a str,
    event_kind: Option<&'a str>,
    #[serde(serialize_with = "display")]
    received_at: Timestamp,
    payload: &'a RawValue,
}

impl Message {
    /// The dead letter of a callback. Its key is the stream; without one it has none.
    #[must_use]
    pub fn dead_letter(letter: &DeadLetter<'_>) -> Self {
        let wire = WireLetter {
            reason: letter.reason,
            detail: letter.detail,
            event_kind: letter.event_kind,
            received_at: letter.received_at,
            payload: letter.payload,
        };
        written(&wire, key(letter.stream_id), source(letter.app_id))
    }

    /// The dead letter of a message that Kafka refuses for good, for this `reason`: the event stands in it as it
    /// would have been published.
    #[must_use]
    pub fn refused(&self, reason: &str, received_at: Timestamp) -> Self {
        let header = |name: &str| self.headers.iter().find(|header| header.name == name).map(|header| &header.value);
        let event: Option<&RawValue> = serde_json::from_slice(&self.payload).ok();
        let event = event.filter(|event| event.get().starts_with('{')).map(ToOwned::to_owned);
        let wire = WireLetter {
            reason,
            detail: "Kafka refused the event for good although it was sent alone",
            event_kind: header("ce_type").and_then(|kind| std::str::from_utf8(kind).ok()),
            received_at,
            payload: &event.unwrap_or_else(|| self.as_text()),
        };
        let source = header("ce_source").cloned().unwrap_or_else(|| Bytes::from(format!("/{PROVIDER}")));
        let mut letter = written(&wire, self.key.clone(), source);
        letter.headers.extend(self.headers.iter().find(|header| header.name == TRACE_PARENT).cloned());
        letter
    }

    /// An object around a payload that is none. Nothing writes such payloads; a spool of old might hold one.
    fn as_text(&self) -> Box<RawValue> {
        let text = String::from_utf8_lossy(&self.payload);
        to_raw_value(&std::collections::BTreeMap::from([("text", text)])).expect("text can be written as JSON")
    }
}

/// The key of a callback's stream, if it names one.
pub(super) fn key(stream_id: Option<&StreamId<'_>>) -> Bytes {
    stream_id.map(|stream| Bytes::from(stream.as_str().to_owned())).unwrap_or_default()
}

/// The header `ce_source` of a callback's account, if it names one.
pub(super) fn source(app_id: Option<u64>) -> Bytes {
    match app_id {
        Some(app_id) => format!("/{PROVIDER}/{app_id}").into(),
        None => format!("/{PROVIDER}").into(),
    }
}

/// The headers that everything has; the identity is a digest of `identity`.
pub(super) fn headers(kind: &str, identity: &str, source: Bytes, key: &Bytes) -> Vec<Header> {
    let mut headers = vec![
        Header::new("ce_specversion", &b"1.0"[..]),
        Header::new("ce_id", super::Hex(super::digest(identity.as_bytes())).to_string()),
        Header::new("ce_type", kind.to_owned()),
        Header::new("ce_source", source),
    ];
    if !key.is_empty() {
        headers.push(Header::new("ce_subject", key.clone()));
    }
    headers.push(Header::new("content-type", &b"application/json"[..]));
    headers
}

/// The identity is a digest of all but the time of receipt: the same letter has the same one, however often it comes.
fn written(wire: &WireLetter<'_>, key: Bytes, source: Bytes) -> Message {
    let payload = serde_json::to_vec(wire).expect("names are strings, and the payload was read as JSON");
    let identity = format!("{}\n{}\n{}", wire.reason, wire.detail, wire.payload.get());
    let mut headers = headers(KIND, &identity, source, &key);
    headers.push(Header::new(RECEIVED_AT, wire.received_at.to_string()));
    Message::from_parts(key, payload.into(), headers)
}
