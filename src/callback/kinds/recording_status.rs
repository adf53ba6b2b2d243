//! Recording status (332): a recording task has begun, paused, gone on, failed or ended.
//!
//! `record_detail` is JSON inside a string, and the set of its members is not fixed: what cannot be read there is
//! absent and counted as left behind, and what is not known by name is passed on. `record_event` is an open set.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::members::{Members, string};
use super::super::normalise::{Unusable, instant_of, integer, unknown_members};
use super::super::rebuilt::free_text;
use super::super::redact::{MASK, Redaction};
use super::{Kind, Reader, Text, needed, subject};
use crate::event::{Fact, Form, Notice, Scalar};

pub(super) const READER: Reader = Reader {
    kind: Kind::RecordingStatus,
    form: Form { kind: "recording.status", schema: "recording-status.v1" },
    identity: &["domain", "appname", "session_id", "task_id", "seq", "record_event"],
    read,
};

/// Members of the callback that are read by name, or that must not leave.
const KNOWN: [&str; 13] = [
    "t",
    "sign",
    "event_type",
    "appid",
    "domain",
    "appname",
    "stream_id",
    "session_id",
    "task_id",
    "seq",
    "record_event",
    "event_time",
    "record_detail",
];
/// Members of `record_detail` that are read by name.
const KNOWN_OF_DETAIL: [&str; 6] =
    ["file_format", "record_bps", "start_model", "record_content", "source_type", "codec_temp_id"];

const FORMATS: [(&str, &str); 5] = [("1", "flv"), ("2", "hls"), ("3", "mp4"), ("4", "aac"), ("5", "mp3")];
const STARTERS: [(&str, &str); 2] = [("1", "template"), ("5", "api")];
const CONTENTS: [(&str, &str); 3] = [("1", "original"), ("2", "watermarked"), ("3", "transcoded")];
const SOURCES: [(&str, &str); 2] = [("1", "live"), ("2", "relay")];

fn read<'a>(members: &Members<'a>, redaction: &Redaction, form: Form) -> Result<(Notice<'a>, u64), Unusable> {
    let subject = subject(members)?;
    let status = needed(members, "record_event")?;
    let (domain, path) = (Text::of(members, "domain")?, Text::of(members, "appname")?);
    let (session_id, task_id) = (Text::of(members, "session_id")?, Text::of(members, "task_id")?);
    let sequence = sequence(members)?;
    let occurred_at = instant_of(members, "event_time")?;
    let second = occurred_at.map(|instant| instant.seconds().to_string());
    let parts = [
        domain.sent(),
        path.sent(),
        session_id.sent(),
        task_id.sent(),
        sequence.sent(),
        Some(status.as_ref()),
        second.as_deref(),
    ];
    let event_id = form.identity(&subject, &parts);
    let detail = Text::of(members, "record_detail")?.sent.filter(|text| !text.is_empty());
    let read = detail.as_deref().map(|text| Members::parse(text.as_bytes()));
    let unread = u64::from(matches!(read, Some(Err(_))));
    let detail = read.and_then(Result::ok);
    let coded = |name, words: &[_]| Fact::from(detail.as_ref().and_then(|detail| word(detail, name, words)));
    let (further, dropped_of_detail) =
        detail.as_ref().map_or((Vec::new(), unread), |detail| further(detail, redaction));
    let (other, dropped) = unknown_members(members, &KNOWN, redaction);
    let bitrate = detail.as_ref().and_then(|detail| integer::<u64>(detail, "record_bps").ok().flatten());
    let facts = vec![
        ("push_domain", domain.masked(redaction).into()),
        ("push_path", path.masked(redaction).into()),
        ("session_id", session_id.masked(redaction).into()),
        ("task_id", task_id.masked(redaction).into()),
        ("sequence", sequence.masked(redaction).into()),
        ("status", Fact::Text(free_text(status, redaction))),
        ("occurred_at", occurred_at.into()),
        ("file_format", coded("file_format", &FORMATS)),
        ("bitrate_kbps", bitrate.into()),
        ("started_by", coded("start_model", &STARTERS)),
        ("content", coded("record_content", &CONTENTS)),
        ("source", coded("source_type", &SOURCES)),
        ("transcoding_template_id", coded("codec_temp_id", &[])),
        ("detail", Fact::Members(further)),
        ("other", other.into()),
    ];
    Ok((Notice::new((form, event_id), subject, occurred_at, facts), dropped + dropped_of_detail))
}

/// It is documented as a string, which stays as it is; a number means the same.
fn sequence<'a>(members: &Members<'a>) -> Result<Text<'a>, Unusable> {
    if members.get("seq").is_some_and(|seq| seq.get().starts_with('"')) {
        return Text::of(members, "seq");
    }
    Ok(Text { sent: integer::<u64>(members, "seq")?.map(|seq| Cow::Owned(seq.to_string())) })
}

/// The members of the detail that are not known by name, and how many of all had to be left behind. If one is the name
/// of a secret, which of the others is the secret cannot be told, so all are masked.
fn further(detail: &Members<'_>, redaction: &Redaction) -> (Vec<(Cow<'static, str>, Scalar<'static>)>, u64) {
    let (further, dropped) = unknown_members(detail, &KNOWN_OF_DETAIL, redaction);
    let names = |(_, value): &(_, &RawValue)| string(value).is_some_and(|text| redaction.is_name_of_a_secret(&text));
    let is_secret = detail.iter().any(names);
    let shown = |value: Scalar<'_>| if is_secret { Scalar::Text(MASK.into()) } else { value.into_owned() };
    let further = further.into_iter().map(|(name, value)| (Cow::Owned(name.into_owned()), shown(value)));
    let unread = KNOWN_OF_DETAIL.iter().filter(|name| integer::<u64>(detail, name).is_err()).count();
    (further.collect(), dropped + unread as u64)
}

/// What a number of the detail means, or its digits if that is not known.
fn word(detail: &Members<'_>, name: &'static str, words: &[(&str, &'static str)]) -> Option<Cow<'static, str>> {
    let digits = integer::<u64>(detail, name).ok().flatten()?.to_string();
    let known = words.iter().find(|(code, _)| *code == digits);
    Some(known.map_or(Cow::Owned(digits), |(_, word)| Cow::Borrowed(*word)))
}
