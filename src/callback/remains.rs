//! What remains of an authentic callback of which no event could be made: its members, rebuilt for a human to read.
//!
//! Whatever the body holds, the result is one JSON object of at most [`PAYLOAD_BYTES_MAX`] bytes, without `t` and
//! `sign`, masked as events are. Nothing is copied that was not understood: values are read, bounded and written anew,
//! JSON inside of strings too. Values that do not fit are left out and counted, those known by name last of all.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::Redaction;
use super::members::Members;
use super::normalise::{KNOWN, integer};
use super::redact::{MASK, is_member_name};
use crate::event::{Digits, StreamId};

/// Longest payload in bytes. With key and headers it stays well below the message limit of 1,000,000 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// Members that prove the sender and must not leave.
const PROOF: [&str; 2] = ["t", "sign"];
/// Texts that events carry unmasked: the ids, and the address of the file.
const EXACT: [&str; 4] = ["stream_id", "file_id", "record_file_id", "video_url"];

/// How much is kept.
struct Limits {
    /// How deep collections may be nested below the callback's own object, those in strings included.
    depth: usize,
    /// How many values there may be in all.
    values: usize,
    /// Longest text in bytes.
    text_bytes: usize,
}

/// Tried in turn. The last can never exceed the limit: 64 values with names of 128 bytes and texts of 512, each byte
/// of which takes six at most as JSON.
const LIMITS: [Limits; 2] =
    [Limits { depth: 8, values: 4096, text_bytes: 16 * 1024 }, Limits { depth: 0, values: 64, text_bytes: 512 }];

/// See the module.
#[derive(Debug)]
pub struct Remains {
    payload: Box<RawValue>,
    left_out: u64,
    app_id: Option<u64>,
    stream_id: Option<StreamId<'static>>,
}

impl Remains {
    /// One JSON object, bounded and masked.
    #[must_use]
    pub fn payload(&self) -> &RawValue {
        &self.payload
    }

    /// How many values were left out of it or cut short.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The account, if the callback names a usable one.
    #[must_use]
    pub fn app_id(&self) -> Option<u64> {
        self.app_id
    }

    /// The stream, if the callback names a usable one.
    #[must_use]
    pub fn stream_id(&self) -> Option<&StreamId<'static>> {
        self.stream_id.as_ref()
    }

    pub(super) fn of(members: &Members<'_>, redaction: &Redaction) -> Self {
        let (payload, left_out) = LIMITS
            .iter()
            .map(|limits| {
                let mut builder = Builder { redaction, limits, values: 0, left_out: 0 };
                (builder.callback(members).to_json(), builder.left_out)
            })
            .find(|(payload, _)| payload.get().len() <= PAYLOAD_BYTES_MAX)
            .expect("what the last limits let through is shorter than the limit");
        let stream_id = members.get("stream_id").and_then(|raw| String::deserialize(raw).ok());
        let stream_id = stream_id.map(Cow::Owned).and_then(StreamId::parse);
        Self { payload, left_out, app_id: integer(members, "appid").ok().flatten(), stream_id }
    }
}

/// A value that was read and may be written.
enum Part<'a> {
    /// `null`, `true`, `false`, or a number of plain digits, as it was sent.
    Plain(&'a RawValue),
    Text(String),
    List(Vec<Part<'a>>),
    Object(Vec<(String, Part<'a>)>),
}

impl Part<'_> {
    fn to_json(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).expect("names are strings, and plain values were read as JSON")
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(raw) => raw.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(parts) => serializer.collect_seq(parts),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, part) in members {
                    map.serialize_entry(name, part)?;
                }
                map.end()
            }
        }
    }
}

/// Rebuilds values within limits.
struct Builder<'a> {
    redaction: &'a Redaction,
    limits: &'a Limits,
    values: usize,
    left_out: u64,
}

