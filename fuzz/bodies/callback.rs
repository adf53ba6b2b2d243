//! Bytes → authentic → normalised → message or dead letter.
//!
//! Promise: no body is authentic that does not carry a signature made with our key, whatever its bytes and however
//! near the signature comes. An authentic body becomes a message that its schema allows, within bounds, the same bytes
//! each time. No secret is in it, whatever surrounds the secret.
//!
//! An input is one byte that says where secrets are planted, one that says who signs and how a signature is forged,
//! text up to a line feed that is put around the secrets, and the body. No input can know a key: keys are made of it.

use std::sync::OnceLock;

use jsonschema::Validator;
use recording_bridge::callback::{
    AuthenticCallback, Config, Key, Keyring, Malformed, Normalised, PAYLOAD_BYTES_MAX, Published, Redaction, Rejection,
    Scope, Window, authenticate,
};
use recording_bridge::event::{STREAM_ID_BYTES_MAX, Timestamp};
use recording_bridge::http::{letter, other};
use recording_bridge::message::Message;
use serde_json::{Value, json};

use super::secrets::{secret, shows, signature};

/// The time of receipt. The default window is 420 s of grace and 600 s and 120 s of skew ahead.
const NOW: u64 = 1_700_000_000;
const T: u64 = NOW + 600;
/// What the second key is bound to.
const ACCOUNT: u64 = 1_300_000_000;
const DOMAIN: &str = "push.example.com";

/// One input, taken apart.
struct Case<'a> {
    plants: u8,
    signer: usize,
    forgery: u8,
    around: String,
    body: &'a [u8],
    keys: [String; 2],
    hidden: String,
}

/// See the module.
pub fn run(input: &[u8]) {
    let [plants, choice, rest @ ..] = input else { return };
    let (around, body) =
        rest.iter().position(|byte| *byte == b'\n').map_or((&[][..], rest), |at| (&rest[..at], &rest[at + 1..]));
    let case = Case {
        plants: *plants,
        signer: usize::from(choice & 1),
        forgery: choice >> 1 & 15,
        around: String::from_utf8_lossy(around).into_owned(),
        body,
        keys: ["a", "b"].map(|purpose| secret(purpose, input)),
        hidden: secret("hidden", input),
    };
    let keyring = Keyring::new(vec![
        Key::new("free", &case.keys[0], Scope::default()),
        Key::new("bound", &case.keys[1], Scope { app_ids: vec![ACCOUNT], push_domains: vec![DOMAIN.to_owned()] }),
    ]);
    stranger(&case, &keyring);
    if let Ok(text) = std::str::from_utf8(body) {
        let forged = case.forged();
        if let Some(body) = spliced(text, &forged) {
            let verdict = authenticate(body.as_bytes(), &keyring, window(), now());
            let rejection = verdict.err().unwrap_or_else(|| panic!("accepted with {forged}"));
            let is_ours = matches!(rejection, Rejection::Untimely { .. });
            assert!(!is_ours || matches!(case.forgery, 11 | 12), "taken for ours, at another time: {forged}");
        }
        honest(&case, text, &keyring);
    }
}

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW, 0).expect("a time before the year 9999")
}

fn window() -> Window {
    Window::new(&Config::new(Vec::new()))
}

/// The body as it is: nobody has signed it. And it is called what it is.
fn stranger(case: &Case<'_>, keyring: &Keyring) {
    let rejection = match authenticate(case.body, keyring, window(), now()) {
        Ok(_) => panic!("a body that nobody signed is accepted"),
        Err(rejection) => rejection,
    };
    let is_text = std::str::from_utf8(case.body).is_ok();
    assert_eq!(rejection == Rejection::Malformed(Malformed::NotUtf8), !is_text, "{rejection:?}");
    // The second reader gives up at a depth of 128; whatever it reads is JSON.
    if let Ok(value) = serde_json::from_slice::<Value>(case.body) {
        let expected = match rejection {
            Rejection::Malformed(Malformed::NotObject) => !value.is_object(),
            Rejection::Malformed(Malformed::DuplicateMember) | Rejection::Inauthentic(_) => value.is_object(),
            Rejection::Malformed(Malformed::NotJson | Malformed::NotUtf8) | Rejection::Untimely { .. } => false,
        };
        assert!(expected, "{rejection:?}");
    }
}

