//! The message: an event in the form in which it goes to Kafka.
//!
//! Key, value and headers are specified by the schemas in `schema/` and the README, and pinned by golden files. The
//! value is a pure function of the facts: a callback that is delivered twice makes the same bytes twice. What differs
//! between deliveries (the time of receipt) stands in a header.

mod again;
mod json;
mod letter;
mod notice;
mod other;
mod recording;
mod trace;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::ops::Range;

use bytes::Bytes;
use serde::ser::{SerializeMap, Serializer};
use serde::{Serialize, ser};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::event::{EventId, RecordingEvent, Scalar, Timestamp};
pub use again::REPLAYED;
pub use letter::{DeadLetter, KIND as DEAD_LETTER};
pub use other::{EVENT_TYPE, LEFT_OUT, OtherEvent};
pub use trace::{TRACE_PARENT, TraceParent};

/// Name of the value's schema, also its first member.
pub const SCHEMA: &str = "recording-event.v1";
/// Name of the provider in every event.
pub const PROVIDER: &str = "tencent-cloud-css";

/// Header of the time at which the bridge accepted the callback.
pub const RECEIVED_AT: &str = "received_at";
/// Header of the digest of the facts.
pub const FACTS_DIGEST: &str = "facts_digest";
/// Header of an event of which another version was seen before: the digest of that version's facts.
pub const CONFLICT: &str = "conflict";

/// Bytes that the texts of a message usually take.
const TEXTS_BYTES_USUAL: usize = 1536;
/// Headers of an event that has all of them.
pub const HEADERS_MAX: usize = 12;

/// A Kafka header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, ASCII.
    pub name: Cow<'static, str>,
    /// Value, UTF-8.
    pub value: Bytes,
}

/// Names of all headers that are written here.
const NAMES: [&str; HEADERS_MAX] = [
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_subject",
    "ce_time",
    "content-type",
    RECEIVED_AT,
    FACTS_DIGEST,
    CONFLICT,
    TRACE_PARENT,
    REPLAYED,
];

impl Header {
    /// A header that is read back. A name that is known takes no memory of its own.
    #[must_use]
    pub fn read(name: &str, value: Bytes) -> Self {
        let known = NAMES.into_iter().find(|known| *known == name);
        Self { name: known.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed), value }
    }

    fn new(name: &'static str, value: impl Into<Bytes>) -> Self {
        Self { name: Cow::Borrowed(name), value: value.into() }
    }
}

/// Which event a message tells, and which version of its facts: as numbers, so that comparing costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The event's id.
    pub event_id: u128,
    /// The first 128 bits of SHA-256 of the value.
    pub facts: u128,
}

/// Key, value and headers for Kafka. The record's timestamp is left to the client on purpose: a broker may refuse
/// one that is old, and a message may wait for hours.
#[derive(Debug, Clone)]
pub struct Message {
    key: Bytes,
    payload: Bytes,
    headers: Vec<Header>,
    /// Of a message that was encoded in this process; one that was read back from the spool needs none.
    identity: Option<Identity>,
}

/// Messages are equal if Kafka could not tell them apart.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.payload, &self.headers) == (&other.key, &other.payload, &other.headers)
    }
}

impl Eq for Message {}

impl Message {
    /// Writes `event`, whose callback was accepted at `received_at`, in the form that consumers read.
    ///
    /// # Panics
    /// Never: the wire form has nothing that cannot be written as JSON.
    #[must_use]
    pub fn encode(event: &RecordingEvent<'_>, received_at: Timestamp) -> Self {
        let facts = event.facts();
        let mut texts = Texts(Vec::with_capacity(TEXTS_BYTES_USUAL));
        let payload = texts.write(|text| recording::write(text, event));
        let head = Head {
            kind: RecordingEvent::KIND,
            event_id: event.event_id(),
            app_id: facts.app_id,
            stream_id: facts.stream_id.as_str(),
            time: facts.recording_ended_at,
        };
        Self::assemble(texts, payload, &head, received_at)
    }

