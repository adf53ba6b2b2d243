//! The configuration as meant: each section read key by key, with the default of its module where a key is absent.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::{Meaning, Reader, Scalar, Section, path_below};
use super::tree::{Node, Value};
use super::{Config, Level, LogConfig, LogFormat, SpoolConfig, scalars};
use crate::callback::{KeyConfig, Kind, Published};
use crate::kafka::{SaslConfig, SaslMechanism, TlsConfig};
use crate::{callback, delivery, http, kafka, shutdown};

const KIBIBYTE: u64 = 1 << 10;
const MEBIBYTE: u64 = 1 << 20;
/// librdkafka counts its queue in KiB in a 32-bit number; a pod has less memory than that anyway.
const QUEUE_BYTES_MIN: u64 = MEBIBYTE;
const QUEUE_BYTES_MAX: u64 = 2 * KIBIBYTE * MEBIBYTE;
/// Most requests for a longer key than this are slips, and no key of the provider is longer.
const KEY_LENGTH_MAX: usize = 256;
/// An event can be this many times as long as its callback (every letter escaped, once more in a dead letter), ...
const ESCAPE_FACTOR: u64 = 4;
/// ... plus what the bridge adds itself: names, identity, headers.
const EVENT_OVERHEAD: u64 = 8 * KIBIBYTE;
/// The default of librdkafka's `message.max.bytes`, which the bridge leaves as it is.
const MESSAGE_BYTES_MAX: u64 = 1_000_000;
/// 4 × `body_bytes_max` + 8 KiB ≤ 1,000,000.
const BODY_BYTES_MAX: u64 = (MESSAGE_BYTES_MAX - EVENT_OVERHEAD) / ESCAPE_FACTOR;

/// Eight segments of 2 MiB: one that is written, one that is drained, and six that wait, a few seconds of a busy bridge.
const SPOOL_BYTES_MIN: u64 = 16 * MEBIBYTE;
const SPOOL_BYTES_MAX: u64 = 16 << 40;
const ROOM_FOR_SEGMENTS: &str = ": segments have 2MiB, and there must be room for eight";
const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];

const MECHANISMS: &[(&str, SaslMechanism)] = &[
    ("PLAIN", SaslMechanism::Plain),
    ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
    ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
];
const LEVELS: &[(&str, Level)] = &[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];
const FORMATS: &[(&str, LogFormat)] = &[("json", LogFormat::Json), ("text", LogFormat::Text)];

/// The configuration in `root`. It is only good if the reader has found no fault.
pub(super) fn read(reader: &mut Reader, root: &Node, folder: &Path) -> Config {
    let top = reader.section(Some(root), "", "");
    Config {
        http: http(reader, &top, folder),
        admin: admin(reader, &top),
        callback: callback(reader, &top, folder),
        kafka: kafka(reader, &top, folder),
        repeats: repeats(reader, &top),
        spool: spool(reader, &top, folder),
        shutdown: shutdown(reader, &top),
        log: log(reader, &top),
    }
}

fn http(reader: &mut Reader, top: &Section<'_>, folder: &Path) -> http::Config {
    let section = &reader.section(top.node("http"), "http", "http");
    let default = http::Config::default();
    http::Config {
        listen: reader.scalar(section, "listen", scalars::listener).unwrap_or(default.listen),
        path: reader.scalar(section, "path", scalars::url_path).unwrap_or(default.path),
        health_path: reader.scalar(section, "health_path", scalars::url_path).unwrap_or(default.health_path),
        body_bytes_max: reader.scalar(section, "body_bytes_max", body_bytes).unwrap_or(default.body_bytes_max),
        request_deadline: reader
            .scalar(section, "request_deadline", scalars::period)
            .unwrap_or(default.request_deadline),
        header_deadline: reader.scalar(section, "header_deadline", scalars::period).unwrap_or(default.header_deadline),
        connection_age_max: reader
            .scalar(section, "connection_age_max", scalars::period)
            .unwrap_or(default.connection_age_max),
        connections_max: reader
            .scalar(section, "connections_max", scalars::positive_count)
            .unwrap_or(default.connections_max),
        connections_per_source_max: reader
            .scalar(section, "connections_per_source_max", scalars::count)
            .unwrap_or(default.connections_per_source_max),
        in_flight_max: reader
            .scalar(section, "in_flight_max", scalars::positive_count)
            .unwrap_or(default.in_flight_max),
        allowed_networks: reader
            .list(section, "allowed_networks", scalars::network)
            .unwrap_or(default.allowed_networks),
        tls: listener_tls(reader, section, folder),
    }
}

