//! Recording exception (341): something went wrong while a stream was recorded, so often within a period.
//!
//! The fault stands in the member `exception`, an object; its kind is a negative number, an open set.

use super::super::members::Members;
use super::super::normalise::{Unusable, instant_of, integer, text, unknown_members};
use super::super::redact::Redaction;
use super::{Kind, Reader, Text, subject};
use crate::event::{Form, Notice};

pub(super) const READER: Reader = Reader {
    kind: Kind::RecordingException,
    form: Form { kind: "recording.exception", schema: "recording-exception.v1" },
    identity: &["domain", "path", "session_id", "file_format", "exception_level", "interface"],
    read,
};

/// Members of the callback that are read by name, or that must not leave.
const KNOWN: [&str; 13] = [
    "t",
    "sign",
    "event_type",
    "appid",
    "domain",
    "path",
    "stream_id",
    "session_id",
    "file_format",
    "timestamp",
    "exception_level",
    "exception",
    "interface",
];

fn read<'a>(members: &Members<'a>, redaction: &Redaction, form: Form) -> Result<(Notice<'a>, u64), Unusable> {
    const EXCEPTION: &str = "exception";
    let subject = subject(members)?;
    let (domain, path) = (Text::of(members, "domain")?, Text::of(members, "path")?);
    let (session_id, file_format) = (Text::of(members, "session_id")?, Text::of(members, "file_format")?);
    let (level, interface) = (Text::of(members, "exception_level")?, Text::of(members, "interface")?);
    let reported_at = instant_of(members, "timestamp")?;
    let exception = members.get(EXCEPTION).filter(|value| value.get() != "null");
    let exception = exception.ok_or(Unusable::missing(EXCEPTION))?;
    // Whatever is wrong inside of it is a fault of this member.
    let fault = |_| Unusable::invalid(EXCEPTION);
    let exception = Members::parse(exception.get().as_bytes()).map_err(|_| Unusable::invalid(EXCEPTION))?;
    let code = integer::<i64>(&exception, "type").map_err(fault)?.ok_or(Unusable::missing(EXCEPTION))?;
    let occurrences = integer::<u64>(&exception, "occurs").map_err(fault)?;
    let description = Text { sent: text(&exception, "desc").map_err(fault)? };
    let digits = [
        reported_at.map(|instant| instant.seconds().to_string()),
        Some(code.to_string()),
        occurrences.map(|occurrences| occurrences.to_string()),
    ];
    let [second, code_digits, occurrences_digits] = &digits;
    let parts = [
        domain.sent(),
        path.sent(),
        session_id.sent(),
        file_format.sent(),
        level.sent(),
        interface.sent(),
        second.as_deref(),
        code_digits.as_deref(),
        occurrences_digits.as_deref(),
    ];
    let event_id = form.identity(&subject, &parts);
    let (other, dropped) = unknown_members(members, &KNOWN, redaction);
    let facts = vec![
        ("push_domain", domain.masked(redaction).into()),
        ("push_path", path.masked(redaction).into()),
        ("session_id", session_id.masked(redaction).into()),
        ("file_format", file_format.masked(redaction).into()),
        ("reported_at", reported_at.into()),
        ("level", level.masked(redaction).into()),
        ("exception_code", Some(code).into()),
        ("occurrences", occurrences.into()),
        ("description", description.masked(redaction).into()),
        ("interface", interface.masked(redaction).into()),
        ("other", other.into()),
    ];
    Ok((Notice::new((form, event_id), subject, reported_at, facts), dropped))
}
