//! The configuration promises: whatever is wrong with a file is said all at once, with key and line, and without
//! repeating what stands there; and `config.yaml` says of every key what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use recording_bridge::callback::Kind;
use recording_bridge::config::{Config, Level, LogFormat, known_keys};
use recording_bridge::delivery::window;
use recording_bridge::kafka::SaslMechanism;
use recording_bridge::{callback, http, kafka, shutdown};

const REFERENCE: &str = include_str!("../../config.yaml");
const EVERY_KEY: &str = include_str!("../data/config/every-key.yaml");

/// The least that is a configuration.
const LEAST: &str =
    "callback: {keys: [{name: live, file: keys/live}]}\nkafka: {brokers: ['b:9092'], topic: recordings}\n";

fn faulty_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/faulty")
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/bridge")).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of `text`, one a line.
fn faults(text: &str) -> String {
    Config::parse(text, Path::new("")).map_or_else(|faults| faults.to_string(), |_| "no fault".to_owned())
}

#[test]
fn every_faulty_file_gives_exactly_the_faults_beside_it() {
    let mut cases = 0;
    for entry in fs::read_dir(faulty_folder()).expect("the folder of faulty files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let found = Config::read(&path).expect_err(&path.display().to_string()).to_string();
        let found = found.replace(&format!("{}/", faulty_folder().display()), "");
        let expected = fs::read_to_string(path.with_extension("faults")).unwrap_or_default();
        assert_eq!(found, expected.trim_end(), "{}", path.display());
        cases += 1;
    }
    assert!(cases >= 20, "{cases} cases");
}

#[test]
fn five_faults_of_five_kinds_are_reported_at_once() {
    let faults = Config::read(&faulty_folder().join("five-at-once.yaml")).expect_err("five faults");
    let found: Vec<_> = faults.all().iter().map(|fault| (fault.path.as_str(), fault.line)).collect();
    assert_eq!(
        found,
        [
            ("http.listen", Some(2)),
            ("http.request_deadlin", Some(3)),
            ("callback.expiry_grace", Some(5)),
            ("callback.keys[0].file", Some(7)),
            ("kafka.properties.acks", Some(12)),
        ]
    );
}

#[test]
fn no_faulty_file_has_its_secret_repeated() {
    for entry in fs::read_dir(faulty_folder()).expect("the folder of faulty files") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("text");
        assert!(!faults(&text).contains("Hx7zQ9pLw2"), "{text}");
    }
}

