//! What must hold between keys, and what is allowed but unwise.
//!
//! A relation is only checked where each of its keys is sound by itself. Its fault stands at a key that the file has,
//! so that there is a line to look at.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Config;
use super::reader::Reader;
use super::units::show_duration;

/// The sender gives up after this long without an answer.
const SENDER_PATIENCE: Duration = Duration::from_secs(20);
/// The sender tries twelve more times, 60 s apart, each up to 20 s long: 12 × (60 s + 20 s).
const REPEATS_LAST: Duration = Duration::from_secs(12 * (60 + 20));
/// `t` expires 600 s after it was made.
const RETRIES_BEYOND_EXPIRY: Duration = Duration::from_secs(REPEATS_LAST.as_secs() - 600);
/// Beyond this, a window is no help against late or fast clocks any more.
const WINDOW_ADVISED: Duration = Duration::from_secs(60 * 60);
/// Below this length, an MD5 signature can be searched for its key.
const KEY_LENGTH_ADVISED: usize = 16;

type Named<T> = (&'static str, T);

/// Notes every relation that does not hold.
pub(super) fn check(reader: &mut Reader, config: &Config) {
    let mut relations = Relations { reader, broken: Vec::new() };
    deadlines(&mut relations, config);
    addresses(&mut relations, config);
    properties(&mut relations, config);
    for (path, sentence) in relations.broken {
        reader.fault(&path, sentence);
    }
}

/// Relations found broken. They are noted together at the end, so that none hides another: each is checked against
/// what was sound before.
struct Relations<'reader> {
    reader: &'reader Reader,
    broken: Vec<(String, String)>,
}

impl Relations<'_> {
    fn broken(&mut self, path: &str, sentence: String) {
        self.broken.push((path.to_owned(), sentence));
    }
}

/// What is allowed, but should be said.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.callback.expiry_grace < RETRIES_BEYOND_EXPIRY {
        warnings.push(format!(
            "callback.expiry_grace is {}: the sender's last retries come up to {} after t, and will be refused",
            show_duration(config.callback.expiry_grace),
            show_duration(RETRIES_BEYOND_EXPIRY),
        ));
    }
    for (name, span) in [("expiry_grace", config.callback.expiry_grace), ("clock_skew", config.callback.clock_skew)] {
        if span > WINDOW_ADVISED {
            warnings.push(format!(
                "callback.{name} is {}: the body is not signed, so whoever captures a signature can send any body for so long",
                show_duration(span),
            ));
        }
    }
    if config.repeats.entries_max > 0 && config.repeats.period < REPEATS_LAST {
        warnings.push(format!(
            "repeats.period is {}: the sender's last repeats come up to {} after the first attempt, and will be published again",
            show_duration(config.repeats.period),
            show_duration(REPEATS_LAST),
        ));
    }
    if config.callback.key_length_min < KEY_LENGTH_ADVISED {
        warnings.push(format!(
            "callback.key_length_min is {}: a key of fewer than {KEY_LENGTH_ADVISED} characters can be found by trying",
            config.callback.key_length_min,
        ));
    }
    if config.kafka.sasl.is_some() && config.kafka.tls.is_none() {
        warnings.push("kafka.sasl is set without kafka.tls: whoever can listen can learn the login".to_owned());
    }
    if config.http.connections_per_source_max > config.http.connections_max {
        warnings.push(
            "http.connections_per_source_max is above http.connections_max and has no effect; 0 is no limit".to_owned(),
        );
    }
    warnings
}

fn deadlines(relations: &mut Relations<'_>, config: &Config) {
    let request = ("http.request_deadline", config.http.request_deadline);
    let ack = ("kafka.ack_deadline", config.kafka.ack_deadline);
    if request.1 >= SENDER_PATIENCE && relations.reader.is_sound(request.0) {
        let patience = show_duration(SENDER_PATIENCE);
        relations.broken(request.0, format!("must be shorter than {patience}, after which the sender gives up"));
    }
    shorter(relations, ack, request);
    shorter(relations, ("http.header_deadline", config.http.header_deadline), request);
    shorter(relations, request, ("shutdown.grace", config.shutdown.grace));
    shorter(relations, ack, ("kafka.watchdog", config.kafka.watchdog));
}

