//! Promise: an authentic callback that makes no event becomes a dead letter which the schema describes, byte for byte
//! the golden files; whatever the body holds, the letter is bounded and valid, and no secret is in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use recording_bridge::callback::{
    Config, Key, Keyring, Normalised, PAYLOAD_BYTES_MAX, Published, Redaction, Scope, Window, authenticate, sign,
};
use recording_bridge::event::Timestamp;
use recording_bridge::http::letter;
use recording_bridge::message::Message;
use serde_json::{Value, json};

use crate::callback::write_down;
use crate::support::random::Random;

const NOW: u64 = 1_700_000_000;
/// The message limit of the brokers' and of librdkafka's defaults.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn received_at() -> Timestamp {
    Timestamp::from_seconds(NOW, 123_456).unwrap()
}

/// The dead letter of a body in which `SIGNED` stands for its proof; `None` if it is usable.
fn letter_of(body: &str) -> Option<Message> {
    let key = Key::new("a", "Xz4ZgayTr7rMgWQrH", Scope::default());
    let t = (NOW + 600).to_string();
    let body = body.replace("SIGNED", &format!("\"t\":{t},\"sign\":\"{}\"", sign(&key, &t)));
    let window = Window::new(&Config::new(Vec::new()));
    let keyring = Keyring::new(vec![key]);
    let authentic = authenticate(body.as_bytes(), &keyring, window, received_at()).expect("the body is signed");
    let redaction = Redaction::default();
    let unusable = authentic.normalise(&redaction, Published::default()).err()?;
    let message = letter::write(&authentic, unusable, &redaction, received_at());
    assert!(!text(message.payload()).contains(&sign(&Key::new("a", "Xz4ZgayTr7rMgWQrH", Scope::default()), &t)));
    Some(message)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("everything in a letter is UTF-8")
}

/// A golden file: the key, every header, an empty line, the value.
pub(crate) fn golden(message: &Message) -> String {
    let headers = message.headers().iter().map(|header| format!("{}: {}", header.name, text(&header.value)));
    let lines: Vec<String> = [format!("key: {}", text(message.key()))].into_iter().chain(headers).collect();
    format!("{}\n\n{}\n", lines.join("\n"), text(message.payload()))
}

fn assert_golden(name: &str, message: &Message) {
    assert_golden_in("letters", name, message);
}

pub(crate) fn assert_golden_in(folder: &str, name: &str, message: &Message) {
    let path = data(&format!("{folder}/{name}.txt"));
    if std::env::var_os("RECORDING_BRIDGE_BLESS").is_some() {
        fs::write(&path, golden(message)).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
    assert_eq!(golden(message), expected, "{name}");
}

fn cases() -> Vec<(String, String)> {
    let cases = fs::read_to_string(data("callbacks/unusable.jsonl")).unwrap();
    let case = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        (case["name"].as_str().unwrap().to_owned(), case["body"].as_str().unwrap().to_owned())
    };
    cases.lines().map(case).collect()
}

/// What the published schema has to say against a letter.
pub(crate) fn faults(payload: &[u8]) -> Vec<String> {
    faults_by("dead-letter.v1", payload)
}

/// The same for a schema of this name.
pub(crate) fn faults_by(schema: &str, payload: &[u8]) -> Vec<String> {
    let schema = fs::read_to_string(data(&format!("../../schema/{schema}.schema.json"))).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let letter: Value = serde_json::from_slice(payload).unwrap();
    validator.iter_errors(&letter).map(|fault| fault.to_string()).collect()
}

/// An event as published, and its dead letter.
fn refused_event() -> (Message, Message) {
    let key = Key::new("a", "Xz4ZgayTr7rMgWQrH", Scope::default());
    let t = (NOW + 600).to_string();
    let facts = json!({
        "event_type": 100, "appid": 1_300_000_000, "stream_id": "直播_1", "file_id": "f", "file_size": u64::MAX,
        "stream_param": "txSecret=S3CR3T&a=1", "end_time": NOW, "t": NOW + 600, "sign": sign(&key, &t),
    });
    let (keyring, window) = (Keyring::new(vec![key]), Window::new(&Config::new(Vec::new())));
    let body = facts.to_string();
    let authentic = authenticate(body.as_bytes(), &keyring, window, received_at()).unwrap();
    let Ok(Normalised::Recording { event, .. }) = authentic.normalise(&Redaction::default(), Published::default())
    else {
        panic!()
    };
    let message = Message::encode(&event, received_at());
    let letter = message.refused("message_too_large", received_at());
    (message, letter)
}

