//! Events, as facts that a consumer can rely on: a [`RecordingEvent`] tells of one finished recording, a [`Notice`] of
//! whatever else happens to a recording.
//!
//! The types here are parsed and bounded. A [`RecordingEvent`] that exists has an account, a stream and a file, and
//! every time in it can be written as RFC 3339. Nothing here knows how the provider wrote the facts (`callback`)
//! or how Kafka carries them (`message`).

mod notice;

use std::borrow::Cow;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime};
use uuid::Uuid;

pub use notice::{Fact, Form, Notice};

/// Namespace of every [`EventId`]. It must never change: a consumer removes duplicates by the ids made from it.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x5d3c_9b0e_7f64_4c1b_9e55_2f0a_83d1_6c47);

/// Longest accepted `stream_id` in bytes. The provider's own limit is lower; this one bounds keys and headers.
pub const STREAM_ID_BYTES_MAX: usize = 256;

const MICROSECONDS: i64 = 1_000_000;
/// 9999-12-31T23:59:59.999999Z, the last instant that RFC 3339 can name.
const LAST_MICROSECOND: i64 = 253_402_300_799 * MICROSECONDS + 999_999;

/// An instant in UTC with microseconds, between 1970 and the end of 9999. It displays as RFC 3339 with exactly six
/// fractional digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// `seconds` after 1970 and a fraction of `microseconds`; `None` if the fraction is no fraction (1,000,000 or
    /// more) or the instant lies beyond the year 9999.
    #[must_use]
    pub fn from_seconds(seconds: u64, microseconds: u64) -> Option<Self> {
        if microseconds >= MICROSECONDS.unsigned_abs() {
            return None;
        }
        let whole = i64::try_from(seconds).ok()?.checked_mul(MICROSECONDS)?;
        Self::from_microseconds(whole.checked_add(i64::try_from(microseconds).ok()?)?)
    }

    /// `microseconds` after 1970; `None` if negative or beyond the year 9999.
    #[must_use]
    pub fn from_microseconds(microseconds: i64) -> Option<Self> {
        (0..=LAST_MICROSECOND).contains(&microseconds).then_some(Self(microseconds))
    }

    /// Reads an instant of RFC 3339 in UTC (`Z`), with up to six fractional digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let (clock, fraction) = time.split_once('.').map_or((time, None), |(clock, digits)| (clock, Some(digits)));
        let fraction = fraction.unwrap_or("0");
        let numbers = |text: &str, sign: char, lengths: [usize; 3]| -> Option<[u16; 3]> {
            let parts: Vec<&str> = text.split(sign).collect();
            let plain = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
            (parts.iter().map(|part| part.len()).eq(lengths) && parts.iter().all(plain)).then_some(())?;
            let numbers: Vec<u16> = parts.iter().filter_map(|part| part.parse().ok()).collect();
            numbers.try_into().ok()
        };
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let is_fraction = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let microsecond: u32 = is_fraction.then(|| format!("{fraction:0<6}").parse().ok()).flatten()?;
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let [day, hour, minute, second] = [day, hour, minute, second].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
        let date = Date::from_calendar_date(i32::from(year), month, day).ok()?;
        let instant = date.with_hms_micro(hour, minute, second, microsecond).ok()?.assume_utc();
        Self::from_microseconds(i64::try_from(instant.unix_timestamp_nanos() / 1000).ok()?)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn microseconds(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0 / MICROSECONDS
    }

    /// This instant `seconds` earlier; `None` if that is before 1970.
    #[must_use]
    pub fn minus_seconds(self, seconds: u64) -> Option<Self> {
        let span = i64::try_from(seconds).ok()?.checked_mul(MICROSECONDS)?;
        Self::from_microseconds(self.0.checked_sub(span)?)
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock before 1970 or beyond 9999 is held at that bound.
    fn from(time: SystemTime) -> Self {
        let microseconds = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(LAST_MICROSECOND).min(LAST_MICROSECOND));
        Self(microseconds)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = OffsetDateTime::from_unix_timestamp(self.seconds())
            .expect("the constructor keeps every instant between 1970 and 9999");
        // Every event has some of these, and to format seven numbers takes many times what filling in digits takes.
        let ((year, month, day), (hour, minute, second)) = (instant.to_calendar_date(), instant.to_hms());
        let (year, fraction) = (year.unsigned_abs(), u32::try_from(self.0 % MICROSECONDS).unwrap_or_default());
        let (century, year) = (digits(year / 100), digits(year % 100));
        let (month, day) = (digits(u8::from(month).into()), digits(day.into()));
        let [hour, minute, second] = [hour, minute, second].map(|part| digits(part.into()));
        let (first, middle, last) = (digits(fraction / 10_000), digits(fraction / 100 % 100), digits(fraction % 100));
        let text = [
            century[0], century[1], year[0], year[1], b'-', month[0], month[1], b'-', day[0], day[1], b'T', hour[0],
            hour[1], b':', minute[0], minute[1], b':', second[0], second[1], b'.', first[0], first[1], middle[0],
            middle[1], last[0], last[1], b'Z',
        ];
        formatter.write_str(std::str::from_utf8(&text).expect("digits and signs are ASCII"))
    }
}

