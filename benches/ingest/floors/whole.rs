//! The message of the bridge, made with the least code: no masking, no limits, no other edition of the callback.
//!
//! It shows how much of the distance to floor B is the message, and how much is safety.

#![expect(clippy::struct_field_names, reason = "the names are those on the wire")]

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};
use recording_bridge::event::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(super) struct Message {
    pub(super) key: String,
    pub(super) payload: Vec<u8>,
    pub(super) headers: OwnedHeaders,
}

#[derive(Deserialize)]
struct Callback<'a> {
    t: u64,
    #[serde(borrow)]
    sign: Cow<'a, str>,
    appid: u64,
    #[serde(borrow)]
    app: Option<Cow<'a, str>>,
    #[serde(borrow)]
    appname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream_id: Cow<'a, str>,
    #[serde(borrow)]
    channel_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    file_id: Cow<'a, str>,
    #[serde(borrow)]
    record_file_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    record_temp_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    task_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    file_format: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream_param: Option<Cow<'a, str>>,
    #[serde(borrow)]
    video_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    video_id: Option<Cow<'a, str>>,
    callback_ext: String,
    file_size: u64,
    duration: u64,
    start_time: u64,
    start_time_usec: u64,
    end_time: u64,
    end_time_usec: u64,
    media_start_time: i64,
    record_bps: u64,
}

#[derive(Deserialize)]
struct Extension<'a> {
    #[serde(borrow)]
    video_codec: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resolution: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Event<'a> {
    schema: &'a str,
    kind: &'a str,
    event_id: &'a str,
    provider: &'a str,
    app_id: &'a str,
    push_domain: Option<&'a str>,
    push_path: Option<&'a str>,
    stream_id: &'a str,
    channel_id: Option<&'a str>,
    file_id: &'a str,
    record_file_id: Option<&'a str>,
    task_id: Option<&'a str>,
    template_id: Option<&'a str>,
    session_id: Option<&'a str>,
    file_format: Option<&'a str>,
    file_size_bytes: u64,
    duration_seconds: u64,
    recording_started_at: &'a str,
    recording_ended_at: &'a str,
    content_started_at: &'a str,
    media_start_pts: i64,
    bitrate_kbps: u64,
    video_codec: Option<&'a str>,
    resolution: Option<&'a str>,
    video_url: Option<&'a str>,
    push_parameters: Option<&'a str>,
    other: Other<'a>,
}

#[derive(Serialize)]
struct Other<'a> {
    video_id: Option<&'a str>,
}

/// `None` if the callback is not authentic, or no recording.
pub(super) fn read(body: &[u8]) -> Option<Message> {
    let callback: Callback<'_> = serde_json::from_slice(body).ok()?;
    super::is_signed(callback.t, &callback.sign).then_some(())?;
    let extension: Extension<'_> = serde_json::from_str(&callback.callback_ext).ok()?;
    let file = callback.record_file_id.as_ref().unwrap_or(&callback.file_id);
    let name = format!("recording.completed:{}:{file}", callback.appid);
    let event_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
    let ended_at = Timestamp::from_seconds(callback.end_time, callback.end_time_usec)?;
    let ended = ended_at.to_string();
    let app_id = callback.appid.to_string();
    let event = Event {
        schema: "recording-event.v1",
        kind: "recording.completed",
        event_id: &event_id,
        provider: "tencent-cloud-css",
        app_id: &app_id,
        push_domain: callback.app.as_deref(),
        push_path: callback.appname.as_deref(),
        stream_id: &callback.stream_id,
        channel_id: callback.channel_id.as_deref(),
        file_id: &callback.file_id,
        record_file_id: callback.record_file_id.as_deref(),
        task_id: callback.task_id.as_deref(),
        template_id: callback.record_temp_id.as_deref(),
        session_id: extension.session_id.as_deref(),
        file_format: callback.file_format.as_deref(),
        file_size_bytes: callback.file_size,
        duration_seconds: callback.duration,
        recording_started_at: &Timestamp::from_seconds(callback.start_time, callback.start_time_usec)?.to_string(),
        recording_ended_at: &ended,
        content_started_at: &ended_at.minus_seconds(callback.duration)?.to_string(),
        media_start_pts: callback.media_start_time,
        bitrate_kbps: callback.record_bps,
        video_codec: extension.video_codec.as_deref(),
        resolution: extension.resolution.as_deref(),
        video_url: callback.video_url.as_deref(),
        push_parameters: callback.stream_param.as_deref(),
        other: Other { video_id: callback.video_id.as_deref() },
    };
    let payload = serde_json::to_vec(&event).unwrap();
    let digest = hex::encode(&Sha256::digest(&payload)[..16]);
    let source = format!("/tencent-cloud-css/{app_id}");
    let received = Timestamp::from(std::time::SystemTime::now()).to_string();
    let mut headers = OwnedHeaders::new_with_capacity(9);
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", &event_id),
        ("ce_type", event.kind),
        ("ce_source", &source),
        ("ce_subject", &callback.stream_id),
        ("ce_time", &ended),
        ("content-type", "application/json"),
        ("received_at", &received),
        ("facts_digest", &digest),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    Some(Message { key: callback.stream_id.to_string(), payload, headers })
}
