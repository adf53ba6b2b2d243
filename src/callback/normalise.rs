//! Normalisation: the provider's members of every edition → a [`RecordingEvent`].
//!
//! Only `event_type`, `appid`, `stream_id` and a file id are needed; any other fact may be absent or `null`. A known
//! member of the wrong type, or out of range, makes the callback unusable: it is authentic, so it is not refused as
//! malformed, but no event is guessed from it. Integers written as strings of digits are understood, since sibling
//! events of the provider send them so. Unknown members are never a fault.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::{Members, string};
use super::rebuilt::free_text;
use super::redact::{MASK, is_member_name};
use super::{Ignored, Redaction};
use crate::event::{Digits, FileIds, Notice, RecordingEvent, RecordingFacts, Scalar, StreamId, Timestamp};

/// How many unknown members an event carries at most.
const OTHER_MEMBERS_MAX: usize = 32;
/// Longest unknown member that an event carries, name and value together, in bytes.
const OTHER_BYTES_MAX: usize = 1024;

/// Every member of a recording callback that is read by name, or that must not leave.
pub(super) const KNOWN: [&str; 24] = [
    "t",
    "sign",
    "event_type",
    "appid",
    "app",
    "appname",
    "stream_id",
    "channel_id",
    "file_id",
    "record_file_id",
    "record_temp_id",
    "file_format",
    "task_id",
    "start_time",
    "end_time",
    "start_time_usec",
    "end_time_usec",
    "duration",
    "file_size",
    "stream_param",
    "video_url",
    "media_start_time",
    "record_bps",
    "callback_ext",
];

/// Why no event can be made of an authentic callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable {
    /// What is wrong.
    pub reason: UnusableReason,
    /// With which member.
    pub member: &'static str,
}

/// What is wrong with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusableReason {
    /// An event needs it, and it is absent, `null` or empty.
    Missing,
    /// It has the wrong type or lies out of range.
    Invalid,
}

impl Unusable {
    pub(super) fn missing(member: &'static str) -> Self {
        Self { reason: UnusableReason::Missing, member }
    }

    pub(super) fn invalid(member: &'static str) -> Self {
        Self { reason: UnusableReason::Invalid, member }
    }
}

/// What an authentic callback comes to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is made once for a callback, and taken apart at once")]
pub enum Normalised<'a> {
    /// An event to publish, and how many unknown members it had to leave behind.
    Recording {
        /// The event.
        event: RecordingEvent<'a>,
        /// Unknown members that were nested, too long, too many, or whose name is none.
        members_dropped: u64,
    },
    /// Another event to publish, and how many unknown members it had to leave behind.
    Notice {
        /// The event.
        notice: Notice<'a>,
        /// As above.
        members_dropped: u64,
    },
    /// Nothing to publish.
    Ignored(Ignored),
}

pub(super) fn recording<'a>(members: &Members<'a>, redaction: &Redaction) -> Result<Normalised<'a>, Unusable> {
    let stream_id = text(members, "stream_id")?.ok_or(Unusable::missing("stream_id"))?;
    if stream_id.is_empty() {
        return Err(Unusable::missing("stream_id"));
    }
    let file_ids = FileIds::new(text(members, "file_id")?, text(members, "record_file_id")?);
    let extension = Extension::of(text(members, "callback_ext")?.as_deref());
    let masked = |text: Option<Cow<'a, str>>| text.map(|text| free_text(text, redaction));
    let extended = |text: Option<String>| masked(text.map(Cow::Owned));
    // Every text but the ids and the address of the file, which consumers need exactly as they are.
    let free = |name| text(members, name).map(masked);
    let (other, members_dropped) = unknown_members(members, &KNOWN, redaction);
    let facts = RecordingFacts {
        app_id: integer(members, "appid")?.ok_or(Unusable::missing("appid"))?,
        push_domain: free("app")?,
        push_path: free("appname")?,
        stream_id: StreamId::parse(stream_id).ok_or(Unusable::invalid("stream_id"))?,
        channel_id: free("channel_id")?,
        file_ids: file_ids.ok_or(Unusable::missing("file_id"))?,
        task_id: free("task_id")?,
        template_id: free("record_temp_id")?.filter(|id| !id.is_empty()),
        session_id: extended(extension.session_id),
        file_format: free("file_format")?,
        file_size_bytes: integer(members, "file_size")?,
        duration_seconds: integer(members, "duration")?,
        recording_started_at: instant(members, "start_time", "start_time_usec")?,
        recording_ended_at: instant(members, "end_time", "end_time_usec")?,
        media_start_pts: integer(members, "media_start_time")?,
        bitrate_kbps: integer(members, "record_bps")?,
        video_codec: extended(extension.video_codec),
        resolution: extended(extension.resolution),
        video_url: text(members, "video_url")?,
        push_parameters: free("stream_param")?,
        other,
    };
    Ok(Normalised::Recording { event: RecordingEvent::new(facts), members_dropped })
}