impl Builder<'_> {
    /// The members of the callback itself, those known by name first, so that they are the last to be left out.
    fn callback<'a>(&mut self, members: &Members<'a>) -> Part<'a> {
        let mut kept = Vec::new();
        for of_known in [true, false] {
            for (name, raw) in members.iter().filter(|(name, _)| KNOWN.contains(&name.as_ref()) == of_known) {
                if PROOF.contains(&name.as_ref()) {
                    continue;
                }
                if !self.has_room() || !(of_known || is_member_name(name)) {
                    self.left_out += 1;
                } else if EXACT.contains(&name.as_ref()) && raw.get().starts_with('"') {
                    let text = lossy_text(raw).unwrap_or_default();
                    kept.push((name.to_string(), Part::Text(self.cut(text))));
                } else if of_known {
                    kept.push((name.to_string(), self.part(raw, 0)));
                } else {
                    kept.push((name.to_string(), self.named(name, raw, 0)));
                }
            }
        }
        Part::Object(kept)
    }

    /// Counts a value in; `false` if there are as many as may be.
    fn has_room(&mut self) -> bool {
        self.values += 1;
        self.values <= self.limits.values
    }

    /// The value of a member whose name may hide it.
    fn named<'a>(&mut self, name: &str, raw: &'a RawValue, depth: usize) -> Part<'a> {
        if self.redaction.hides(name) && raw.get() != "null" {
            return Part::Text(MASK.to_owned());
        }
        self.part(raw, depth)
    }

    /// A value inside of `depth` collections, the callback's own not counted.
    fn part<'a>(&mut self, raw: &'a RawValue, depth: usize) -> Part<'a> {
        let source = raw.get();
        match source.bytes().next() {
            Some(b'{' | b'[') if depth >= self.limits.depth => self.omitted(),
            Some(b'{') => self.object(source, depth + 1),
            Some(b'[') => self.list(source, depth + 1),
            Some(b'"') => match lossy_text(raw) {
                Some(text) => Part::Text(self.text(&text, depth)),
                None => self.omitted(),
            },
            Some(b'n' | b't' | b'f') => Part::Plain(raw),
            // Any other number stands as text: it may be short to send and ruinous to expand.
            _ if Digits::parse(source).is_none() => Part::Text(self.cut(source.to_owned())),
            _ => Part::Plain(raw),
        }
    }

    fn object<'a>(&mut self, source: &'a str, depth: usize) -> Part<'a> {
        // Nested objects may repeat a name, which two readers could read differently.
        let Ok(members) = serde_json::from_str::<Members<'a>>(source) else { return self.omitted() };
        let (mut names, mut kept) = (HashSet::new(), Vec::new());
        for (name, raw) in members.iter() {
            if is_member_name(name) && names.insert(name.as_ref()) && self.has_room() {
                kept.push((name.to_string(), self.named(name, raw, depth)));
            } else {
                self.left_out += 1;
            }
        }
        if kept.iter().any(|(_, part)| self.names_a_secret(part)) {
            return Part::Text(MASK.to_owned());
        }
        Part::Object(kept)
    }

    fn list<'a>(&mut self, source: &'a str, depth: usize) -> Part<'a> {
        let Ok(values) = serde_json::from_str::<Vec<&'a RawValue>>(source) else { return self.omitted() };
        let mut kept = Vec::new();
        for raw in values {
            if self.has_room() {
                kept.push(self.part(raw, depth));
            } else {
                self.left_out += 1;
            }
        }
        if kept.iter().any(|part| self.names_a_secret(part)) {
            return Part::Text(MASK.to_owned());
        }
        Part::List(kept)
    }

    /// Whether the value is the name of a secret, as in `{"name": "token", "value": "abc"}`: which of its neighbours
    /// is the secret cannot be told, so all are masked.
    fn names_a_secret(&self, part: &Part<'_>) -> bool {
        matches!(part, Part::Text(text) if is_member_name(text) && self.redaction.hides(text))
    }

    /// A text, masked. JSON in it is rebuilt as JSON is, since escapes could hide a name from the mask; what looks like
    /// JSON and is none is left out.
    fn text(&mut self, text: &str, depth: usize) -> String {
        if !text.trim_start().starts_with(['{', '[']) {
            return self.cut(self.redaction.mask(text).into_owned());
        }
        let nested: Result<&RawValue, _> = serde_json::from_str(text);
        let part = match nested {
            Ok(raw) => self.part(raw, depth),
            Err(_) => self.omitted(),
        };
        match part {
            Part::Text(mask) => mask,
            part => {
                // Cut JSON could not be read.
                let json = part.to_json();
                if json.get().len() <= self.limits.text_bytes { json.get().to_owned() } else { self.omit() }
            }
        }
    }

    fn omit(&mut self) -> String {
        self.left_out += 1;
        MASK.to_owned()
    }

    fn omitted<'a>(&mut self) -> Part<'a> {
        Part::Text(self.omit())
    }

    /// `text`, no longer than a text may be.
    fn cut(&mut self, mut text: String) -> String {
        if text.len() > self.limits.text_bytes {
            self.left_out += 1;
            let ends = (0..=self.limits.text_bytes).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(ends.unwrap_or_default());
            text.push('…');
        }
        text
    }
}

/// A JSON string, with U+FFFD where it holds half of a surrogate pair.
fn lossy_text(raw: &RawValue) -> Option<String> {
    struct Lossy;
    impl Visitor<'_> for Lossy {
        type Value = String;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    raw.deserialize_bytes(Lossy).ok()
}