proptest! {
    // A failure prints its least input, which then belongs into a data file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // The text does not end in a colon: then it would be a key, and keys are named.
    #[test]
    fn no_value_is_ever_repeated_in_a_fault(secret in "[A-Za-z0-9+/:=._-]{0,4}QzXv[A-Za-z0-9+/=._-]{0,4}", index in 0..60usize) {
        let lines: Vec<_> = EVERY_KEY.lines().collect();
        let index = index % lines.len();
        let changed: Vec<_> = lines.iter().enumerate().map(|(at, line)| match line.rsplit_once(' ') {
            Some((before, _)) if at == index => format!("{before} {secret}"),
            _ => (*line).to_owned(),
        }).collect();
        let found = faults(&changed.join("\n"));
        prop_assert!(!found.contains("QzXv"), "{found}");
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:\\[\\]{}\\-, \n\"'&*!|>#%@0-9]{0,200}") {
        let found = faults(&text);
        prop_assert!(!found.is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.yaml");
    let shown = |path: &Path| Config::read(path).expect_err("a fault").to_string();
    assert!(shown(&path).starts_with(&format!("{}: cannot be read: No such file", path.display())), "{}", shown(&path));
    assert!(shown(folder.path()).contains("cannot be read: Is a directory"), "{}", shown(folder.path()));
    fs::write(&path, b"http:\n  path: /\xff\n").expect("a file");
    assert_eq!(shown(&path), format!("{}:2: is not UTF-8", path.display()));
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("a file");
    assert_eq!(shown(&path), format!("{}: cannot be read: it is larger than 1MiB", path.display()));
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.yaml");
    fs::write(&path, LEAST.replace("keys/live}", "keys/live}, {name: other, file: /run/key}")).expect("a file");
    let keys = Config::read(&path).expect("a configuration").callback.keys;
    let files: Vec<_> = keys.into_iter().map(|key| key.file).collect();
    assert_eq!(files, [folder.path().join("keys/live"), PathBuf::from("/run/key")]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(LEAST);
    let least = [
        format!("{:?}", config.http),
        format!("{:?}", config.admin),
        format!("{:?}", config.callback),
        format!("{:?}", config.kafka),
        format!("{:?}", config.shutdown),
        format!("{:?}", config.repeats),
        format!("{:?}", config.spool),
        format!("{:?}", config.log),
    ];
    assert_eq!(least, defaults(&config));
    assert_eq!((config.log.level, config.log.format), (Level::Info, LogFormat::Json));
    for section in ["http:\n", "admin: {}\n", "shutdown: ~\n", "log:\n", "\u{feff}"] {
        parse(&format!("{section}{LEAST}"));
    }
}

/// The defaults of each section around the required values of `config`.
fn defaults(config: &Config) -> [String; 8] {
    let kafka = kafka::Config::new(config.kafka.brokers.clone(), config.kafka.topic.clone());
    [
        format!("{:?}", http::Config::default()),
        format!("{:?}", http::admin::Config::default()),
        format!("{:?}", callback::Config::new(config.callback.keys.clone())),
        format!("{kafka:?}"),
        format!("{:?}", shutdown::Config::default()),
        format!("{:?}", window::Config::default()),
        format!("{:?}", recording_bridge::config::SpoolConfig::default()),
        format!("{:?}", recording_bridge::config::LogConfig::default()),
    ]
}

#[test]
fn the_reference_has_the_defaults_of_the_code() {
    let config = parse(REFERENCE);
    let written = [
        format!("{:?}", config.http),
        format!("{:?}", config.admin),
        format!("{:?}", config.callback),
        format!("{:?}", config.kafka),
        format!("{:?}", config.shutdown),
        format!("{:?}", config.repeats),
        format!("{:?}", config.spool),
        format!("{:?}", config.log),
    ];
    assert_eq!(written, defaults(&config));
    let [key] = config.callback.keys.as_slice() else { panic!("one key") };
    assert_eq!((key.name.as_str(), key.file.as_path()), ("live", Path::new("/etc/bridge/keys/live")));
    assert_eq!((key.app_ids.as_slice(), key.push_domains.as_slice()), ([].as_slice(), [].as_slice()));
    assert_eq!(
        (config.kafka.brokers.as_slice(), config.kafka.topic.as_str()),
        (["localhost:9092".to_owned()].as_slice(), "recordings")
    );
    assert_eq!(config.warnings(), [""; 0]);
}

/// The reference with its optional parts taken in: they begin with "#" and no space.
fn reference_in_full() -> String {
    let taken_in = |line: &str| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let part = rest.strip_prefix('#').filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_lowercase()));
        part.map_or(line.to_owned(), |part| format!("{indent}{part}"))
    };
    REFERENCE.lines().map(taken_in).collect::<Vec<_>>().join("\n")
}

/// The dotted path of every key of a document, `[]` for any index.
fn paths_of(text: &str) -> BTreeSet<String> {
    fn walk(value: &serde_json::Value, path: &str, paths: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(members) => {
                for (key, value) in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    paths.insert(path.clone());
                    walk(value, &path, paths);
                }
            }
            serde_json::Value::Array(elements) => {
                for element in elements {
                    walk(element, &format!("{path}[]"), paths);
                }
            }
            _ => {}
        }
    }
    let mut paths = BTreeSet::new();
    walk(&serde_saphyr::from_str(text).expect("YAML"), "", &mut paths);
    paths
}