impl Case<'_> {
    fn key(&self) -> &str {
        &self.keys[self.signer]
    }

    /// `t` and `sign` that come near and do not count.
    fn forged(&self) -> String {
        let key = self.key();
        let right = signature(key, &T.to_string());
        let signed = |t: &str| (t.to_owned(), signature(key, t));
        let (t, sign) = match self.forgery {
            0 => (T.to_string(), right[..31].to_owned()),
            1 => (T.to_string(), right.to_uppercase() + " "),
            2 => (T.to_string(), signature(key, &(T + 1).to_string())),
            3 => (T.to_string(), signature(&T.to_string(), key)),
            4 => (T.to_string(), signature("", &T.to_string())),
            5 => (T.to_string(), right + "0"),
            6 => (T.to_string(), String::new()),
            7 => (format!("\"{T}\""), right),
            8 => signed(&format!("{T}.0")),
            9 => signed("1.7000006e9"),
            10 => signed("0"),
            11 => signed(&(NOW - 421).to_string()),
            12 => signed(&(NOW + 721).to_string()),
            13 => signed(&format!("{T}0")),
            14 => (T.to_string(), right + "\0"),
            _ => (T.to_string(), signature(&key[..31], &T.to_string())),
        };
        format!("\"t\":{t},\"sign\":{}", json!(sign))
    }

    /// Members that hold the secret, each in a place where it must be masked or left out. One that the body has itself is
    /// not planted: a member that stands there twice would end it all too early.
    fn planted(&self) -> String {
        let (around, hidden) = (&self.around, &self.hidden);
        let encoded: String = format!("h?txSecret={hidden}").bytes().map(|byte| format!("%{byte:02x}")).collect();
        let members = [
            ("stream_param", json!(format!("{around}&txSecret={hidden}&b=1"))),
            ("new_address", json!(format!("{around}&url={encoded}"))),
            ("app", json!(format!("{around}&auth={hidden}"))),
            (
                "callback_ext",
                json!(json!({ "session_id": format!("{around}&token={hidden}"), "token": hidden }).to_string()),
            ),
            ("nested", json!({ "list": [{ format!("{around}Secret"): hidden, "a": 1 }] })),
            ("wrapped", json!(json!({ around.as_str(): 1, "txSecret": hidden }).to_string())),
            ("push_key", json!(format!("{around}{hidden}"))),
            // No event can be made of it: a dead letter.
            ("file_size", json!("unknown")),
        ];
        let body: Value = serde_json::from_slice(self.body).unwrap_or_default();
        let chosen = members
            .iter()
            .enumerate()
            .filter(|(place, (name, _))| self.plants >> place & 1 == 1 && body.get(name).is_none());
        chosen.map(|(_, (name, value))| format!(",\"{name}\":{value}")).collect()
    }
}

/// `text` with `members` as the first ones of its object, if it is one by its looks.
fn spliced(text: &str, members: &str) -> Option<String> {
    let start = text.find(|letter| !matches!(letter, ' ' | '\t' | '\r' | '\n'))?;
    let rest = text[start..].strip_prefix('{')?;
    let is_empty = rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('}');
    Some(format!("{}{{{members}{}{rest}", &text[..start], if is_empty { "" } else { "," }))
}

/// The body, signed as the provider signs it, with secrets in it.
fn honest(case: &Case<'_>, text: &str, keyring: &Keyring) {
    let body = |t: u64| {
        let members = format!("\"t\":{t},\"sign\":\"{}\"{}", signature(case.key(), &t.to_string()), case.planted());
        spliced(text, &members)
    };
    let (Some(first), Some(second)) = (body(T), body(NOW - 100)) else { return };
    let value: Option<Value> = serde_json::from_str(&first).ok();
    let authentic = match authenticate(first.as_bytes(), keyring, window(), now()) {
        Ok(authentic) => authentic,
        Err(rejection) => {
            let is_object = value.as_ref().is_some_and(Value::is_object);
            let expected = match rejection {
                Rejection::Malformed(reason) => reason == Malformed::DuplicateMember || !is_object,
                // It is signed, so only the binding of the key can be a reason.
                Rejection::Inauthentic(_) => case.signer == 1,
                Rejection::Untimely { .. } => false,
            };
            assert!(expected, "{rejection:?}: {first}");
            return;
        }
    };
    assert_eq!(authentic.key_index(), case.signer);
    if let Some(value) = &value {
        assert!(value.is_object());
        assert_eq!(value["sign"], json!(signature(case.key(), &value["t"].to_string())));
        if case.signer == 1 {
            assert!(number(&value["appid"]) == Some(ACCOUNT), "accepted for the account {}", value["appid"]);
            let status = matches!(number(&value["event_type"]), Some(332 | 341));
            let domain = &value[if status { "domain" } else { "app" }];
            assert!(domain.as_str().is_some_and(|name| name.eq_ignore_ascii_case(DOMAIN)), "accepted for {domain}");
        }
    }
    let message = outcome(&authentic, value.as_ref(), first.len());
    hides_every_secret(case, &message);
    let again = authenticate(second.as_bytes(), keyring, window(), now()).expect("it differs in t and sign alone");
    let again = outcome(&again, None, second.len());
    assert_eq!(message, again, "the same facts make other bytes");
}

