//! Sample callbacks of every edition of the provider's protocol, with synthetic values.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::callback::{Key, sign};
use crate::event::Timestamp;

/// An edition of the recording callback, by the year in which its members first appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Edition {
    /// The oldest shape: identity, times, file.
    #[value(name = "2018")]
    Y2018,
    /// With push domain, push path and task.
    #[value(name = "2021")]
    Y2021,
    /// With microseconds, bit rate and the extension.
    #[value(name = "2022")]
    Y2022,
    /// With the recording template.
    #[value(name = "2025")]
    Y2025,
    /// With members that are sent but not documented.
    #[value(name = "2026")]
    Y2026,
}

impl Edition {
    pub(super) const ALL: [Self; 5] = [Self::Y2018, Self::Y2021, Self::Y2022, Self::Y2025, Self::Y2026];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Y2018 => "2018",
            Self::Y2021 => "2021",
            Self::Y2022 => "2022",
            Self::Y2025 => "2025",
            Self::Y2026 => "2026",
        }
    }

    /// A callback of this edition about file `number`, which ended at `now`; not signed yet.
    pub(super) fn sample(self, stream_id: &str, number: u64, now: Timestamp) -> Map<String, Value> {
        const APP_ID: u64 = 1_300_000_000;
        const DURATION: i64 = 56;
        // Two runs in the same second are still about different files.
        let moment = u128::from(now.microseconds().unsigned_abs());
        let file_id = format!("{APP_ID}_{:032x}", (moment << 64) | u128::from(number));
        let now = now.seconds();
        let mut body = object(json!({
            "event_type": 100, "appid": APP_ID, "stream_id": stream_id, "channel_id": stream_id,
            "file_id": file_id, "file_format": "mp4", "start_time": now - DURATION - 1, "end_time": now,
            "duration": DURATION, "file_size": 43_911_385 + number,
            "stream_param": "txSecret=00112233445566778899aabbccddeeff&txTime=69830DEC",
            "video_url": format!("http://bucket-{APP_ID}.cos.ap-nanjing.myqcloud.com/live/{stream_id}/{number}.mp4"),
        }));
        if self >= Self::Y2021 {
            body.extend(object(json!({
                "app": "push.example.com", "appname": "live", "task_id": "1807121258070784645",
            })));
        }
        if self >= Self::Y2022 {
            body.extend(object(json!({
                "record_file_id": file_id, "start_time_usec": 650_373, "end_time_usec": 880_554,
                "media_start_time": 33, "record_bps": 0,
                "callback_ext":
                    "{\"video_codec\":\"h264\",\"session_id\":\"1807121258070784645\",\"resolution\":\"1920x1080\"}",
            })));
        }
        if self >= Self::Y2025 {
            body.extend(object(json!({ "record_temp_id": "1622658" })));
        }
        if self >= Self::Y2026 {
            body.extend(object(json!({ "video_id": format!("{APP_ID}_fedcba98{number:024x}"), "vod2Flag": 1 })));
        }
        body
    }
}

impl PartialOrd for Edition {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

/// Signs `body` with `key`, good for ten minutes from `now`, as the provider does.
pub(super) fn signed(mut body: Map<String, Value>, key: &Key, now: Timestamp) -> String {
    let t = now.seconds() + 600;
    body.insert("t".to_owned(), json!(t));
    body.insert("sign".to_owned(), json!(sign(key, &t.to_string())));
    Value::Object(body).to_string()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
