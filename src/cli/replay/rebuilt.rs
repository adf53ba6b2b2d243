//! What becomes of a record: the message that goes into the topic again, or why there is none.
//!
//! An event goes again as it is. Of a dead letter the payload counts: an event that Kafka refused goes again as it is, and
//! the members of a callback go through normalisation, as when they came, but for the signature, which no letter has. The
//! reason of the letter tells which it is. The payload cannot: a callback may have the members of an event, with what
//! its sender has no right to say.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::record::Record;
use crate::callback::{AuthenticCallback, Normalised, Published, Redaction, UnusableReason};
use crate::event::Timestamp;
use crate::message::{Header, Message, RECEIVED_AT, TRACE_PARENT};

/// What a dead letter says; every member has its own name there, so nothing else is taken for one.
#[derive(Deserialize)]
struct Letter<'a> {
    reason: String,
    #[serde(default)]
    event_kind: Option<String>,
    received_at: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Why a record makes no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Neither an event nor a dead letter.
    Foreign,
    /// The letter's payload is no callback: the sentence says why.
    Unusable(String),
    /// Its kind is not published.
    NotPublished(&'static str),
    /// This member is not what was sent, and the identity of the event is made of it.
    Altered(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => formatter.write_str("it is neither an event nor a dead letter"),
            Self::Unusable(why) => write!(formatter, "no event can be made of it: {why}"),
            Self::Altered(member) => write!(
                formatter,
                "{member} is masked or cut short in the letter, and event_id is made of it: write there what was sent, \
                 or it would be another event"
            ),
            Self::NotPublished(kind) => write!(formatter, "{kind} is not among callback.published_kinds"),
        }
    }
}

/// A message to be published again.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) message: Message,
    /// Why the letter was set aside; `None` for an event.
    pub(super) reason: Option<String>,
    /// When its callback was received.
    pub(super) received_at: Timestamp,
}

/// Whether it is a callback of another kind, from the topic of those: its members are its sender's, who may have written
/// there what looks like an event of anybody, or like a letter. Neither of these has an `event_type`, and it always has.
fn is_other_event(record: &Record) -> bool {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "event_type")]
        _event_type: IgnoredAny,
    }
    let is_named_so = record.header("ce_type").is_some_and(|kind| kind.starts_with("callback."));
    is_named_so || serde_json::from_slice::<Raw>(&record.value).is_ok()
}

/// How callbacks are read.
pub(super) struct Rules {
    pub(super) redaction: Redaction,
    pub(super) published: Published,
    /// The present, for the mark of a replay.
    pub(super) now: Timestamp,
}

impl Rules {
    /// What `record` comes to, with what is known of it even where it comes to nothing.
    pub(super) fn rebuild(&self, record: Record) -> Result<Rebuilt, Unfit> {
        if is_other_event(&record) {
            return Err(Unfit::Foreign);
        }
        let received_at = record.header(RECEIVED_AT).and_then(Timestamp::parse);
        if let Ok(letter) = serde_json::from_slice(&record.value) {
            let Letter { reason, event_kind, received_at: letter_received_at, payload } = letter;
            // Refused by its topic, it is still what its sender wrote.
            if event_kind.is_some_and(|kind| kind.starts_with("callback.")) {
                return Err(Unfit::Foreign);
            }
            let received_at = Timestamp::parse(&letter_received_at).or(received_at).unwrap_or(self.now);
            let payload = Bytes::copy_from_slice(payload.get().as_bytes());
            // The identity and the kind of the letter are not those of its event.
            let trace = record.headers.into_iter().filter(|header| header.name == TRACE_PARENT).collect();
            // A member is missing, or invalid, in a callback alone.
            let event = if reason.starts_with("member_") { None } else { Message::again(payload.clone(), received_at) };
            let message = match event {
                Some(event) => event,
                None => self.normalised(&payload, received_at)?,
            };
            return Ok(self.marked(message, trace, Some(reason), received_at));
        }
        let received_at = received_at.unwrap_or(self.now);
        let message = Message::again(record.value, received_at).ok_or(Unfit::Foreign)?;
        Ok(self.marked(message, record.headers, None, received_at))
    }

    fn marked(
        &self,
        mut message: Message,
        earlier: Vec<Header>,
        reason: Option<String>,
        received_at: Timestamp,
    ) -> Rebuilt {
        message.mark_replayed(earlier, self.now);
        Rebuilt { message, reason, received_at }
    }

    fn normalised(&self, payload: &[u8], received_at: Timestamp) -> Result<Message, Unfit> {
        let callback = AuthenticCallback::assumed_without_signature(payload)
            .map_err(|malformed| Unfit::Unusable(format!("{malformed:?}")))?;
        let normalised = callback.normalise(&self.redaction, self.published);
        if let (Ok(_), Some(member)) = (&normalised, callback.altered_identity()) {
            return Err(Unfit::Altered(member));
        }
        match normalised {
            Ok(Normalised::Recording { event, .. }) => Ok(Message::encode(&event, received_at)),
            Ok(Normalised::Notice { notice, .. }) => Ok(Message::encode_notice(&notice, received_at)),
            Ok(Normalised::Ignored(ignored)) => Err(Unfit::NotPublished(ignored.kind().label())),
            Err(unusable) => Err(Unfit::Unusable(match unusable.reason {
                UnusableReason::Missing => format!("{} is absent, null or empty", unusable.member),
                UnusableReason::Invalid => format!("{} has the wrong type or is out of range", unusable.member),
            })),
        }
    }
}
