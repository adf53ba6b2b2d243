//! The members of a body: one JSON object, read once, every value kept as its own source text.
//!
//! Keeping the text lets `t` be judged digit by digit and lets a wrong fact be told from a malformed body.
//! `serde_json` alone is too kind: it takes invalid UTF-8 inside members that it skips, and reads an array where a
//! struct is asked for. So both are checked before it sees the body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a body is not a callback at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON.
    NotJson,
    /// JSON, but no object.
    NotObject,
    /// A member is named twice: two readers could take different ones.
    DuplicateMember,
}

/// A member of the body: its decoded name and the source text of its value.
pub(super) type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The text of a string, borrowed where it holds no escape; `None` if it is no string, or none that Unicode knows.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    // What stands in a raw value was read as JSON, so only escapes need to be read again.
    let quoted = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') {
        unprotected(quoted).or_else(|| String::deserialize(value).ok()).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(quoted))
    }
}

/// What stands between quotes, if no escape in it does more than protect the sign behind it. JSON within a string, as
/// the provider sends it, has no others.
fn unprotected(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((before, escaped)) = rest.split_once('\\') {
        let sign = escaped.get(..1).filter(|sign| matches!(*sign, "\"" | "\\" | "/"))?;
        text.push_str(before);
        text.push_str(sign);
        rest = escaped.get(1..)?;
    }
    text.push_str(rest);
    Some(text)
}

/// The members of a body in the order they came, no two of the same name.
#[derive(Debug)]
pub(super) struct Members<'a> {
    list: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|_| Malformed::NotUtf8)?;
        let parsed: Result<Self, _> = serde_json::from_str(text);
        let Ok(members) = parsed else {
            let other_json = serde_json::from_str::<&RawValue>(text).is_ok();
            let object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
            return Err(if other_json && !object { Malformed::NotObject } else { Malformed::NotJson });
        };
        if members.repeats_a_name() { Err(Malformed::DuplicateMember) } else { Ok(members) }
    }

    /// The source text of a member's value; `None` if it is absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.list.iter().find(|(present, _)| present == name).map(|(_, value)| *value)
    }

    /// Every member in the order it came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<'a>> {
        self.list.iter()
    }

    /// Sorts references instead of comparing every pair: a hostile body may hold ten thousand members.
    fn repeats_a_name(&self) -> bool {
        let mut names: Vec<&str> = self.list.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| matches!(pair, [first, second] if first == second))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // Real callbacks have 16 to 32 members.
        let mut list = Vec::with_capacity(32);
        while let Some(Name(name)) = map.next_key()? {
            list.push((name, map.next_value()?));
        }
        Ok(Members { list })
    }
}

/// A member's name, borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a member's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &[u8]) -> Malformed {
        Members::parse(body).expect_err("the body is malformed")
    }

    #[test]
    fn a_text_is_read_as_serde_json_reads_it() {
        let strings = [
            r#""""#,
            r#""a""#,
            r#""a\"b""#,
            r#""\\""#,
            r#""{\"a\":\"b\\\"c\/直\"}\\""#,
            r#""\"\u76f4\n\"""#,
            "\"直\u{7f}\"",
            r#""\u76f4""#,
            r#""\ud83d\ude00""#,
            r#""\ud83d""#,
        ];
        for source in strings.into_iter().chain(["null", "1", r#"["a"]"#, r#"{"a":"b"}"#]) {
            let value: &RawValue = serde_json::from_str(source).expect("it is JSON");
            assert_eq!(string(value).map(Cow::into_owned), String::deserialize(value).ok(), "{source}");
        }
    }

    #[test]
    fn escaped_names_are_decoded_before_they_are_compared() {
        assert_eq!(fault(br#"{"t":1,"\u0074":2}"#), Malformed::DuplicateMember);
    }

    #[test]
    fn every_kind_of_body_that_is_no_object_is_told_apart() {
        assert_eq!(fault(b"\xff{}"), Malformed::NotUtf8);
        assert_eq!(fault(b"{\"ignored\":\"\xff\"}"), Malformed::NotUtf8);
        for body in ["[1]", "\"text\"", "3", "null", " [ ]"] {
            assert_eq!(fault(body.as_bytes()), Malformed::NotObject, "{body}");
        }
        for body in ["", " ", "{", "{}x", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "\u{feff}{}", "{1:2}"] {
            assert_eq!(fault(body.as_bytes()), Malformed::NotJson, "{body}");
        }
    }

    #[test]
    fn ten_thousand_members_are_read_and_a_late_duplicate_is_found() {
        let members: Vec<String> = (0..10_000).map(|index| format!("\"m{index}\":1")).collect();
        let body = members.join(",");
        let whole = format!("{{{body}}}");
        assert_eq!(Members::parse(whole.as_bytes()).expect("it is an object").iter().count(), 10_000);
        let repeated = format!("{{{body},\"m5000\":1}}");
        assert_eq!(fault(repeated.as_bytes()), Malformed::DuplicateMember);
    }
}
