//! Promise: a body is authentic exactly if one of our keys signed it within its window and for its scope, and what an
//! authentic body says becomes the event that the schema and the golden files describe, byte for byte.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use recording_bridge::callback::{
    Config, Inauthentic, Key, Keyring, Kind, Malformed, Normalised, Published, Redaction, Rejection, Scope, Untimely,
    UnusableReason, Window, authenticate, sign,
};
use recording_bridge::event::Timestamp;
use recording_bridge::message::Message;
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn cases(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(data(name)).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: HashSet<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), cases.len(), "every case of {name} has a name of its own");
    cases
}

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW, 0).unwrap()
}

fn window() -> Window {
    Window::new(&Config::new(Vec::new()))
}

fn keyring(scope: Scope) -> Keyring {
    Keyring::new(vec![Key::new("a", "Xz4ZgayTr7rMgWQrH", scope), Key::new("b", "testkeytestkeytest", Scope::default())])
}

fn label(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::Malformed(Malformed::NotUtf8) => "not_utf8",
        Rejection::Malformed(Malformed::NotJson) => "not_json",
        Rejection::Malformed(Malformed::NotObject) => "not_object",
        Rejection::Malformed(Malformed::DuplicateMember) => "duplicate_member",
        Rejection::Inauthentic(Inauthentic::SignatureMissing) => "signature_missing",
        Rejection::Inauthentic(Inauthentic::SignatureMalformed) => "signature_malformed",
        Rejection::Inauthentic(Inauthentic::SignatureMismatch) => "signature_mismatch",
        Rejection::Inauthentic(Inauthentic::Expired) => "expired",
        Rejection::Inauthentic(Inauthentic::TooFarAhead) => "too_far_ahead",
        Rejection::Untimely { untimely, .. } => label(Rejection::Inauthentic(untimely.into())),
        Rejection::Inauthentic(Inauthentic::OutOfScope) => "out_of_scope",
        Rejection::Inauthentic(Inauthentic::ScopeMemberMissing) => "scope_member_missing",
    }
}

#[test]
fn the_provider_s_vectors_are_signed_as_it_signs_them() {
    for (key, t, expected) in [
        ("Xz4ZgayTr7rMgWQrH", "1588040109", "a2dabb362a9b811c0e26953a6276a41c"),
        ("NjFGoDEy", "1614151508", "b9454ab5a85f9b7ad36071f5688ed34d"),
        ("testkey", "1700000600", "a5ba09136801fd83c5375189bcfc3194"),
    ] {
        assert_eq!(sign(&Key::new("k", key, Scope::default()), t), expected);
    }
}

#[test]
fn every_body_is_authenticated_or_rejected_for_its_own_reason() {
    for case in cases("callbacks/authenticate.jsonl") {
        let list = |name: &str| case["scope"][name].as_array().cloned().unwrap_or_default();
        let scope = Scope {
            app_ids: list("app_ids").iter().map(|id| id.as_u64().unwrap()).collect(),
            push_domains: list("push_domains").iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        };
        let keyring = keyring(scope);
        let body = case["body"].as_str().unwrap();
        let verdict = match authenticate(body.as_bytes(), &keyring, window(), now()) {
            Ok(authentic) => keyring.keys()[authentic.key_index()].name().to_owned(),
            Err(rejection) => label(rejection).to_owned(),
        };
        assert_eq!(verdict, case["expect"].as_str().unwrap(), "{}: {body}", case["name"]);
    }
}

/// `body`, signed by key `a`.
fn signed(body: &Value, t: u64) -> String {
    let mut body = body.clone();
    let key = Key::new("a", "Xz4ZgayTr7rMgWQrH", Scope::default());
    body["t"] = json!(t);
    body["sign"] = json!(sign(&key, &t.to_string()));
    body.to_string()
}

/// What an authentic body comes to, in the words of the data files.
fn outcome(body: &str) -> Result<Message, Value> {
    let keyring = keyring(Scope::default());
    let authentic = authenticate(body.as_bytes(), &keyring, window(), now()).expect("the body is signed");
    match authentic.normalise(&Redaction::default(), Published::default()) {
        Ok(Normalised::Recording { event, .. }) => Ok(Message::encode(&event, now())),
        Ok(Normalised::Notice { notice, .. }) => Ok(Message::encode_notice(&notice, now())),
        Ok(Normalised::Ignored(ignored)) => Err(json!({ "ignored": ignored.kind().label() })),
        Err(unusable) => {
            let reason = match unusable.reason {
                UnusableReason::Missing => "missing",
                UnusableReason::Invalid => "invalid",
            };
            Err(json!({ "unusable": [reason, unusable.member] }))
        }
    }
}

