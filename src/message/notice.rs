//! The wire form of a notice: the members that every event has, then its facts in the order of its schema.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::{Head, Message, Other, PROVIDER, TEXTS_BYTES_USUAL, Texts};
use crate::event::{Fact, Notice, Timestamp};

impl Message {
    /// Writes `notice`, whose callback was accepted at `received_at`, in the form that consumers read.
    ///
    /// # Panics
    /// Never: the wire form has nothing that cannot be written as JSON.
    #[must_use]
    pub fn encode_notice(notice: &Notice<'_>, received_at: Timestamp) -> Self {
        let mut texts = Texts(Vec::with_capacity(TEXTS_BYTES_USUAL));
        let payload = texts.write(|text| serde_json::to_writer(text, &WireNotice(notice)).map_err(Into::into));
        let head = Head {
            kind: notice.form().kind,
            event_id: notice.event_id(),
            app_id: notice.app_id(),
            stream_id: notice.stream_id().as_str(),
            time: notice.occurred_at(),
        };
        Self::assemble(texts, payload, &head, received_at)
    }
}

struct WireNotice<'a>(&'a Notice<'a>);

impl Serialize for WireNotice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let notice = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", notice.form().schema)?;
        map.serialize_entry("kind", notice.form().kind)?;
        map.serialize_entry("event_id", &format_args!("{}", notice.event_id()))?;
        map.serialize_entry("provider", PROVIDER)?;
        map.serialize_entry("app_id", &format_args!("{}", notice.app_id()))?;
        map.serialize_entry("stream_id", notice.stream_id().as_str())?;
        for (name, fact) in notice.facts() {
            match fact {
                Fact::Absent => map.serialize_entry(name, &())?,
                Fact::Text(text) => map.serialize_entry(name, text)?,
                Fact::Natural(number) => map.serialize_entry(name, number)?,
                Fact::Integer(number) => map.serialize_entry(name, number)?,
                Fact::Instant(instant) => map.serialize_entry(name, &format_args!("{instant}"))?,
                Fact::Members(members) => map.serialize_entry(name, &Other(members))?,
            }
        }
        map.end()
    }
}