#[test]
fn the_reference_has_every_key_and_its_optional_parts_are_sound() {
    let full = reference_in_full();
    let known: BTreeSet<_> = known_keys().into_iter().collect();
    assert_eq!(paths_of(&full), known);
    let config = parse(&full);
    assert!(config.kafka.tls.is_some() && config.kafka.sasl.is_some() && config.http.tls.is_some());
}

#[test]
fn the_reference_explains_every_key_and_names_its_default() {
    let full: Vec<_> = REFERENCE.lines().map(str::trim_start).collect();
    let is_prose = |line: &str| line.starts_with("# ") || line == "#";
    for (index, line) in full.iter().enumerate().filter(|(_, line)| !line.is_empty() && !is_prose(line)) {
        let prose: Vec<_> = full.iter().take(index).rev().take_while(|line| is_prose(line)).collect();
        assert!(!prose.is_empty(), "{line} has a comment");
        // A section as a whole has no default.
        let is_section =
            REFERENCE.lines().nth(index).is_some_and(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        let says = |word: &str| prose.iter().any(|line| line.contains(word));
        assert!(is_section || says("Default:") || says("Required"), "{line} has a default or is required");
    }
}

#[test]
fn every_key_reaches_the_configuration() {
    let known: BTreeSet<_> = known_keys().into_iter().collect();
    let properties: BTreeSet<_> = ["linger.ms", "client.id", "log.connection.close", "batch.size"]
        .map(|name| format!("kafka.properties.{name}"))
        .into();
    assert_eq!(paths_of(EVERY_KEY), known.union(&properties).cloned().collect());
    let Config { http, admin, callback, kafka, repeats, spool, shutdown, log } = parse(EVERY_KEY);
    assert_eq!(repeats, window::Config { period: Duration::from_secs(90), entries_max: 1_000 });
    assert_eq!((spool.enabled, spool.bytes_max, spool.disk_free_min), (true, 1 << 30, 0));
    assert!(!parse(&format!("{LEAST}spool: {{enabled: false}}")).spool.enabled);
    assert_eq!((spool.dead_letter_bytes_max, spool.other_events_bytes_max), (16 << 20, 32 << 20));
    assert!(spool.directory.ends_with("var/spool"), "{spool:?}");
    check_http(&http);
    assert_eq!((admin.listen.to_string().as_str(), admin.status_page), ("127.0.0.1:9191", false));
    check_callback(callback);
    check_kafka(kafka);
    let seconds = Duration::from_secs;
    assert_eq!((shutdown.drain_delay, shutdown.grace), (seconds(0), seconds(30)));
    assert_eq!((log.level, log.format), (Level::Trace, LogFormat::Text));
}

fn check_http(http: &http::Config) {
    assert_eq!(http.listen.to_string(), "[::]:8181");
    assert_eq!((http.path.as_str(), http.health_path.as_str()), ("/in/%41~x", "/up"));
    assert_eq!((http.body_bytes_max, http.connections_max, http.in_flight_max), (247_952, 100, 200));
    assert_eq!(http.connections_per_source_max, 7);
    assert_eq!((http.request_deadline, http.header_deadline), (Duration::from_millis(19_999), Duration::from_secs(3)));
    assert_eq!(http.connection_age_max, Duration::from_secs(3_600));
    let networks: Vec<_> = http.allowed_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    let tls = http.tls.as_ref().expect("tls");
    let files = [&tls.certificate_file, &tls.key_file].map(PathBuf::as_path);
    assert_eq!(files, [Path::new("/etc/bridge/server"), Path::new("/keys/server")]);
}

fn check_callback(callback: callback::Config) {
    let callback::Config { expiry_grace, clock_skew, key_length_min, masked_names, published_kinds, keys } = callback;
    assert_eq!((expiry_grace, clock_skew), (Duration::ZERO, Duration::from_millis(1)));
    assert_eq!((key_length_min, masked_names), (8, vec!["sessionid".to_owned(), "user name".to_owned()]));
    assert_eq!(published_kinds, callback::Published::only(&[Kind::Recording, Kind::RecordingException]));
    let [one, other] = keys.try_into().expect("two keys");
    let callback::KeyConfig { name, file, app_ids, push_domains } = one;
    assert_eq!((name.as_str(), file.as_path()), ("live.2026_a-B", Path::new("/etc/bridge/keys/one")));
    assert_eq!(app_ids, [1_300_000_000, 1_300_000_001]);
    assert_eq!(push_domains, ["push.example.com", "b.example.com"]);
    assert_eq!((other.name.as_str(), other.file.as_path()), ("2", Path::new("/keys/two")));
}

fn check_kafka(kafka: kafka::Config) {
    let kafka::Config { brokers, topic, dead_letter_topic, ack_deadline, queue_bytes_max, watchdog, .. } = kafka;
    assert_eq!(brokers, ["a.example.com:9092", "[::1]:9093", "10.0.0.1:1"]);
    assert_eq!((topic.as_str(), dead_letter_topic.as_str()), ("0123", "dead"));
    assert_eq!(kafka.other_events_topic.as_deref(), Some("other"));
    assert_eq!((ack_deadline, watchdog), (Duration::from_millis(250), Duration::from_secs(7_200)));
    assert_eq!(queue_bytes_max, 2_147_483_648);
    let kafka::TlsConfig { ca_file, certificate_file, key_file } = kafka.tls.expect("tls");
    let file = |name: &str| Some(Path::new("/etc/bridge").join(name));
    assert_eq!((ca_file, certificate_file, key_file), (file("ca"), file("certificate"), file("key")));
    let kafka::SaslConfig { mechanism, username, password_file } = kafka.sasl.expect("sasl");
    assert_eq!((mechanism, username.as_str()), (SaslMechanism::ScramSha256, "bridge"));
    assert_eq!(password_file, Path::new("/etc/bridge/password"));
    let properties: Vec<_> = kafka.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected =
        [("batch.size", "1000"), ("client.id", "0x10"), ("linger.ms", "0.50"), ("log.connection.close", "true")];
    assert_eq!(properties, expected);
}

#[test]
fn all_words_of_a_choice_are_taken() {
    let mechanism = |word: &str| {
        let sasl = format!("sasl: {{mechanism: {word}, username: u, password_file: p}}, tls: {{}}, topic:");
        parse(&LEAST.replace("topic:", &sasl)).kafka.sasl.expect("sasl").mechanism
    };
    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(mechanism);
    assert_eq!(mechanisms, [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512]);
    let level = |word: &str| parse(&format!("{LEAST}log: {{level: {word}}}")).log.level;
    let levels = ["error", "warn", "info", "debug", "trace"].map(level);
    assert_eq!(levels, [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace]);
    let format = |word: &str| parse(&format!("{LEAST}log: {{format: {word}}}")).log.format;
    assert_eq!(["json", "text"].map(format), [LogFormat::Json, LogFormat::Text]);
}

#[test]
fn each_bound_is_taken_and_one_beyond_is_not() {
    for (section, key, good, bad) in [
        ("http", "body_bytes_max", "247952B", "247953B"),
        ("http", "body_bytes_max", "1B", "0B"),
        ("http", "request_deadline", "19999ms", "20s"),
        ("http", "request_deadline", "5001ms", "5000ms"),
        ("http", "header_deadline", "14999ms", "15s"),
        ("http", "connections_max", "1", "0"),
        ("http", "connections_max", "1000000", "1000001"),
        ("http", "connections_per_source_max", "0", "-1"),
        ("http", "connection_age_max", "24h", "86400001ms"),
        ("http", "listen", "0.0.0.0:9091", "0.0.0.0:9090"),
        ("http", "path", "/", ""),
        ("callback", "key_length_min", "256", "257"),
        ("repeats", "period", "1ms", "0s"),
        ("repeats", "entries_max", "0", "-1"),
        ("repeats", "entries_max", "1000000", "1000001"),
        ("shutdown", "grace", "15001ms", "15s"),
        ("shutdown", "drain_delay", "0s", "0"),
        ("admin", "listen", "127.0.0.1:0", "127.0.0.1:65536"),
        ("admin", "status_page", "false", "no"),
    ] {
        let text = |value: &str| {
            let least = LEAST.replacen(&format!("{section}: {{"), &format!("{section}: {{{key}: {value}, "), 1);
            if least == LEAST { format!("{LEAST}{section}: {{{key}: \"{value}\"}}\n") } else { least }
        };
        let plain = |value: &str| text(value).replace(&format!("\"{value}\""), value);
        assert_eq!(faults(&plain(good)), "no fault", "{section}.{key}: {good}");
        assert!(faults(&plain(bad)).contains(&format!("{section}.{key}: ")), "{section}.{key}: {bad}");
    }
    for (key, good, bad) in [
        ("ack_deadline", "14999ms", "15s"),
        ("watchdog", "5001ms", "5s"),
        ("queue_bytes_max", "1MiB", "1048575B"),
        ("queue_bytes_max", "2GiB", "2147483649B"),
        ("properties", "{linger.ms: 4999}", "{linger.ms: 5000}"),
        ("tls", "{}", ""),
    ] {
        let text = |value: &str| LEAST.replace("topic:", &format!("{key}: {value}, topic:"));
        assert_eq!(faults(&text(good)), "no fault", "kafka.{key}: {good}");
        assert!(faults(&text(bad)).contains(&format!("kafka.{key}")), "kafka.{key}: {bad}");
    }
    let topic = |length: usize| faults(&LEAST.replace("recordings", &"t".repeat(length)));
    assert_eq!(topic(249), "no fault");
    assert_ne!(topic(250), "no fault");
}

#[test]
fn what_is_allowed_but_unwise_is_a_warning() {
    let warned = |text: &str| parse(text).warnings().join("\n");
    assert_eq!(warned(LEAST), "");
    let callback = |key: &str| LEAST.replace("callback: {", &format!("callback: {{{key}, "));
    assert_eq!(warned(&callback("expiry_grace: 6m")), "");
    assert!(warned(&callback("expiry_grace: 359s")).starts_with("callback.expiry_grace is 359s: "));
    for key in ["expiry_grace", "clock_skew"] {
        assert_eq!(warned(&callback(&format!("{key}: 1h"))), "");
        assert!(
            warned(&callback(&format!("{key}: 3601s"))).starts_with(&format!("callback.{key} is 3601s: ")),
            "{key}"
        );
    }
    let repeats = |keys: &str| format!("{LEAST}repeats: {{{keys}}}");
    assert_eq!(warned(&repeats("period: 16m")), "");
    assert!(warned(&repeats("period: 959s")).starts_with("repeats.period is 959s: "));
    assert_eq!(warned(&repeats("period: 1s, entries_max: 0")), "");
    assert_eq!(warned(&callback("key_length_min: 16")), "");
    assert!(warned(&callback("key_length_min: 15")).starts_with("callback.key_length_min is 15: "));
    let sasl = "sasl: {mechanism: PLAIN, username: u, password_file: p}, topic:";
    assert!(warned(&LEAST.replace("topic:", sasl)).starts_with("kafka.sasl is set without kafka.tls"));
    assert_eq!(warned(&LEAST.replace("topic:", &format!("tls: {{}}, {sasl}"))), "");
    let source = |most: &str| format!("{LEAST}http: {{connections_max: 5, connections_per_source_max: {most}}}");
    assert_eq!(warned(&source("5")), "");
    assert!(warned(&source("6")).starts_with("http.connections_per_source_max is above"));
}
