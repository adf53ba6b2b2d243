//! From which member of a callback each member of an event comes. A test holds these lists equal to the schemas.

use crate::event::RecordingEvent;

/// Members of an event and where they come from, in the order of the schema.
type Sources = &'static [(&'static str, &'static str)];

/// The members of events of this kind.
pub(super) fn of(kind: &str) -> Sources {
    match kind {
        RecordingEvent::KIND => RECORDING,
        "recording.status" => STATUS,
        "recording.exception" => EXCEPTION,
        _ => &[],
    }
}

const RECORDING: Sources = &[
    ("schema", "the kind"),
    ("kind", "event_type"),
    ("event_id", "the kind, appid, and record_file_id or else file_id"),
    ("provider", "nothing: always the same"),
    ("app_id", "appid"),
    ("push_domain", "app"),
    ("push_path", "appname"),
    ("stream_id", "stream_id"),
    ("channel_id", "channel_id"),
    ("file_id", "file_id"),
    ("record_file_id", "record_file_id"),
    ("task_id", "task_id"),
    ("template_id", "record_temp_id"),
    ("session_id", "session_id in callback_ext"),
    ("file_format", "file_format"),
    ("file_size_bytes", "file_size"),
    ("duration_seconds", "duration"),
    ("recording_started_at", "start_time and start_time_usec"),
    ("recording_ended_at", "end_time and end_time_usec"),
    ("content_started_at", "end_time and end_time_usec less duration"),
    ("media_start_pts", "media_start_time"),
    ("bitrate_kbps", "record_bps"),
    ("video_codec", "video_codec in callback_ext"),
    ("resolution", "resolution in callback_ext"),
    ("video_url", "video_url"),
    ("push_parameters", "stream_param, masked"),
    ("other", "members that are not known, masked"),
];

const STATUS: Sources = &[
    ("schema", "the kind"),
    ("kind", "event_type"),
    ("event_id", "the kind, appid, stream_id, domain, appname, session_id, task_id, seq, record_event and event_time"),
    ("provider", "nothing: always the same"),
    ("app_id", "appid"),
    ("stream_id", "stream_id"),
    ("push_domain", "domain"),
    ("push_path", "appname"),
    ("session_id", "session_id"),
    ("task_id", "task_id"),
    ("sequence", "seq"),
    ("status", "record_event"),
    ("occurred_at", "event_time"),
    ("file_format", "file_format in record_detail"),
    ("bitrate_kbps", "record_bps in record_detail"),
    ("started_by", "start_model in record_detail"),
    ("content", "record_content in record_detail"),
    ("source", "source_type in record_detail"),
    ("transcoding_template_id", "codec_temp_id in record_detail"),
    ("detail", "members of record_detail that are not known, masked"),
    ("other", "members that are not known, masked"),
];

const EXCEPTION: Sources = &[
    ("schema", "the kind"),
    ("kind", "event_type"),
    (
        "event_id",
        "the kind, appid, stream_id, domain, path, session_id, file_format, exception_level, interface, timestamp, and \
         type and occurs in exception",
    ),
    ("provider", "nothing: always the same"),
    ("app_id", "appid"),
    ("stream_id", "stream_id"),
    ("push_domain", "domain"),
    ("push_path", "path"),
    ("session_id", "session_id"),
    ("file_format", "file_format"),
    ("reported_at", "timestamp"),
    ("level", "exception_level"),
    ("exception_code", "type in exception"),
    ("occurrences", "occurs in exception"),
    ("description", "desc in exception, masked"),
    ("interface", "interface"),
    ("other", "members that are not known, masked"),
];