/// An integer, as a number or as digits in a string.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The message or letter that an authentic callback becomes, after a look at it.
fn outcome(authentic: &AuthenticCallback<'_>, value: Option<&Value>, body_bytes: usize) -> Message {
    let redaction = Redaction::default();
    let kind = value.map(|value| number(&value["event_type"]));
    match authentic.normalise(&redaction, Published::default()) {
        Ok(Normalised::Ignored(ignored)) => {
            assert!(!matches!(kind, Some(Some(100 | 332 | 341))), "{kind:?} is ignored");
            let message = other::write(authentic, &ignored, &redaction, now());
            let written = valid(other_schema(), message.payload());
            bounded(&message, PAYLOAD_BYTES_MAX + 4 * 1024);
            assert!(kind.is_none_or(|kind| kind == number(&written["event_type"])), "{kind:?} becomes {written}");
            message
        }
        Ok(Normalised::Recording { event, .. }) => {
            assert!(kind.is_none_or(|kind| kind == Some(100)), "{kind:?} becomes a recording");
            let message = Message::encode(&event, now());
            published(&message, &event.event_id().to_string(), event_schema(), value, body_bytes);
            message
        }
        Ok(Normalised::Notice { notice, .. }) => {
            let (number, schema) = match notice.form().kind {
                "recording.status" => (332, status_schema()),
                "recording.exception" => (341, exception_schema()),
                other => panic!("{other} has no schema here"),
            };
            assert!(kind.is_none_or(|kind| kind == Some(number)), "{kind:?} becomes {}", notice.form().kind);
            let message = Message::encode_notice(&notice, now());
            published(&message, &notice.event_id().to_string(), schema, value, body_bytes);
            message
        }
        Err(unusable) => {
            let letter = letter::write(authentic, unusable, &redaction, now());
            let written = valid(letter_schema(), letter.payload());
            bounded(&letter, PAYLOAD_BYTES_MAX + 4 * 1024);
            for name in ["t", "sign"] {
                assert!(written["payload"].get(name).is_none(), "{name} is in a letter");
            }
            letter
        }
    }
}

/// What holds of the message of every event.
fn published(message: &Message, event_id: &str, schema: &Validator, sent: Option<&Value>, body_bytes: usize) {
    let payload = valid(schema, message.payload());
    bounded(message, 8 * 1024 + 4 * body_bytes);
    let key = std::str::from_utf8(message.key()).expect("a key is UTF-8");
    assert!((1..=STREAM_ID_BYTES_MAX).contains(&key.len()) && !key.contains(char::is_control));
    assert_eq!(payload["stream_id"], json!(key));
    assert_eq!(payload["event_id"], json!(event_id));
    if let Some(sent) = sent {
        assert_eq!(sent["stream_id"], json!(key));
        assert_eq!(payload["app_id"], json!(number(&sent["appid"]).map(|account| account.to_string())));
    }
}

fn bounded(message: &Message, bytes_max: usize) {
    assert!(message.size_bytes() <= bytes_max, "{} bytes of at most {bytes_max}", message.size_bytes());
    assert!(message.headers().len() <= 10);
    for header in message.headers() {
        let value = std::str::from_utf8(&header.value).expect("a header is UTF-8");
        assert!(value.len() <= STREAM_ID_BYTES_MAX && !value.contains(char::is_control), "{}: {value:?}", header.name);
    }
}

fn hides_every_secret(case: &Case<'_>, message: &Message) {
    let signs = case.keys.iter().flat_map(|key| [T, NOW - 100].map(|t| signature(key, &t.to_string())));
    for secret in case.keys.iter().chain([&case.hidden]).cloned().chain(signs) {
        let headers = message.headers().iter().flat_map(|header| [header.name.as_bytes(), &header.value]);
        for part in headers.chain([&message.key()[..], message.payload()]) {
            assert!(!shows(part, &secret), "a secret is shown: {}", String::from_utf8_lossy(part));
        }
    }
}

/// `json`, read by a second reader, after its schema has allowed it.
fn valid(schema: &Validator, json: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(json).expect("a payload is JSON");
    let faults: Vec<String> = schema.iter_errors(&value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}: {value}");
    value
}

fn compiled(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("the schema is one")
}

fn event_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| compiled(include_str!("../../schema/recording-event.v1.schema.json")))
}

fn status_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| compiled(include_str!("../../schema/recording-status.v1.schema.json")))
}

fn exception_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| compiled(include_str!("../../schema/recording-exception.v1.schema.json")))
}

fn other_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| compiled(include_str!("../../schema/other-event.v1.schema.json")))
}

fn letter_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| compiled(include_str!("../../schema/dead-letter.v1.schema.json")))
}