/// The two digits of a number below 100.
fn digits(number: u32) -> [u8; 2] {
    [number / 10 % 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or_default())
}

/// The name of a live stream: 1 to [`STREAM_ID_BYTES_MAX`] bytes of UTF-8 without control characters, otherwise as
/// the provider wrote it (`"0202"` keeps its zero). It is the key of every message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId<'a>(Cow<'a, str>);

impl<'a> StreamId<'a> {
    /// `None` if `text` is empty, too long or holds a control character (C0, DEL or C1).
    #[must_use]
    pub fn parse(text: Cow<'a, str>) -> Option<Self> {
        let bounded = (1..=STREAM_ID_BYTES_MAX).contains(&text.len());
        (bounded && !text.chars().any(char::is_control)).then_some(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identity of an event: the same for every delivery of the same file, in whatever process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// `UUIDv5` of the kind, the account and the file. The account is decimal digits, so the parts cannot run into
    /// each other.
    fn of(app_id: u64, file: &str) -> Self {
        let mut name = String::with_capacity(RecordingEvent::KIND.len() + 22 + file.len());
        name.extend([RecordingEvent::KIND, ":", &app_id.to_string(), ":", file]);
        Self(Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes()))
    }

    /// The id as a number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

/// The provider's ids of a recorded file, at least one of them present and not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIds<'a> {
    file_id: Option<Cow<'a, str>>,
    record_file_id: Option<Cow<'a, str>>,
}

impl<'a> FileIds<'a> {
    /// Empty ids count as absent; `None` if nothing is left.
    #[must_use]
    pub fn new(file_id: Option<Cow<'a, str>>, record_file_id: Option<Cow<'a, str>>) -> Option<Self> {
        let ids = Self {
            file_id: file_id.filter(|id| !id.is_empty()),
            record_file_id: record_file_id.filter(|id| !id.is_empty()),
        };
        (ids.file_id.is_some() || ids.record_file_id.is_some()).then_some(ids)
    }

    /// The id that stands for the file: `record_file_id`, else `file_id`.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.record_file_id.as_deref().or(self.file_id.as_deref()).unwrap_or_default()
    }

    /// `file_id` as sent.
    #[must_use]
    pub fn file_id(&self) -> Option<&str> {
        self.file_id.as_deref()
    }

    /// `record_file_id` as sent.
    #[must_use]
    pub fn record_file_id(&self) -> Option<&str> {
        self.record_file_id.as_deref()
    }
}

/// A plain JSON number: an optional minus, digits, an optional fraction, at most [`Digits::BYTES_MAX`] bytes. No
/// exponent, so that no consumer is made to build a number of a million digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits<'a>(Cow<'a, str>);

impl<'a> Digits<'a> {
    /// Longest number that is kept.
    pub const BYTES_MAX: usize = 40;

    /// `None` if `text` is not such a number.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'));
        (plain && text.len() <= Self::BYTES_MAX).then_some(Self(Cow::Borrowed(text)))
    }

    /// The number as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a member that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Boolean(bool),
    /// A JSON number in its own digits, so that no precision is lost.
    Number(Digits<'a>),
    /// A JSON string, secrets masked.
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The same, borrowed from nothing.
    #[must_use]
    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Null => Scalar::Null,
            Self::Boolean(truth) => Scalar::Boolean(truth),
            Self::Number(Digits(digits)) => Scalar::Number(Digits(Cow::Owned(digits.into_owned()))),
            Self::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
        }
    }
}

