//! Values of a callback, read, bounded, masked and written anew: nothing is copied that was not understood, JSON inside of
//! strings included. Dead letters are made of them, and the free texts of events.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::Redaction;
use super::members::Members;
use super::redact::{CUT, MASK, is_member_name};
use crate::event::Digits;

/// How much is kept.
pub(super) struct Limits {
    /// How deep collections may be nested below the callback's own object, those in strings included.
    pub(super) depth: usize,
    /// How many values there may be in all.
    pub(super) values: usize,
    /// Longest text in bytes.
    pub(super) text_bytes: usize,
}

/// What is usually kept.
pub(super) const USUAL: Limits = Limits { depth: 8, values: 4096, text_bytes: 16 * 1024 };

/// A free text as an event carries it: masked, and what is JSON in it rebuilt as in a dead letter. What is rebuilt has at
/// most twice the bytes of what was sent, or it is left out.
pub(super) fn free_text<'a>(text: Cow<'a, str>, redaction: &Redaction) -> Cow<'a, str> {
    if !looks_like_json(&text) {
        return redaction.masked(text);
    }
    let limits = Limits { text_bytes: USUAL.text_bytes.min(2 * text.len()), ..USUAL };
    let mut builder = Builder::new(redaction, &limits);
    Cow::Owned(builder.text(&text, 0))
}

fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// A value that was read and may be written.
pub(super) enum Part<'a> {
    /// `null`, `true`, `false`, or a number of plain digits, as it was sent.
    Plain(&'a RawValue),
    Text(String),
    List(Vec<Part<'a>>),
    Object(Vec<(String, Part<'a>)>),
}

impl Part<'_> {
    pub(super) fn to_json(&self) -> Box<RawValue> {
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
pub(super) struct Builder<'a> {
    redaction: &'a Redaction,
    limits: &'a Limits,
    values: usize,
    left_out: u64,
}

impl<'b> Builder<'b> {
    pub(super) fn new(redaction: &'b Redaction, limits: &'b Limits) -> Self {
        Self { redaction, limits, values: 0, left_out: 0 }
    }

    /// How many values were left out or cut short.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Leaves a value out.
    pub(super) fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// Counts a value in; `false` if there are as many as may be.
    pub(super) fn has_room(&mut self) -> bool {
        self.values += 1;
        self.values <= self.limits.values
    }

    /// The value of a member whose name may hide it.
    pub(super) fn named<'a>(&mut self, name: &str, raw: &'a RawValue, depth: usize) -> Part<'a> {
        if self.redaction.hides(name) && raw.get() != "null" {
            return Part::Text(MASK.to_owned());
        }
        self.part(raw, depth)
    }

    /// A value inside of `depth` collections, the callback's own not counted.
    pub(super) fn part<'a>(&mut self, raw: &'a RawValue, depth: usize) -> Part<'a> {
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
        if kept.iter().any(|(_, part)| self.is_name_of_a_secret(part)) {
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
        if kept.iter().any(|part| self.is_name_of_a_secret(part)) {
            return Part::Text(MASK.to_owned());
        }
        Part::List(kept)
    }

    /// Whether the value is the name of a secret, as in `{"name": "token", "value": "abc"}`: which of its neighbours
    /// is the secret cannot be told, so all are masked.
    fn is_name_of_a_secret(&self, part: &Part<'_>) -> bool {
        matches!(part, Part::Text(text) if self.redaction.is_name_of_a_secret(text))
    }

    /// A text, masked. JSON in it is rebuilt as JSON is, since escapes could hide a name from the mask; what looks like
    /// JSON and is none is left out, but for words like `[audio] jumps`, in which nothing is quoted or escaped.
    fn text(&mut self, text: &str, depth: usize) -> String {
        let nested = looks_like_json(text).then(|| serde_json::from_str::<&RawValue>(text));
        let part = match nested {
            None => return self.cut(self.redaction.mask(text).into_owned()),
            Some(Ok(raw)) => self.part(raw, depth),
            Some(Err(_)) if !text.contains(['"', '\\']) => return self.cut(self.redaction.mask(text).into_owned()),
            Some(Err(_)) => self.omitted(),
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
    pub(super) fn cut(&mut self, mut text: String) -> String {
        if text.len() > self.limits.text_bytes {
            self.left_out += 1;
            let ends = (0..=self.limits.text_bytes).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(ends.unwrap_or_default());
            text.push(CUT);
        }
        text
    }
}

/// A JSON string, with U+FFFD where it holds half of a surrogate pair.
pub(super) fn lossy_text(raw: &RawValue) -> Option<String> {
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