fn listener_tls(reader: &mut Reader, http: &Section<'_>, folder: &Path) -> Option<http::tls::Config> {
    let advice = "write certificate_file and key_file, or leave the key out for plain HTTP";
    let section = &optional(reader, http, "tls", "http.tls", advice)?;
    reader.require(section, "certificate_file", "the file of the certificate (PEM)");
    reader.require(section, "key_file", "the file of the certificate's private key (PEM)");
    let certificate_file = reader.scalar(section, "certificate_file", scalars::file(folder));
    let key_file = reader.scalar(section, "key_file", scalars::file(folder));
    Some(http::tls::Config { certificate_file: certificate_file?, key_file: key_file? })
}

/// A body may be as long as its event still fits into a message.
fn body_bytes(scalar: &Scalar<'_>) -> Meaning<usize> {
    let because = ": an event of four times its size and 8KiB must fit Kafka's limit of 1000000B a message";
    scalars::size(1, BODY_BYTES_MAX, because)(scalar)
}

fn admin(reader: &mut Reader, top: &Section<'_>) -> http::admin::Config {
    let section = &reader.section(top.node("admin"), "admin", "admin");
    let default = http::admin::Config::default();
    http::admin::Config {
        listen: reader.scalar(section, "listen", scalars::listener).unwrap_or(default.listen),
        status_page: reader.scalar(section, "status_page", scalars::word(SWITCH)).unwrap_or(default.status_page),
    }
}

fn callback(reader: &mut Reader, top: &Section<'_>, folder: &Path) -> callback::Config {
    let section = &reader.section(top.node("callback"), "callback", "callback");
    let default = callback::Config::new(keys(reader, section, folder));
    callback::Config {
        expiry_grace: reader.scalar(section, "expiry_grace", scalars::duration).unwrap_or(default.expiry_grace),
        clock_skew: reader.scalar(section, "clock_skew", scalars::duration).unwrap_or(default.clock_skew),
        key_length_min: reader.scalar(section, "key_length_min", key_length).unwrap_or(default.key_length_min),
        masked_names: reader.list(section, "masked_names", scalars::text).unwrap_or(default.masked_names),
        published_kinds: published_kinds(reader, section).unwrap_or(default.published_kinds),
        keys: default.keys,
    }
}

/// The kinds of which events are made. A list without recordings is a slip that would lose every one with a 200.
fn published_kinds(reader: &mut Reader, section: &Section<'_>) -> Option<Published> {
    let words: Vec<(&str, Kind)> =
        Kind::ALL.into_iter().filter(|kind| kind.event_kind().is_some()).map(|kind| (kind.label(), kind)).collect();
    let kinds = reader.list(section, "published_kinds", scalars::word(&words))?;
    let path = section.path_of("published_kinds");
    if !kinds.contains(&Kind::Recording) && reader.is_sound(&path) {
        reader.fault(&path, "must hold recording: what is not published is acknowledged and gone".to_owned());
    }
    Some(Published::only(&kinds))
}

fn key_length(scalar: &Scalar<'_>) -> Meaning<usize> {
    scalars::positive_count(scalar).and_then(|length| {
        if length > KEY_LENGTH_MAX { Err(format!("must not be more than {KEY_LENGTH_MAX}")) } else { Ok(length) }
    })
}

fn keys(reader: &mut Reader, section: &Section<'_>, folder: &Path) -> Vec<KeyConfig> {
    const ADVICE: &str = "name at least one key, as a list of {name: …, file: …}";
    reader.require(section, "keys", ADVICE);
    let elements = reader.elements(section, "keys");
    if elements.as_ref().is_some_and(Vec::is_empty) {
        reader.fault(&section.path_of("keys"), format!("is empty: {ADVICE}"));
    }
    let mut names = BTreeMap::new();
    let keys = elements.unwrap_or_default();
    keys.iter().filter_map(|(path, node)| key(reader, path, node, folder, &mut names)).collect()
}