/// A golden file: the key, every header, an empty line, the value.
fn golden(message: &Message) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("everything in a message is UTF-8");
    let headers = message.headers().iter().map(|header| format!("{}: {}", header.name, text(&header.value)));
    let lines: Vec<String> = [format!("key: {}", text(message.key()))].into_iter().chain(headers).collect();
    format!("{}\n\n{}\n", lines.join("\n"), text(message.payload()))
}

/// The vectors of one kind: bodies, and what each comes to.
struct Vectors {
    /// Name of the kind, in the configuration and of the folder.
    kind: String,
    cases: Vec<Value>,
    /// Folder of the golden messages.
    golden: PathBuf,
    /// Name of the schema that describes their values.
    schema: String,
}

/// The vectors of a recording, and of every kind that has a folder in `kinds`.
fn vectors() -> Vec<Vectors> {
    let mut all = vec![Vectors {
        kind: "recording".to_owned(),
        cases: cases("callbacks/normalise.jsonl"),
        golden: data("events"),
        schema: "recording-event.v1".to_owned(),
    }];
    let mut folders: Vec<PathBuf> = fs::read_dir(data("kinds")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for golden in folders {
        let kind = golden.file_name().unwrap().to_str().unwrap().to_owned();
        let schema = format!("{}.v1", kind.replace('_', "-"));
        all.push(Vectors { cases: cases(&format!("kinds/{kind}/cases.jsonl")), kind, golden, schema });
    }
    all
}

fn every_case() -> Vec<Value> {
    vectors().into_iter().flat_map(|vectors| vectors.cases).collect()
}

fn schema(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(data(&format!("../../schema/{name}.schema.json"))).unwrap()).unwrap()
}

#[test]
fn every_kind_that_is_published_has_vectors_and_a_schema() {
    let published: BTreeMap<&str, &str> =
        Kind::ALL.into_iter().filter_map(|kind| Some((kind.label(), kind.event_kind()?))).collect();
    let vectors = vectors();
    let tested: BTreeMap<&str, &str> = vectors
        .iter()
        .map(|vectors| {
            let event = vectors.cases.iter().find_map(|case| outcome(&signed(&case["body"], NOW + 600)).ok()).unwrap();
            let event: Value = serde_json::from_slice(event.payload()).unwrap();
            assert_eq!(event["schema"], json!(vectors.schema));
            let kind = event["kind"].as_str().unwrap();
            assert_eq!(schema(&vectors.schema)["properties"]["kind"]["const"], json!(kind));
            (vectors.kind.as_str(), published[vectors.kind.as_str()])
        })
        .collect();
    assert_eq!(tested, published);
}

#[test]
fn the_example_of_every_schema_is_an_event_that_was_made() {
    for vectors in vectors().into_iter().filter(|vectors| vectors.kind != "recording") {
        let golden = fs::read_to_string(vectors.golden.join("example.txt")).unwrap();
        let payload = golden.lines().last().unwrap();
        let example: Value = schema(&vectors.schema)["examples"][0].clone();
        assert_eq!(serde_json::from_str::<Value>(payload).unwrap(), example, "{}", vectors.schema);
        // The order too.
        let at = |name: &String| payload.find(&format!("\"{name}\":")).unwrap();
        let text = fs::read_to_string(data(&format!("../../schema/{}.schema.json", vectors.schema))).unwrap();
        let mut names: Vec<&String> = example.as_object().unwrap().keys().collect();
        names.sort_by_key(|name| text.find(&format!("\n    \"{name}\": {{")).unwrap());
        assert!(names.is_sorted_by_key(|name| at(name)), "{}: {names:?}", vectors.schema);
    }
}

#[test]
fn what_is_not_published_is_ignored_and_nothing_else_is() {
    let only = |kinds: &[Kind]| Published::only(kinds);
    for vectors in vectors() {
        let kind = Kind::ALL.into_iter().find(|kind| kind.label() == vectors.kind).unwrap();
        let others: Vec<Kind> = Kind::ALL.into_iter().filter(|other| *other != kind).collect();
        for case in vectors.cases.iter().filter(|case| case["expect"].get("ignored").is_none()) {
            let body = signed(&case["body"], NOW + 600);
            let keyring = keyring(Scope::default());
            let authentic = authenticate(body.as_bytes(), &keyring, window(), now()).unwrap();
            if authentic.kind() != Ok(kind) {
                continue;
            }
            let ignored = |published| {
                let normalised = authentic.normalise(&Redaction::default(), published);
                matches!(normalised, Ok(Normalised::Ignored(ignored)) if ignored.kind() == kind)
            };
            assert!(ignored(only(&others)), "{}", case["name"]);
            assert!(!ignored(only(&[kind])), "{}", case["name"]);
        }
    }
}

