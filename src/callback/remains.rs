//! What remains of an authentic callback of which no event could be made: its members, rebuilt for a human to read.
//!
//! Whatever the body holds, the result is one JSON object of at most [`PAYLOAD_BYTES_MAX`] bytes, without `t` and
//! `sign`, masked as events are. Values that do not fit are left out and counted, those known by name last of all.

use std::borrow::Cow;

use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::Redaction;
use super::members::Members;
use super::normalise::{KNOWN, integer};
use super::rebuilt::{Builder, Limits, Part, USUAL, lossy_text};
use super::redact::{CUT, MASK, is_member_name};
use crate::event::StreamId;

/// Longest payload in bytes. With key and headers it stays well below the message limit of 1,000,000 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// Members that prove the sender and must not leave.
const PROOF: [&str; 2] = ["t", "sign"];
/// What a callback is told apart by.
const FIRST: [&str; 3] = ["event_type", "appid", "stream_id"];
/// Texts that events carry unmasked: the ids, and the address of the file. Of other kinds than recordings, the first.
const EXACT: [&str; 4] = ["stream_id", "file_id", "record_file_id", "video_url"];

/// Tried in turn. The last can never exceed the limit: 64 values with names of 128 bytes and texts of 512, each byte
/// of which takes six at most as JSON.
const LIMITS: [Limits; 2] = [USUAL, Limits { depth: 0, values: 64, text_bytes: 512 }];

/// Whether the text `name` of `members`, which once were rebuilt here, is not what was sent.
pub(super) fn is_altered(members: &Members<'_>, name: &str) -> bool {
    let text = members.get(name).and_then(lossy_text).unwrap_or_default();
    text.ends_with(CUT) || (text.contains(MASK) && !EXACT.contains(&name))
}

/// See the module.
#[derive(Debug)]
pub struct Remains {
    payload: Box<RawValue>,
    left_out: u64,
    app_id: Option<u64>,
    stream_id: Option<StreamId<'static>>,
}

impl Remains {
    /// One JSON object, bounded and masked.
    #[must_use]
    pub fn payload(&self) -> &RawValue {
        &self.payload
    }

    /// How many values were left out of it or cut short.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The account, if the callback names a usable one.
    #[must_use]
    pub fn app_id(&self) -> Option<u64> {
        self.app_id
    }

    /// The stream, if the callback names a usable one.
    #[must_use]
    pub fn stream_id(&self) -> Option<&StreamId<'static>> {
        self.stream_id.as_ref()
    }

    /// What remains of a callback, which may be one about a recording or not.
    pub(super) fn of(members: &Members<'_>, is_recording: bool, redaction: &Redaction) -> Self {
        let exact = if is_recording { &EXACT[..] } else { &["stream_id"] };
        let (payload, left_out) = LIMITS
            .iter()
            .map(|limits| {
                let mut builder = Builder::new(redaction, limits);
                (rebuilt(members, exact, &mut builder).to_json(), builder.left_out())
            })
            .find(|(payload, _)| payload.get().len() <= PAYLOAD_BYTES_MAX)
            .expect("what the last limits let through is shorter than the limit");
        let stream_id = members.get("stream_id").and_then(|raw| String::deserialize(raw).ok());
        let stream_id = stream_id.map(Cow::Owned).and_then(StreamId::parse);
        Self { payload, left_out, app_id: integer(members, "appid").ok().flatten(), stream_id }
    }
}

/// The members of the callback itself: what tells it apart first, then those known by name, so that these are the last to
/// be left out. The texts in `exact` are not masked.
fn rebuilt<'a>(members: &Members<'a>, exact: &[&str], builder: &mut Builder<'_>) -> Part<'a> {
    let rank = |name: &str| match FIRST.iter().position(|first| *first == name) {
        Some(place) => place,
        None if KNOWN.contains(&name) => FIRST.len(),
        None => FIRST.len() + 1,
    };
    let mut ranked: Vec<_> = members.iter().filter(|(name, _)| !PROOF.contains(&name.as_ref())).collect();
    ranked.sort_by_key(|(name, _)| rank(name));
    let mut kept = Vec::new();
    for (name, raw) in ranked {
        let is_known = KNOWN.contains(&name.as_ref());
        if !builder.has_room() || !(is_known || is_member_name(name)) {
            builder.leave_out();
        } else if exact.contains(&name.as_ref()) && raw.get().starts_with('"') {
            let text = lossy_text(raw).unwrap_or_default();
            kept.push((name.to_string(), Part::Text(builder.cut(text))));
        } else if is_known {
            kept.push((name.to_string(), builder.part(raw, 0)));
        } else {
            kept.push((name.to_string(), builder.named(name, raw, 0)));
        }
    }
    Part::Object(kept)
}