fn shorter(relations: &mut Relations<'_>, short: Named<Duration>, long: Named<Duration>) {
    if short.1 < long.1 || !relations.reader.is_sound(short.0) || !relations.reader.is_sound(long.0) {
        return;
    }
    let by_default = |path| if relations.reader.line_of(path).is_none() { ", the default" } else { "" };
    let (subject, relation, other) = match relations.reader.line_of(short.0) {
        None if relations.reader.line_of(long.0).is_some() => (long, "longer", short),
        _ => (short, "shorter", long),
    };
    let sentence = format!("must be {relation} than {} ({}{})", other.0, show_duration(other.1), by_default(other.0));
    relations.broken(subject.0, sentence);
}

fn addresses(relations: &mut Relations<'_>, config: &Config) {
    let listeners = (config.http.listen, config.admin.listen);
    if overlap(listeners.0, listeners.1) {
        different(relations, "admin.listen", "http.listen", "two listeners cannot share an address and a port");
    }
    if config.http.path == config.http.health_path {
        different(relations, "http.health_path", "http.path", "one path has one meaning");
    }
    if config.kafka.topic == config.kafka.dead_letter_topic {
        let reason = "consumers of events cannot read dead letters";
        different(relations, "kafka.dead_letter_topic", "kafka.topic", reason);
    }
    other_events(relations, config);
}

fn other_events(relations: &mut Relations<'_>, config: &Config) {
    const TOPIC: &str = "kafka.other_events_topic";
    let Some(topic) = &config.kafka.other_events_topic else { return };
    let reason = "callbacks of other kinds are neither events nor dead letters";
    for (other, name) in
        [("kafka.topic", &config.kafka.topic), ("kafka.dead_letter_topic", &config.kafka.dead_letter_topic)]
    {
        if topic == name {
            different(relations, TOPIC, other, reason);
        }
    }
    if !config.spool.enabled && relations.reader.is_sound(TOPIC) && relations.reader.is_sound("spool.enabled") {
        let sentence = "needs spool.enabled: callbacks of other kinds are written to disk before they are published";
        relations.broken(TOPIC, sentence.to_owned());
    }
}

/// Whether a second listener would find its address in use. The unspecified address takes all of its family, and
/// that of IPv6 takes IPv4 as well on a dual-stack host. Port 0 is another port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || takes(a, b) || takes(b, a))
}

fn different(relations: &mut Relations<'_>, one: &'static str, other: &'static str, reason: &str) {
    if relations.reader.is_sound(one) && relations.reader.is_sound(other) {
        let (subject, object) = if relations.reader.line_of(one).is_some() { (one, other) } else { (other, one) };
        relations.broken(subject, format!("must differ from {object}: {reason}"));
    }
}

fn properties(relations: &mut Relations<'_>, config: &Config) {
    const LINGER: &[&str] = &["linger.ms", "queue.buffering.max.ms"];
    for (name, value) in &config.kafka.properties {
        let path = format!("kafka.properties.{name}");
        if let Some(alias) = crate::kafka::Config::property_alias(name)
            && alias < name.as_str()
            && config.kafka.properties.contains_key(alias)
        {
            relations.broken(&path, format!("is the same property as {alias}; set one of them"));
        }
        // Text that is no number is left to librdkafka, which says so itself.
        let linger = LINGER.contains(&name.as_str()).then(|| value.trim().parse::<f64>().ok()).flatten();
        let deadline = config.kafka.ack_deadline.as_secs_f64() * 1_000.0;
        if linger.is_some_and(|linger| linger >= deadline) && relations.reader.is_sound("kafka.ack_deadline") {
            let deadline = show_duration(config.kafka.ack_deadline);
            relations.broken(&path, format!("must be shorter than kafka.ack_deadline ({deadline})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn listeners_overlap_where_binding_the_second_would_fail() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:0", "0.0.0.0:0", false),
        ] {
            let (one, other) = (one.parse().expect(one), other.parse().expect(other));
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