#[test]
fn every_authentic_body_becomes_its_golden_message_or_says_why_not() {
    let bless = std::env::var_os("RECORDING_BRIDGE_BLESS").is_some();
    for (golden_folder, case) in vectors()
        .into_iter()
        .flat_map(|vectors| vectors.cases.into_iter().map(move |case| (vectors.golden.clone(), case)))
    {
        let name = case["name"].as_str().unwrap();
        let expect = &case["expect"];
        match (outcome(&signed(&case["body"], NOW + 600)), expect["event"].as_str()) {
            (Ok(message), Some(file)) => {
                let path = golden_folder.join(format!("{file}.txt"));
                if bless {
                    fs::write(&path, golden(&message)).unwrap();
                }
                let expected = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
                assert_eq!(golden(&message), expected, "{name}");
            }
            (Err(verdict), None) => assert_eq!(&verdict, expect, "{name}"),
            (Ok(message), None) => panic!("{name}: an event came of it: {}", golden(&message)),
            (Err(verdict), Some(_)) => panic!("{name}: no event came of it: {verdict}"),
        }
    }
}

#[test]
fn a_number_of_more_digits_than_any_is_none() {
    for (zeros, expected) in [(0, None), (39, None), (40, Some(json!({ "unusable": ["invalid", "event_type"] })))] {
        let body = json!({"event_type": format!("{}1", "0".repeat(zeros))});
        let verdict = outcome(&signed(&body, NOW + 600)).unwrap_err();
        assert_eq!(verdict, expected.unwrap_or(json!({ "ignored": "push_started" })), "{body}");
    }
}

#[test]
fn what_cannot_be_read_of_a_detail_is_counted_as_left_behind() {
    for (detail, dropped) in [
        (json!(null), 0),
        (json!(""), 0),
        (json!("{}"), 0),
        (json!("{broken"), 1),
        (json!("[1]"), 1),
        (json!("{\"file_format\":2,\"file_format\":3}"), 1),
        (json!("{\"file_format\":\"mp4\",\"record_bps\":null,\"codec_temp_id\":{},\"nested\":{},\"further\":1}"), 3),
    ] {
        let body =
            json!({"event_type": 332, "appid": 1, "stream_id": "s", "record_event": "e", "record_detail": detail});
        let (body, keyring) = (signed(&body, NOW + 600), keyring(Scope::default()));
        let authentic = authenticate(body.as_bytes(), &keyring, window(), now()).unwrap();
        let Ok(Normalised::Notice { members_dropped, .. }) =
            authentic.normalise(&Redaction::default(), Published::default())
        else {
            panic!("{body}")
        };
        assert_eq!(members_dropped, dropped, "{detail}");
    }
}

#[test]
fn no_golden_file_is_left_over() {
    for vectors in vectors() {
        let named = vectors.cases.iter().filter_map(|case| case["expect"]["event"].as_str());
        let named: HashSet<String> = named.map(|name| format!("{name}.txt")).collect();
        for file in fs::read_dir(&vectors.golden).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            assert!(named.contains(&file) || file == "cases.jsonl", "{}: {file} belongs to no case", vectors.kind);
        }
    }
}

#[test]
fn a_second_delivery_makes_the_same_bytes_save_the_time_of_receipt() {
    for case in every_case() {
        let (first, second) = (outcome(&signed(&case["body"], NOW + 600)), outcome(&signed(&case["body"], NOW - 100)));
        assert_eq!(first, second, "{}", case["name"]);
    }
}