#[test]
fn every_unusable_callback_becomes_its_golden_letter() {
    for (name, body) in cases() {
        assert_golden(&name, &letter_of(&body).unwrap_or_else(|| panic!("{name} is usable")));
    }
    assert_golden("refused-event", &refused_event().1);
    let known: Vec<String> = cases().into_iter().map(|(name, _)| format!("{name}.txt")).collect();
    for file in fs::read_dir(data("letters")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(file == "refused-event.txt" || known.contains(&file), "{file} belongs to no case");
    }
}

#[test]
fn an_event_stands_in_its_letter_as_it_would_have_been_published() {
    let (event, letter) = refused_event();
    assert!(text(letter.payload()).ends_with(&format!("\"payload\":{}}}", text(event.payload()))));
    assert_eq!(letter.key(), event.key());
}

#[test]
fn no_secret_is_in_any_letter() {
    for (name, body) in cases() {
        let letter = golden(&letter_of(&body).unwrap());
        assert!(!letter.contains("S3CR3T"), "{name}: {letter}");
    }
}

#[test]
fn every_letter_fits_the_published_schema() {
    let mut lines = Vec::new();
    for (name, body) in cases() {
        let letter = letter_of(&body).unwrap();
        assert_eq!(faults(letter.payload()), Vec::<String>::new(), "{name}");
        lines.extend([letter.payload(), &b"\n"[..]].concat());
    }
    let (_, letter) = refused_event();
    lines.extend([letter.payload(), &b"\n"[..]].concat());
    write_down("dead-letter.v1.golden", &lines);
    assert_eq!(faults(letter.payload()), Vec::<String>::new());
    // The schema itself can say no.
    for (member, wrong) in [("reason", json!("x")), ("payload", json!("x")), ("received_at", json!("now"))] {
        let mut letter: Value = serde_json::from_slice(letter.payload()).unwrap();
        letter[member] = wrong;
        assert!(!faults(letter.to_string().as_bytes()).is_empty(), "{member}");
    }
}

#[test]
fn the_same_callback_makes_a_letter_of_the_same_identity() {
    let id = |body: &str| {
        let letter = letter_of(body).unwrap();
        letter.headers().iter().find(|header| header.name == "ce_id").unwrap().value.clone()
    };
    let body = "{\"event_type\":100,\"stream_id\":\"s\",SIGNED}";
    assert_eq!(id(body), id(body));
    assert_ne!(id(body), id("{\"event_type\":100,\"stream_id\":\"r\",SIGNED}"));
}

/// `count` members of this value, each with a comma behind it.
fn numbered(count: usize, value: &str) -> String {
    (0..count).fold(String::new(), |mut members, number| {
        write!(members, "\"n{number}\":{value},").unwrap();
        members
    })
}

