//! A notice: an event of any kind but a finished recording. It is made of named facts, in the order of its schema.
//!
//! A finished recording has a type of its own, [`super::RecordingEvent`]: consumers build upon each of its facts, and
//! nearly every event is one. What else happens to a recording comes seldom, and its kinds differ in nothing but
//! their facts. So they share this type, and a kind is added by naming its facts in `callback::kinds`.

use std::borrow::Cow;

use uuid::Uuid;

use super::{EVENT_NAMESPACE, EventId, Scalar, StreamId, Timestamp};

/// What a kind of notice is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The kind, part of every identity: it must never change.
    pub kind: &'static str,
    /// Name and major version of the schema.
    pub schema: &'static str,
}

impl Form {
    /// The identity of a notice of this form about a stream of an account. `parts` are everything in which two such
    /// notices may differ, and two deliveries of one may not, as the provider wrote it.
    #[must_use]
    pub fn identity(self, (app_id, stream_id): &(u64, StreamId<'_>), parts: &[Option<&str>]) -> EventId {
        event_id(self.kind, *app_id, stream_id.as_str(), parts)
    }
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<'a> {
    /// The callback does not say.
    Absent,
    /// A text, secrets masked.
    Text(Cow<'a, str>),
    /// A number of zero or more.
    Natural(u64),
    /// A number.
    Integer(i64),
    /// An instant.
    Instant(Timestamp),
    /// Members that this version does not know, by name.
    Members(Vec<(Cow<'a, str>, Scalar<'a>)>),
}

impl<'a> From<Option<Cow<'a, str>>> for Fact<'a> {
    fn from(text: Option<Cow<'a, str>>) -> Self {
        text.map_or(Self::Absent, Self::Text)
    }
}

impl From<Option<u64>> for Fact<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Natural)
    }
}

impl From<Option<i64>> for Fact<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Absent, Self::Integer)
    }
}

impl From<Option<Timestamp>> for Fact<'_> {
    fn from(instant: Option<Timestamp>) -> Self {
        instant.map_or(Self::Absent, Self::Instant)
    }
}

impl<'a> From<Vec<(Cow<'a, str>, Scalar<'a>)>> for Fact<'a> {
    fn from(members: Vec<(Cow<'a, str>, Scalar<'a>)>) -> Self {
        Self::Members(members)
    }
}

/// One thing that happened to a recording, other than its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice<'a> {
    form: Form,
    event_id: EventId,
    app_id: u64,
    stream_id: StreamId<'a>,
    occurred_at: Option<Timestamp>,
    facts: Vec<(&'static str, Fact<'a>)>,
}

impl<'a> Notice<'a> {
    /// A notice of this form, about a stream of an account. `facts` are the members that follow those that every event
    /// has, in the order of the schema.
    #[must_use]
    pub fn new(
        (form, event_id): (Form, EventId),
        (app_id, stream_id): (u64, StreamId<'a>),
        occurred_at: Option<Timestamp>,
        facts: Vec<(&'static str, Fact<'a>)>,
    ) -> Self {
        Self { form, event_id, app_id, stream_id, occurred_at, facts }
    }

    /// What it is called.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Identity of the event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// Account number at the provider.
    #[must_use]
    pub fn app_id(&self) -> u64 {
        self.app_id
    }

    /// Name of the stream.
    #[must_use]
    pub fn stream_id(&self) -> &StreamId<'a> {
        &self.stream_id
    }

    /// When it happened, if the provider says so.
    #[must_use]
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.occurred_at
    }

    /// Its further facts, in the order of the schema.
    #[must_use]
    pub fn facts(&self) -> &[(&'static str, Fact<'a>)] {
        &self.facts
    }
}

/// `UUIDv5` of kind, account, stream and the other parts. Each part has its length before it, so that none can run into
/// the next; an absent one is a dash, which is no length.
fn event_id(kind: &str, app_id: u64, stream_id: &str, identity: &[Option<&str>]) -> EventId {
    let framed = [Some(stream_id)].into_iter().chain(identity.iter().copied()).map(|part| match part {
        Some(part) => format!(":{}:{part}", part.len()),
        None => ":-".to_owned(),
    });
    let name: String = [format!("{kind}:{app_id}")].into_iter().chain(framed).collect();
    EventId(Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_an_identity_runs_into_the_next() {
        let parts: [&[Option<&str>]; 7] = [
            &[Some("a"), Some("b")],
            &[Some("ab"), None],
            &[None, Some("ab")],
            &[Some("a:1:b"), None],
            &[Some(""), Some("ab")],
            &[Some("-"), Some("ab")],
            &[None, None],
        ];
        let ids = parts.map(|parts| event_id("kind", 1, "s", parts).as_u128());
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
    }
}