/// A string; `None` if absent or `null`.
pub(super) fn text<'a>(members: &Members<'a>, name: &'static str) -> Result<Option<Cow<'a, str>>, Unusable> {
    match members.get(name) {
        Some(value) if value.get() != "null" => string(value).map(Some).ok_or(Unusable::invalid(name)),
        _ => Ok(None),
    }
}

/// An integer, as a number or as a string of digits; `None` if absent or `null`.
pub(super) fn integer<T>(members: &Members<'_>, name: &'static str) -> Result<Option<T>, Unusable>
where
    T: std::str::FromStr,
{
    let Some(value) = members.get(name) else { return Ok(None) };
    let source = value.get();
    if source == "null" {
        return Ok(None);
    }
    let digits = source.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(source);
    // Rust's own parser would take `+5`, which is no JSON; JSON numbers such as `5.0` and `5e0` fail here by themselves.
    // No number of the provider has so many digits, zeros before it included.
    let plain = !digits.starts_with('+') && digits.len() <= Digits::BYTES_MAX;
    digits.parse().ok().filter(|_| plain).map(Some).ok_or(Unusable::invalid(name))
}

/// The instant that begins the second `name`.
pub(super) fn instant_of(members: &Members<'_>, name: &'static str) -> Result<Option<Timestamp>, Unusable> {
    let Some(seconds) = integer::<u64>(members, name)? else { return Ok(None) };
    Timestamp::from_seconds(seconds, 0).map(Some).ok_or(Unusable::invalid(name))
}

/// The instant `seconds` + `fraction` microseconds.
fn instant(
    members: &Members<'_>,
    seconds: &'static str,
    fraction: &'static str,
) -> Result<Option<Timestamp>, Unusable> {
    let microseconds = integer::<u64>(members, fraction)?.unwrap_or(0);
    if microseconds >= 1_000_000 {
        return Err(Unusable::invalid(fraction));
    }
    let Some(whole) = integer::<u64>(members, seconds)? else { return Ok(None) };
    Timestamp::from_seconds(whole, microseconds).map(Some).ok_or(Unusable::invalid(seconds))
}

/// What is worth having of `callback_ext`, JSON inside a string. The provider says not to rely on it, so whatever
/// cannot be read is simply absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extension {
    #[serde(deserialize_with = "lenient")]
    video_codec: Option<String>,
    #[serde(deserialize_with = "lenient")]
    resolution: Option<String>,
    #[serde(deserialize_with = "lenient")]
    session_id: Option<String>,
}

impl Extension {
    fn of(text: Option<&str>) -> Self {
        // A struct can also be read from an array, by position; that is not what the provider means.
        text.filter(|text| text.trim_start().starts_with('{'))
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }
}

fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(string(value).map(Cow::into_owned))
}

/// The scalar members that this version does not know, and how many had to be left behind.
pub(super) fn unknown_members<'a>(
    members: &Members<'a>,
    known: &[&str],
    redaction: &Redaction,
) -> (Vec<(Cow<'a, str>, Scalar<'a>)>, u64) {
    let unknown = members.iter().filter(|(name, _)| !known.contains(&name.as_ref()));
    let mut unknown: Vec<_> = unknown.collect();
    // By name, so that the bytes of an event do not depend on the order in which a sender writes its members.
    unknown.sort_unstable_by(|(first, _), (second, _)| first.cmp(second));
    let (mut kept, mut dropped) = (Vec::new(), 0);
    for (name, value) in unknown {
        let fits = kept.len() < OTHER_MEMBERS_MAX && name.len() + value.get().len() <= OTHER_BYTES_MAX;
        match scalar(name, value, redaction).filter(|_| fits) {
            Some(scalar) => kept.push((name.clone(), scalar)),
            None => dropped += 1,
        }
    }
    (kept, dropped)
}

fn scalar<'a>(name: &str, value: &'a RawValue, redaction: &Redaction) -> Option<Scalar<'a>> {
    let source = value.get();
    if !is_member_name(name) {
        return None;
    }
    match source.bytes().next()? {
        b'{' | b'[' => None,
        b'n' => Some(Scalar::Null),
        _ if redaction.hides(name) => Some(Scalar::Text(Cow::Borrowed(MASK))),
        b't' => Some(Scalar::Boolean(true)),
        b'f' => Some(Scalar::Boolean(false)),
        b'"' => {
            // JSON within a string is as nested as JSON itself.
            let text = string(value).filter(|text| !text.trim_start().starts_with(['{', '[']))?;
            Some(Scalar::Text(redaction.masked(text)))
        }
        _ => Digits::parse(source).map(Scalar::Number),
    }
}