/// The facts of one finished recording, secrets already masked. Absent facts are `None`. Texts are
/// borrowed from the callback's body wherever they stand there as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingFacts<'a> {
    /// Account number at the provider.
    pub app_id: u64,
    /// Push domain.
    pub push_domain: Option<Cow<'a, str>>,
    /// Push path, for example `live`.
    pub push_path: Option<Cow<'a, str>>,
    /// Name of the stream.
    pub stream_id: StreamId<'a>,
    /// Channel, the same as the stream in every payload seen.
    pub channel_id: Option<Cow<'a, str>>,
    /// Ids of the file.
    pub file_ids: FileIds<'a>,
    /// Recording task.
    pub task_id: Option<Cow<'a, str>>,
    /// Recording template; `None` means a task without one.
    pub template_id: Option<Cow<'a, str>>,
    /// Push session, from the provider's extension.
    pub session_id: Option<Cow<'a, str>>,
    /// Container format, an open set: `flv`, `hls`, `mp4`, `aac` and others.
    pub file_format: Option<Cow<'a, str>>,
    /// Size of the file in bytes.
    pub file_size_bytes: Option<u64>,
    /// Length of the content in seconds.
    pub duration_seconds: Option<u64>,
    /// Start of the recording task.
    pub recording_started_at: Option<Timestamp>,
    /// End of the recording task.
    pub recording_ended_at: Option<Timestamp>,
    /// Presentation time stamp at the first pull.
    pub media_start_pts: Option<i64>,
    /// Bit rate in kbit/s; 0 is the original stream.
    pub bitrate_kbps: Option<u64>,
    /// Video codec, from the provider's extension.
    pub video_codec: Option<Cow<'a, str>>,
    /// Resolution, from the provider's extension.
    pub resolution: Option<Cow<'a, str>>,
    /// Where the file is. Sensitive: it may carry its own signature.
    pub video_url: Option<Cow<'a, str>>,
    /// The push address's query, secret values masked.
    pub push_parameters: Option<Cow<'a, str>>,
    /// Scalar members that this version does not know, by name.
    pub other: Vec<(Cow<'a, str>, Scalar<'a>)>,
}

/// One finished recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingEvent<'a> {
    facts: RecordingFacts<'a>,
    event_id: EventId,
    content_started_at: Option<Timestamp>,
}

impl<'a> RecordingEvent<'a> {
    /// The kind of every event of this type, part of its identity.
    pub const KIND: &'static str = "recording.completed";

    /// Derives identity and the true start of the content from the facts.
    #[must_use]
    pub fn new(facts: RecordingFacts<'a>) -> Self {
        let event_id = EventId::of(facts.app_id, facts.file_ids.identity());
        // The task may start long before the first picture: only the end and the length are to be trusted.
        let content_started_at =
            facts.recording_ended_at.zip(facts.duration_seconds).and_then(|(end, length)| end.minus_seconds(length));
        Self { facts, event_id, content_started_at }
    }

    /// Identity of the event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// The facts it was made from.
    #[must_use]
    pub fn facts(&self) -> &RecordingFacts<'a> {
        &self.facts
    }

    /// When the content of the file begins: the end of the recording less its length.
    #[must_use]
    pub fn content_started_at(&self) -> Option<Timestamp> {
        self.content_started_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_an_instant_stands_in_its_place() {
        for (microseconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_770_031_273_880_554, "2026-02-02T11:21:13.880554Z"),
            (1_767_225_600_000_007, "2026-01-01T00:00:00.000007Z"),
            (LAST_MICROSECOND, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::from_microseconds(microseconds).expect("it is in range").to_string(), text);
            assert_eq!(Timestamp::parse(text).map(Timestamp::microseconds), Some(microseconds));
        }
    }

    #[test]
    fn what_is_no_instant_is_not_read_as_one() {
        let seconds = |text| Timestamp::parse(text).map(Timestamp::microseconds);
        assert_eq!(seconds("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(seconds("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00+00:00",
            "1970-1-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.0000000Z",
            "1970-01-01T00:00:00.-1Z",
            "+970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