    /// An event: what `texts` holds is its payload, and everything else is written behind it.
    fn assemble(mut texts: Texts, payload: Range<usize>, head: &Head<'_>, received_at: Timestamp) -> Self {
        let identity = Identity { event_id: head.event_id.as_u128(), facts: digest(&texts.0) };
        let id = texts.display(head.event_id);
        let source = texts.display(format_args!("/{PROVIDER}/{}", head.app_id));
        let stream = texts.display(head.stream_id);
        let time = head.time.map(|time| texts.display(time));
        let received = texts.display(received_at);
        let facts_digest = texts.display(Hex(identity.facts));
        let texts = Bytes::from(texts.0);
        let key = texts.slice(stream);
        let mut headers = Vec::with_capacity(HEADERS_MAX);
        headers.extend([
            Header::new("ce_specversion", &b"1.0"[..]),
            Header::new("ce_id", texts.slice(id)),
            Header::new("ce_type", head.kind.as_bytes()),
            Header::new("ce_source", texts.slice(source)),
            Header::new("ce_subject", key.clone()),
        ]);
        headers.extend(time.map(|time| Header::new("ce_time", texts.slice(time))));
        headers.extend([
            Header::new("content-type", &b"application/json"[..]),
            Header::new(RECEIVED_AT, texts.slice(received)),
            Header::new(FACTS_DIGEST, texts.slice(facts_digest)),
        ]);
        Self { key, payload: texts.slice(payload), headers, identity: Some(identity) }
    }

    /// Puts a message together from stored parts.
    #[must_use]
    pub fn from_parts(key: Bytes, payload: Bytes, headers: Vec<Header>) -> Self {
        Self { key, payload, headers, identity: None }
    }

    /// Which event it tells and which version of it; `None` if it was put together from parts.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Says in a header that a version with these facts was seen before.
    pub fn contradict(&mut self, facts: u128) {
        self.headers.push(Header::new(CONFLICT, Hex(facts).to_string()));
    }

    /// The partitioning key: the UTF-8 bytes of `stream_id`.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The JSON value.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The headers in the order in which they are sent.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Bytes of key, value and headers together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        self.key.len() + self.payload.len() + headers
    }
}

/// The first 128 bits of the SHA-256. Nobody can make another text with the digest of a given one; with a faster
/// checksum, whoever holds a signature could have a genuine event taken for a repeat of a forged one.
fn digest(text: &[u8]) -> u128 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    hash.iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte))
}

/// A digest as consumers read it.
struct Hex(u128);

impl Display for Hex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// What a message is made of, one text behind the other: one allocation, of which key, value and headers are slices.
struct Texts(Vec<u8>);

impl Texts {
    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Range<usize> {
        let start = self.0.len();
        write(&mut self.0).expect("memory takes what is written, and every number was parsed as one by `Digits`");
        start..self.0.len()
    }

    fn display(&mut self, text: impl Display) -> Range<usize> {
        self.write(|texts| write!(texts, "{text}"))
    }
}

/// What the headers of an event are made of.
struct Head<'a> {
    kind: &'static str,
    event_id: EventId,
    app_id: u64,
    stream_id: &'a str,
    time: Option<Timestamp>,
}

/// Unknown members as a JSON object.
struct Other<'a>(&'a [(Cow<'a, str>, Scalar<'a>)]);

impl Serialize for Other<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                Scalar::Null => map.serialize_entry(name, &())?,
                Scalar::Boolean(truth) => map.serialize_entry(name, truth)?,
                Scalar::Number(digits) => {
                    let raw: &RawValue = serde_json::from_str(digits.as_str()).map_err(ser::Error::custom)?;
                    map.serialize_entry(name, raw)?;
                }
                Scalar::Text(text) => map.serialize_entry(name, text)?,
            }
        }
        map.end()
    }
}

fn display<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