/// Bodies that are as large as may be (`http.body_bytes_max` is 247,952 at most) and as bad as can be thought of.
#[test]
fn a_hostile_body_becomes_a_letter_that_is_bounded_and_valid() {
    const BODY_BYTES: usize = 247_000;
    let filled = |unit: &str| unit.repeat(BODY_BYTES / unit.len());
    let member = |value: String| format!("{{\"event_type\":100,\"x\":{value},SIGNED}}");
    let empty: Vec<Value> = vec![json!([]); 40];
    let quoted = (0..7).fold(json!(empty), |inner, _| json!([inner.to_string()]));
    let bodies = [
        member(format!("{}{}", "[".repeat(BODY_BYTES / 2), "]".repeat(BODY_BYTES / 2))),
        member(format!("{}1{}", "{\"a\":".repeat(40_000), "}".repeat(40_000))),
        member(format!("[{}0]", filled("[],"))),
        member(format!("[{}0]", filled("0,"))),
        member(format!("{{{}\"z\":0}}", numbered(20_000, "[]"))),
        member(format!("\"{}\"", filled("\\u0001"))),
        member(format!("\"{}\"", filled("x"))),
        member(format!("\"{}\"", filled("token=1&"))),
        member(format!("\"{}\"", filled("key='a;key=\\\"b,"))),
        member(format!("\"{}\"", filled("%2541=1;"))),
        member(format!("\"[{}0]\"", filled("[],"))),
        member(format!("\"[\\\"[\\\\\\\"[{}0]\\\\\\\"]\\\"]\"", filled("[],"))),
        member("1".repeat(BODY_BYTES)),
        format!("{{{}SIGNED}}", numbered(12_000, "\"\\u0007\"")),
        format!("{{{}SIGNED}}", numbered(4_000, &format!("\"{}\"", "\u{7f}".repeat(40)))),
        format!("{{\"stream_id\":\"{}\",SIGNED}}", filled("\\u0001")),
        format!("{{\"{}\":1,SIGNED}}", filled("n")),
        // Quotes in quotes in quotes: what is left out is written with more bytes than it had.
        format!("{{{}SIGNED}}", numbered(200, &quoted.to_string())),
    ];
    let cut = [0, 2, 3, 4, 5, 6, 12, 13, 17];
    for (number, body) in bodies.iter().enumerate() {
        let letter = letter_of(body).unwrap();
        assert!(letter.size_bytes() <= MESSAGE_BYTES_MAX, "{number}: {} bytes", letter.size_bytes());
        let parsed: Value = serde_json::from_slice(letter.payload()).unwrap();
        assert!(parsed["payload"].to_string().len() <= PAYLOAD_BYTES_MAX, "{number}");
        assert_eq!(faults(letter.payload()), Vec::<String>::new(), "{number}");
        let counted = parsed["detail"].as_str().unwrap().contains("left out");
        assert!(counted || !cut.contains(&number), "{number}: {}", parsed["detail"]);
    }
}

/// A value of any type, nested and quoted at random, with the secret behind a hidden name or without it.
pub(crate) fn value(random: &mut Random, depth: u64) -> Value {
    let secret = ["S3CR3T", "token=S3CR3T", "txSecret: S3CR3T; b=1", "a%3FtxSecret%3DS3CR3T"];
    let plain = ["", "a", "直播", "a=1&b=2", "null", "\u{1}\u{7f}\"\\"];
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => json!(null),
        1 => json!(random.below(1 << 40)),
        2 => json!(random.below(2) == 0),
        3 => json!(plain[usize::try_from(random.below(6)).unwrap()]),
        4 => json!(secret[usize::try_from(1 + random.below(3)).unwrap()]),
        5 => (0..random.below(4)).map(|_| value(random, depth - 1)).collect(),
        6 => json!(value(random, depth - 1).to_string()),
        _ => {
            let mut object = serde_json::Map::new();
            for name in ["plain", "txSecret", "push_key", "直"].iter().take(usize::try_from(random.below(5)).unwrap())
            {
                let hidden = ["txSecret", "push_key"].contains(name);
                object.insert((*name).to_owned(), if hidden { json!(secret[0]) } else { value(random, depth - 1) });
            }
            Value::Object(object)
        }
    }
}

#[test]
fn a_body_made_at_random_becomes_a_valid_letter_without_its_secrets() {
    let mut lines = Vec::new();
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let mut members = String::new();
        for name in ["app", "stream_param", "callback_ext", "duration", "unknown", "video_format", "push_ext"] {
            write!(members, "\"{name}\":{},", value(&mut random, 5)).unwrap();
        }
        let body = format!("{{\"event_type\":100,\"appid\":1,\"stream_id\":\"s\",{members}SIGNED}}");
        let letter = letter_of(&body).unwrap();
        assert_eq!(faults(letter.payload()), Vec::<String>::new(), "seed {seed}");
        let text = text(letter.payload());
        assert!(!text.contains("S3CR3T"), "seed {seed}: {body}\n{text}");
        lines.extend(format!("{text}\n").bytes());
    }
    write_down("dead-letter.v1.generated", &lines);
}
