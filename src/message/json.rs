//! A JSON object, written member by member.
//!
//! Nearly no text of an event has anything to escape. To find that out for many bytes at once takes a fraction of what
//! it takes `serde_json`, which looks at the bytes of names and values one by one. It writes whatever does have an
//! escape, and everything that is no text, so the bytes are those that it would have written.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

/// An object that is being written.
pub(super) struct Object<'a> {
    text: &'a mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
}

impl<'a> Object<'a> {
    pub(super) fn begin(text: &'a mut Vec<u8>) -> Self {
        Self { text, before: b'{' }
    }

    /// A text, or `null`.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) -> io::Result<()> {
        match value {
            Some(plain) if is_plain(plain) => {
                self.name(name);
                self.text.push(b'"');
                self.text.extend_from_slice(plain.as_bytes());
                self.text.push(b'"');
                Ok(())
            }
            other => self.value(name, &other),
        }
    }

    /// A text that is one only when it is displayed, and has nothing to escape then.
    pub(super) fn display(&mut self, name: &'static str, value: Option<impl Display>) -> io::Result<()> {
        let Some(value) = value else { return self.value(name, &()) };
        self.name(name);
        write!(self.text, "\"{value}\"")
    }

    /// Anything else.
    pub(super) fn value(&mut self, name: &'static str, value: &impl Serialize) -> io::Result<()> {
        self.name(name);
        serde_json::to_writer(&mut *self.text, value).map_err(Into::into)
    }

    pub(super) fn end(self) {
        self.text.push(b'}');
    }

    /// Names are constants of this crate, and have nothing to escape.
    fn name(&mut self, name: &'static str) {
        debug_assert!(is_plain(name), "{name}");
        self.text.extend_from_slice(&[std::mem::replace(&mut self.before, b','), b'"']);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
    }
}

/// Whether JSON writes `text` as it stands.
fn is_plain(text: &str) -> bool {
    // Not ended early, so that the compiler can look at many bytes at once.
    let is_odd = |byte: u8| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    text.bytes().fold(0, |found, byte| found | is_odd(byte)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_are_written_as_serde_json_writes_them(text in "[a-z\"\\\\/\u{0}-\u{20}\u{7f}\u{80}直\u{2028}😀]{0,40}") {
            let mut written = Vec::new();
            let mut object = Object::begin(&mut written);
            object.text("a", Some(&text)).expect("memory takes it");
            object.text("b", None).expect("memory takes it");
            object.value("c", &Some(-7)).expect("memory takes it");
            object.display("d", Some(8)).expect("memory takes it");
            object.display("e", None::<u8>).expect("memory takes it");
            object.end();
            let expected = format!("{{\"a\":{},\"b\":null,\"c\":-7,\"d\":\"8\",\"e\":null}}", serde_json::json!(text));
            prop_assert_eq!(String::from_utf8(written).expect("it is text"), expected);
        }
    }
}