#[test]
fn an_unknown_member_that_cannot_be_masked_is_left_behind_and_counted() {
    for (member, value, kept) in [
        ("plain", json!("a, b"), true),
        ("push_ext", json!("\t{\"a\": 1}"), false),
        ("list_ext", json!("[1]"), false),
        ("a=1", json!(1), false),
        ("a:1", json!(1), false),
        ("a 1", json!(1), false),
        ("a\n", json!(1), false),
        (&"n".repeat(128), json!(1), true),
        (&"n".repeat(129), json!(1), false),
    ] {
        let mut body = json!({ "event_type": 100, "appid": 1, "stream_id": "s", "file_id": "f" });
        body[member] = value;
        let body = signed(&body, NOW + 600);
        let authentic = authenticate(body.as_bytes(), &keyring(Scope::default()), window(), now()).unwrap();
        let Ok(Normalised::Recording { event, members_dropped }) =
            authentic.normalise(&Redaction::default(), Published::default())
        else {
            panic!("{member}: no event")
        };
        assert_eq!(members_dropped, u64::from(!kept), "{member}");
        assert_eq!(golden(&Message::encode(&event, now())).contains("\"other\":{}"), !kept, "{member}");
    }
}

#[test]
fn a_signature_from_a_clock_ahead_of_ours_has_no_negative_age() {
    for (t, age) in [(NOW + 600, 0), (NOW + 603, 0), (NOW + 590, 10), (NOW, 600)] {
        let body = signed(&json!({ "event_type": 100 }), t);
        let authentic = authenticate(body.as_bytes(), &keyring(Scope::default()), window(), now()).unwrap();
        assert_eq!(authentic.signed_seconds_ago(), age, "{t}");
    }
}

#[test]
fn a_signature_out_of_time_is_known_as_ours_only_if_a_key_in_scope_made_it() {
    let of_another = Scope { app_ids: vec![7], ..Scope::default() };
    for (t, untimely) in [(NOW - 421, Untimely::Expired), (NOW + 721, Untimely::TooFarAhead)] {
        let ours = signed(&json!({ "event_type": 100, "appid": 1 }), t);
        let verdict = |body: &str, scope: Scope| authenticate(body.as_bytes(), &keyring(scope), window(), now()).err();
        let signed_at = i64::try_from(t).unwrap() - 600;
        let known = Rejection::Untimely { untimely, key_index: 0, signed_at };
        assert_eq!(verdict(&ours, Scope::default()), Some(known));
        let stranger = Some(Rejection::Inauthentic(untimely.into()));
        assert_eq!(verdict(&ours, of_another.clone()), stranger);
        assert_eq!(verdict(&ours.replace("\"sign\":\"", "\"sign\":\"0"), Scope::default()), stranger);
    }
}

#[test]
fn nothing_secret_is_in_any_message() {
    for case in every_case() {
        let body = signed(&case["body"], NOW + 600);
        let Ok(message) = outcome(&body) else { continue };
        let text = golden(&message);
        let sent: Value = serde_json::from_str(&body).unwrap();
        assert!(!text.contains(sent["sign"].as_str().unwrap()), "{}: the signature", case["name"]);
        for secret in ["00112233445566778899aabbccddeeff", "aa:bb=cc", "txSecret=abc", "\"k\"", "S3CR3T"] {
            assert!(!text.contains(secret), "{}: {secret}", case["name"]);
        }
    }
}

/// Keeps JSON lines for `.ci/schemas`, which has a second validator judge them.
pub(crate) fn write_down(name: &str, lines: &[u8]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("events");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.jsonl")), lines).unwrap();
}

#[test]
fn every_golden_and_generated_event_fits_the_published_schema() {
    for vectors in vectors() {
        let schema = schema(&vectors.schema);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mut checked = 0;
        let mut lines = Vec::new();
        let mut check = |name: &str, payload: &[u8]| {
            lines.extend([payload, b"\n"].concat());
            let event: Value = serde_json::from_slice(payload).unwrap();
            // The schema lets members be added, for the sake of readers; here there are exactly those that it names.
            assert!(event.as_object().unwrap().keys().eq(schema["properties"].as_object().unwrap().keys()), "{name}");
            let faults: Vec<String> = validator.iter_errors(&event).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            checked += 1;
        };
        for case in &vectors.cases {
            if let Ok(message) = outcome(&signed(&case["body"], NOW + 600)) {
                check(case["name"].as_str().unwrap(), message.payload());
            }
        }
        for seed in 0..2_000 {
            let body = if vectors.kind == "recording" { generated(seed) } else { disturbed(&vectors.cases, seed) };
            if let Ok(message) = outcome(&signed(&body, NOW + 600)) {
                check(&format!("seed {seed}"), message.payload());
            }
        }
        write_down(&format!("{}.generated", vectors.schema), &lines);
        assert!(checked > 300, "{}: only {checked} events were made", vectors.kind);
        // The schema itself can say no.
        let good = outcome(&signed(&vectors.cases[0]["body"], NOW + 600)).unwrap();
        for (member, wrong) in [("event_id", json!("x")), ("app_id", json!(-1)), ("stream_id", json!(null))] {
            let mut event: Value = serde_json::from_slice(good.payload()).unwrap();
            event[member] = wrong;
            assert!(!validator.is_valid(&event), "{}: {member}", vectors.kind);
        }
    }
}

