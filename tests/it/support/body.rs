//! The body of a signed callback, made without any code of the bridge.

use md5::{Digest, Md5};
use serde_json::json;

pub(crate) const APP_ID: u64 = 1_300_000_000;

/// The signature of a callback that expires at `expiry`.
pub(crate) fn sign(key: &str, expiry: u64) -> String {
    hex::encode(Md5::digest(format!("{key}{expiry}")))
}

/// A recording callback of the 2026 shape.
pub(crate) fn callback(key: &str, expiry: u64, stream_id: &str, file_id: &str) -> String {
    let ended = expiry - 600;
    json!({
        "app": "push.example.com",
        "appid": APP_ID,
        "appname": "live",
        "callback_ext": "{\"video_codec\":\"h264\",\"session_id\":\"1807121258070784645\",\"resolution\":\"1920x1080\"}",
        "channel_id": stream_id,
        "duration": 56,
        "end_time": ended,
        "end_time_usec": 880_554,
        "event_type": 100,
        "file_format": "mp4",
        "file_id": file_id,
        "file_size": 43_911_385,
        "media_start_time": 33,
        "record_bps": 0,
        "record_file_id": file_id,
        "record_temp_id": "1622658",
        "sign": sign(key, expiry),
        "start_time": ended - 56,
        "start_time_usec": 650_373,
        "stream_id": stream_id,
        "stream_param": "txSecret=00112233445566778899aabbccddeeff&txTime=69830DEC",
        "t": expiry,
        "task_id": "1807121258070784645",
        "video_id": "1300000000_fedcba9876543210fedcba9876543210",
        "video_url": format!("http://bucket-1300000000.cos.example.com/live/origin/{file_id}.mp4"),
    })
    .to_string()
}