/// One key; nothing if it lacks its name or its file. `names` are those of the keys before it, with their paths.
fn key(
    reader: &mut Reader,
    path: &str,
    node: &Node,
    folder: &Path,
    names: &mut BTreeMap<String, String>,
) -> Option<KeyConfig> {
    let section = &reader.section(Some(node), path, "callback.keys[]");
    reader.require(section, "name", "a short name for metrics and logs, such as live-2026");
    reader.require(section, "file", "the file that holds the key");
    let name = reader.scalar(section, "name", scalars::key_name);
    let file = reader.scalar(section, "file", scalars::file(folder));
    let app_ids = reader.list(section, "app_ids", scalars::app_id).unwrap_or_default();
    let push_domains = reader.list(section, "push_domains", scalars::domain).unwrap_or_default();
    let name = name?;
    match names.get(&name) {
        Some(first) => {
            let sentence = format!("is already the name of {first}; metrics and logs could not tell them apart");
            reader.fault(&section.path_of("name"), sentence);
        }
        None => drop(names.insert(name.clone(), path.to_owned())),
    }
    Some(KeyConfig { name, file: file?, app_ids, push_domains })
}

fn kafka(reader: &mut Reader, top: &Section<'_>, folder: &Path) -> kafka::Config {
    const ADVICE: &str = "name one or more brokers to begin with, such as [kafka-1.example.com:9092]";
    let section = &reader.section(top.node("kafka"), "kafka", "kafka");
    reader.require(section, "brokers", ADVICE);
    reader.require(section, "topic", "the topic that takes the events");
    let brokers = reader.list(section, "brokers", scalars::broker);
    if brokers.as_ref().is_some_and(Vec::is_empty) && reader.is_sound("kafka.brokers") {
        reader.fault("kafka.brokers", format!("is empty: {ADVICE}"));
    }
    let topic = reader.scalar(section, "topic", scalars::topic);
    let default = kafka::Config::new(brokers.unwrap_or_default(), topic.unwrap_or_default());
    kafka::Config {
        dead_letter_topic: reader
            .scalar(section, "dead_letter_topic", scalars::topic)
            .unwrap_or(default.dead_letter_topic),
        other_events_topic: reader.scalar(section, "other_events_topic", scalars::topic),
        ack_deadline: reader.scalar(section, "ack_deadline", scalars::period).unwrap_or(default.ack_deadline),
        queue_bytes_max: reader
            .scalar(section, "queue_bytes_max", scalars::size(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX, ""))
            .unwrap_or(default.queue_bytes_max),
        watchdog: reader.scalar(section, "watchdog", scalars::period).unwrap_or(default.watchdog),
        tls: tls(reader, section, folder),
        sasl: sasl(reader, section, folder),
        properties: properties(reader, section),
        ..default
    }
}

/// A part whose presence alone means something: nothing behind its key could mean either.
fn optional<'tree>(
    reader: &mut Reader,
    parent: &Section<'tree>,
    key: &'static str,
    kind: &'static str,
    advice: &str,
) -> Option<Section<'tree>> {
    let node = parent.node(key)?;
    if matches!(node.value, Value::Nothing) {
        reader.fault(kind, format!("has no value: {advice}"));
        return None;
    }
    Some(reader.section(Some(node), kind, kind))
}

fn tls(reader: &mut Reader, kafka: &Section<'_>, folder: &Path) -> Option<TlsConfig> {
    let advice = "write {} for TLS with the authorities that the system trusts, or leave the key out for none";
    let section = &optional(reader, kafka, "tls", "kafka.tls", advice)?;
    for (one, other) in [("certificate_file", "key_file"), ("key_file", "certificate_file")] {
        if section.node(one).is_some() {
            reader.require(section, other, &format!("kafka.tls.{one} is of no use alone"));
        }
    }
    Some(TlsConfig {
        ca_file: reader.scalar(section, "ca_file", scalars::file(folder)),
        certificate_file: reader.scalar(section, "certificate_file", scalars::file(folder)),
        key_file: reader.scalar(section, "key_file", scalars::file(folder)),
    })
}

