//! The kinds of callbacks, and how those are read that become a notice: one file a kind.
//!
//! To publish a further kind, add its file here and its line in [`NOTICES`]; CONTRIBUTING.md tells the rest. A finished
//! recording is read by `normalise`, and all other kinds are ignored.

mod recording_exception;
mod recording_status;

use std::borrow::Cow;

use super::members::Members;
use super::normalise::{Unusable, integer, text};
use super::rebuilt::free_text;
use super::redact::Redaction;
use crate::event::{Form, Notice, RecordingEvent, StreamId};

/// What a callback tells of, by its `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A finished recording (100).
    Recording,
    /// 0.
    PushEnded,
    /// 1.
    PushStarted,
    /// 200.
    Screenshot,
    /// 314.
    RelayTask,
    /// 315.
    AudioModeration,
    /// 317.
    ImageModeration,
    /// 321.
    PushException,
    /// 328.
    Monitoring,
    /// 332.
    RecordingStatus,
    /// 341.
    RecordingException,
    /// 338, 343 to 345 and 347 to 349: subtitles, quality, smart erase, summary, highlight.
    MediaProcessing,
    /// A type that this version does not know.
    Unknown,
}

impl Kind {
    /// Every kind, for metrics and tests.
    pub const ALL: [Self; 13] = [
        Self::Recording,
        Self::PushEnded,
        Self::PushStarted,
        Self::Screenshot,
        Self::RelayTask,
        Self::AudioModeration,
        Self::ImageModeration,
        Self::PushException,
        Self::Monitoring,
        Self::RecordingStatus,
        Self::RecordingException,
        Self::MediaProcessing,
        Self::Unknown,
    ];

    pub(super) fn of(event_type: u64) -> Self {
        match event_type {
            100 => Self::Recording,
            0 => Self::PushEnded,
            1 => Self::PushStarted,
            200 => Self::Screenshot,
            314 => Self::RelayTask,
            315 => Self::AudioModeration,
            317 => Self::ImageModeration,
            321 => Self::PushException,
            328 => Self::Monitoring,
            332 => Self::RecordingStatus,
            341 => Self::RecordingException,
            338 | 343..=345 | 347..=349 => Self::MediaProcessing,
            _ => Self::Unknown,
        }
    }

    /// Value of the `kind` label in metrics and logs, and name of the kind in the configuration.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::PushEnded => "push_ended",
            Self::PushStarted => "push_started",
            Self::Screenshot => "screenshot",
            Self::RelayTask => "relay_task",
            Self::AudioModeration => "audio_moderation",
            Self::ImageModeration => "image_moderation",
            Self::PushException => "push_exception",
            Self::Monitoring => "monitoring",
            Self::RecordingStatus => "recording_status",
            Self::RecordingException => "recording_exception",
            Self::MediaProcessing => "media_processing",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of event that comes of it; `None` if none ever does.
    #[must_use]
    pub fn event_kind(self) -> Option<&'static str> {
        match self {
            Self::Recording => Some(RecordingEvent::KIND),
            other => reader(other).map(|reader| reader.form.kind),
        }
    }
}

/// The kinds that are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published(u32);

impl Published {
    /// These kinds. Those of which no event is made are ignored all the same.
    #[must_use]
    pub fn only(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | Self::bit(*kind)))
    }

    /// Whether this kind is among them.
    #[must_use]
    pub fn holds(self, kind: Kind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    fn bit(kind: Kind) -> u32 {
        1 << kind as u32
    }
}

impl Default for Published {
    /// All of which events can be made.
    fn default() -> Self {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.event_kind().is_some()).collect();
        Self::only(&kinds)
    }
}

/// Reads the facts, and says how many unknown members had to be left behind.
type Read = for<'a> fn(&Members<'a>, &Redaction, Form) -> Result<(Notice<'a>, u64), Unusable>;

/// How callbacks of one kind become notices.
pub(super) struct Reader {
    kind: Kind,
    form: Form,
    /// Members whose text is part of the identity.
    identity: &'static [&'static str],
    read: Read,
}

impl Reader {
    pub(super) fn read<'a>(&self, members: &Members<'a>, redaction: &Redaction) -> Result<(Notice<'a>, u64), Unusable> {
        (self.read)(members, redaction, self.form)
    }
}

/// Members whose text is part of the identity of what becomes of a callback of this kind.
pub(super) fn identity_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Recording => &["file_id", "record_file_id"],
        other => reader(other).map_or(&[], |reader| reader.identity),
    }
}

/// Every kind that becomes a notice.
const NOTICES: [Reader; 2] = [recording_status::READER, recording_exception::READER];

/// How callbacks of this kind become notices, if they do.
pub(super) fn reader(kind: Kind) -> Option<&'static Reader> {
    const { &NOTICES }.iter().find(|reader| reader.kind == kind)
}

/// The account and the stream, which every notice needs.
fn subject<'a>(members: &Members<'a>) -> Result<(u64, StreamId<'a>), Unusable> {
    let stream_id = needed(members, "stream_id")?;
    let app_id = integer(members, "appid")?.ok_or(Unusable::missing("appid"))?;
    Ok((app_id, StreamId::parse(stream_id).ok_or(Unusable::invalid("stream_id"))?))
}

/// A text that an event cannot do without.
fn needed<'a>(members: &Members<'a>, name: &'static str) -> Result<Cow<'a, str>, Unusable> {
    text(members, name)?.filter(|text| !text.is_empty()).ok_or(Unusable::missing(name))
}

/// A text as it was sent, for the identity, and masked, for the event.
struct Text<'a> {
    sent: Option<Cow<'a, str>>,
}

impl<'a> Text<'a> {
    fn of(members: &Members<'a>, name: &'static str) -> Result<Self, Unusable> {
        Ok(Self { sent: text(members, name)? })
    }

    fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }

    fn masked(self, redaction: &Redaction) -> Option<Cow<'a, str>> {
        self.sent.map(|text| free_text(text, redaction))
    }
}
