//! The wire form of a recording event: its members in the order of the schema.

use std::io;

use super::json::Object;
use super::{Other, PROVIDER, SCHEMA};
use crate::event::RecordingEvent;

/// Writes the value of `event`.
pub(super) fn write(text: &mut Vec<u8>, event: &RecordingEvent<'_>) -> io::Result<()> {
    let facts = event.facts();
    let mut object = Object::begin(text);
    object.text("schema", Some(SCHEMA))?;
    object.text("kind", Some(RecordingEvent::KIND))?;
    object.display("event_id", Some(event.event_id()))?;
    object.text("provider", Some(PROVIDER))?;
    object.display("app_id", Some(facts.app_id))?;
    object.text("push_domain", facts.push_domain.as_deref())?;
    object.text("push_path", facts.push_path.as_deref())?;
    object.text("stream_id", Some(facts.stream_id.as_str()))?;
    object.text("channel_id", facts.channel_id.as_deref())?;
    object.text("file_id", facts.file_ids.file_id())?;
    object.text("record_file_id", facts.file_ids.record_file_id())?;
    object.text("task_id", facts.task_id.as_deref())?;
    object.text("template_id", facts.template_id.as_deref())?;
    object.text("session_id", facts.session_id.as_deref())?;
    object.text("file_format", facts.file_format.as_deref())?;
    object.value("file_size_bytes", &facts.file_size_bytes)?;
    object.value("duration_seconds", &facts.duration_seconds)?;
    object.display("recording_started_at", facts.recording_started_at)?;
    object.display("recording_ended_at", facts.recording_ended_at)?;
    object.display("content_started_at", event.content_started_at())?;
    object.value("media_start_pts", &facts.media_start_pts)?;
    object.value("bitrate_kbps", &facts.bitrate_kbps)?;
    object.text("video_codec", facts.video_codec.as_deref())?;
    object.text("resolution", facts.resolution.as_deref())?;
    object.text("video_url", facts.video_url.as_deref())?;
    object.text("push_parameters", facts.push_parameters.as_deref())?;
    object.value("other", &Other(&facts.other))?;
    object.end();
    Ok(())
}
