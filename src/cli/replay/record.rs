//! A record to be replayed, as a line of a file or as a record of a topic.
//!
//! Lines come from `tail`, with or without `--with-metadata`, and from `spool show`; whoever mends one by hand edits the
//! value and leaves the rest.

use std::collections::BTreeMap;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::Header;

/// What is known of a record.
#[derive(Debug)]
pub(super) struct Record {
    /// Its headers; none if only the value was kept.
    pub(super) headers: Vec<Header>,
    /// Its value, as it stands.
    pub(super) value: Bytes,
}

/// A line with metadata: `tail` calls the value an event, `spool show` a value.
#[derive(Deserialize)]
struct Line<'a> {
    headers: BTreeMap<String, String>,
    #[serde(borrow, alias = "value")]
    event: &'a RawValue,
}

impl Record {
    /// The record of a line; `None` if it is no JSON object.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        if let Ok(Line { headers, event }) = serde_json::from_str(line) {
            let headers = headers.into_iter().map(|(name, value)| Header::read(&name, value.into())).collect();
            return Some(Self { headers, value: Bytes::copy_from_slice(event.get().as_bytes()) });
        }
        let whole: &RawValue = serde_json::from_str(line).ok()?;
        let is_object = whole.get().starts_with('{');
        is_object.then(|| Self { headers: Vec::new(), value: Bytes::copy_from_slice(whole.get().as_bytes()) })
    }

    /// The record of a topic.
    pub(super) fn of_message(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(rdkafka::message::Headers::iter);
        let headers =
            headers.map(|header| Header::read(header.key, Bytes::copy_from_slice(header.value.unwrap_or_default())));
        Self { headers: headers.collect(), value: Bytes::copy_from_slice(message.payload().unwrap_or_default()) }
    }

    /// The value of a header, as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        std::str::from_utf8(&header.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_bytes_in_every_form_of_a_line() {
        let value = r#"{"z":1,"a":18446744073709551615,"f":1.50}"#;
        for line in [
            value.to_owned(),
            format!(" {value} "),
            format!(r#"{{"partition":1,"offset":2,"key":"s","headers":{{"ce_id":"x"}},"event":{value}}}"#),
            format!(r#"{{"sequence":1,"key":"s","headers":{{"ce_id":"x"}},"value":{value},"file":"f"}}"#),
        ] {
            let record = Record::of_line(&line).expect("it is a record");
            assert_eq!(record.value, value, "{line}");
            assert_eq!(record.header("ce_id").is_some(), line.contains("ce_id"), "{line}");
        }
        for line in ["", "x", "[1]", "{", "3"] {
            assert!(Record::of_line(line).is_none(), "{line}");
        }
    }
}