fn sasl(reader: &mut Reader, kafka: &Section<'_>, folder: &Path) -> Option<SaslConfig> {
    let advice = "write mechanism, username and password_file, or leave the key out for no login";
    let section = &optional(reader, kafka, "sasl", "kafka.sasl", advice)?;
    reader.require(section, "mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512");
    reader.require(section, "username", "the user known to the brokers");
    reader.require(section, "password_file", "the file that holds the password");
    let mechanism = reader.scalar(section, "mechanism", scalars::word(MECHANISMS));
    let username = reader.scalar(section, "username", scalars::text);
    let password_file = reader.scalar(section, "password_file", scalars::file(folder));
    Some(SaslConfig { mechanism: mechanism?, username: username?, password_file: password_file? })
}

fn properties(reader: &mut Reader, kafka: &Section<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let path = kafka.path_of("properties");
    for entry in reader.map(kafka.node("properties"), &path) {
        let name = entry.key.as_str();
        let inner = path_below(&path, name);
        if let Some(reason) = kafka::Config::property_fault(name) {
            reader.fault(&inner, reason);
            continue;
        }
        let value = reader.one(&entry.node, &inner, |scalar| {
            let value = scalars::property(scalar)?;
            kafka::Config::property_value_fault(name, &value).map_or(Ok(value), |reason| Err(reason.to_owned()))
        });
        properties.extend(value.map(|value| (name.to_owned(), value)));
    }
    properties
}

fn repeats(reader: &mut Reader, top: &Section<'_>) -> delivery::window::Config {
    let section = &reader.section(top.node("repeats"), "repeats", "repeats");
    let default = delivery::window::Config::default();
    delivery::window::Config {
        period: reader.scalar(section, "period", scalars::period).unwrap_or(default.period),
        entries_max: reader.scalar(section, "entries_max", scalars::count).unwrap_or(default.entries_max),
    }
}

fn spool(reader: &mut Reader, top: &Section<'_>, folder: &Path) -> SpoolConfig {
    let section = &reader.section(top.node("spool"), "spool", "spool");
    let default = SpoolConfig::default();
    let mut bytes = |key, least, default| {
        let size = scalars::size(least, SPOOL_BYTES_MAX, ROOM_FOR_SEGMENTS);
        reader.scalar(section, key, size).map_or(default, |bytes| bytes as u64)
    };
    SpoolConfig {
        bytes_max: bytes("bytes_max", SPOOL_BYTES_MIN, default.bytes_max),
        disk_free_min: bytes("disk_free_min", 0, default.disk_free_min),
        dead_letter_bytes_max: bytes("dead_letter_bytes_max", SPOOL_BYTES_MIN, default.dead_letter_bytes_max),
        other_events_bytes_max: bytes("other_events_bytes_max", SPOOL_BYTES_MIN, default.other_events_bytes_max),
        enabled: reader.scalar(section, "enabled", scalars::word(SWITCH)).unwrap_or(default.enabled),
        directory: reader.scalar(section, "directory", scalars::file(folder)).unwrap_or(default.directory),
    }
}

fn shutdown(reader: &mut Reader, top: &Section<'_>) -> shutdown::Config {
    let section = &reader.section(top.node("shutdown"), "shutdown", "shutdown");
    let default = shutdown::Config::default();
    shutdown::Config {
        drain_delay: reader.scalar(section, "drain_delay", scalars::duration).unwrap_or(default.drain_delay),
        grace: reader.scalar(section, "grace", scalars::period).unwrap_or(default.grace),
    }
}

fn log(reader: &mut Reader, top: &Section<'_>) -> LogConfig {
    let section = &reader.section(top.node("log"), "log", "log");
    let default = LogConfig::default();
    LogConfig {
        level: reader.scalar(section, "level", scalars::word(LEVELS)).unwrap_or(default.level),
        format: reader.scalar(section, "format", scalars::word(FORMATS)).unwrap_or(default.format),
    }
}