/// The body of a case with some of its members taken from other cases or made odd, drawn from `seed`.
fn disturbed(cases: &[Value], seed: u64) -> Value {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut draw = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut body = cases[draw(cases.len())]["body"].clone();
    let names: Vec<String> = body.as_object().unwrap().keys().filter(|name| *name != "event_type").cloned().collect();
    for name in names {
        match draw(12) {
            0 => body[&name] = cases[draw(cases.len())]["body"][&name].clone(),
            1 => body[&name] = json!("a b&c=d;token:x\u{10ffff}\"\\/直播"),
            2 => body[&name] = json!(draw(1_000_000_000)),
            _ => {}
        }
    }
    body
}

/// A body made of odd values, most of them allowed, drawn from `seed`.
fn generated(seed: u64) -> Value {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let texts = ["", "a", "0202", "直播", "a b&c=d;token:x", "\u{10ffff}\"\\/"];
    let mut body = json!({ "event_type": 100, "appid": draw(u64::MAX), "file_id": format!("f{}", draw(1000)) });
    body["stream_id"] = json!(texts[1 + usize::try_from(draw(5)).unwrap()]);
    for name in ["app", "appname", "channel_id", "record_file_id", "record_temp_id", "task_id", "file_format"]
        .iter()
        .chain(&["stream_param", "video_url", "callback_ext", "new_text", "my_token"])
    {
        if draw(3) > 0 {
            body[*name] = json!(texts[usize::try_from(draw(6)).unwrap()]);
        }
    }
    let bounds = [
        ("start_time", 253_402_300_800),
        ("end_time", 253_402_300_800),
        ("start_time_usec", 1_000_000),
        ("end_time_usec", 1_000_000),
        ("duration", 10_000_000_000),
        ("file_size", u64::MAX),
        ("media_start_time", 1 << 62),
        ("record_bps", 100_000),
        ("new_number", u64::MAX),
    ];
    for (name, below) in bounds {
        if draw(3) > 0 {
            let number = draw(below);
            body[name] = if draw(4) == 0 { json!(number.to_string()) } else { json!(number) };
        }
    }
    body
}

#[test]
fn an_event_id_is_the_account_and_the_file_and_nothing_else() {
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases("callbacks/normalise.jsonl") {
        if let Ok(message) = outcome(&signed(&case["body"], NOW + 600)) {
            let event: Value = serde_json::from_slice(message.payload()).unwrap();
            let file = [&event["record_file_id"], &event["file_id"]].into_iter().find(|id| id.is_string()).unwrap();
            let identity = format!("{} {file}", event["app_id"]);
            ids.entry(event["event_id"].to_string()).or_default().push(identity);
        }
    }
    for (id, mut identities) in ids.clone() {
        identities.dedup();
        assert_eq!(identities.len(), 1, "{id}");
    }
    let identities: HashSet<&String> = ids.values().flatten().collect();
    assert_eq!(identities.len(), ids.len(), "one id for each identity");
}

#[test]
fn a_notice_is_the_same_event_exactly_if_its_identity_is() {
    for vectors in vectors().into_iter().filter(|vectors| vectors.kind != "recording") {
        let id = |name: &str| {
            let case = vectors.cases.iter().find(|case| case["name"] == name).unwrap();
            let message = outcome(&signed(&case["body"], NOW + 600)).unwrap();
            serde_json::from_slice::<Value>(message.payload()).unwrap()["event_id"].to_string()
        };
        let (same, others): (&[&str], &[&str]) = match vectors.kind.as_str() {
            "recording_status" => (
                &["sequence-as-number", "numbers-as-strings", "detail-empty"],
                &["later-second", "status-of-the-future", "sequence-of-letters", "nulls", "secrets"],
            ),
            "recording_exception" => (&["other-words", "more-members"], &["other-code", "code-of-the-future", "nulls"]),
            other => panic!("{other}: say which of its cases are the same event"),
        };
        for name in same {
            assert_eq!(id(name), id("example"), "{name}");
        }
        let ids: HashSet<String> = others.iter().chain(&["example"]).map(|name| id(name)).collect();
        assert_eq!(ids.len(), others.len() + 1, "{}", vectors.kind);
    }
}
