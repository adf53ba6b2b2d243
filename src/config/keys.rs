//! The keys there are, and what a misspelt one was probably meant to be.
//!
//! [`SECTIONS`] is the only list: the reader refuses every key that is not in it, and a test walks it to see that the
//! annotated `config.yaml` explains each key and that each one reaches the configuration.

/// Each section with its keys. The sections of a list's elements end in `[]`. The names below `kafka.properties` are
/// librdkafka's and stand in no list here.
const SECTIONS: &[(&str, &[&str])] = &[
    ("", &["http", "admin", "callback", "kafka", "repeats", "spool", "shutdown", "log"]),
    (
        "http",
        &[
            "listen",
            "path",
            "health_path",
            "body_bytes_max",
            "request_deadline",
            "header_deadline",
            "connection_age_max",
            "connections_max",
            "connections_per_source_max",
            "in_flight_max",
            "allowed_networks",
            "tls",
        ],
    ),
    ("http.tls", &["certificate_file", "key_file"]),
    ("admin", &["listen", "status_page"]),
    ("callback", &["expiry_grace", "clock_skew", "key_length_min", "masked_names", "published_kinds", "keys"]),
    ("callback.keys[]", &["name", "file", "app_ids", "push_domains"]),
    (
        "kafka",
        &[
            "brokers",
            "topic",
            "dead_letter_topic",
            "other_events_topic",
            "ack_deadline",
            "queue_bytes_max",
            "watchdog",
            "tls",
            "sasl",
            "properties",
        ],
    ),
    ("kafka.tls", &["ca_file", "certificate_file", "key_file"]),
    ("kafka.sasl", &["mechanism", "username", "password_file"]),
    ("repeats", &["period", "entries_max"]),
    (
        "spool",
        &["enabled", "directory", "bytes_max", "disk_free_min", "dead_letter_bytes_max", "other_events_bytes_max"],
    ),
    ("shutdown", &["drain_delay", "grace"]),
    ("log", &["level", "format"]),
];

/// The dotted path of every key, sections included, in the order of their declaration: `callback.keys[].name`.
#[must_use]
pub fn known_keys() -> Vec<String> {
    SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(|key| joined(section, key))).collect()
}

/// `section.key`, and the bare key at the top.
pub(super) fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The key named `key` of `section`, as declared.
pub(super) fn declared(section: &str, key: &str) -> Option<&'static str> {
    keys_of(section).iter().find(|declared| **declared == key).copied()
}

/// What an unknown key was probably meant to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suggestion {
    /// This key of the same section.
    Here(&'static str),
    /// The key at this path, in another section.
    Elsewhere(String),
}

/// What `key`, unknown in `section`, was probably meant to be: a key of this section that is spelt nearly so, one of
/// exactly this name in another section, or one of this section that begins so.
pub(super) fn suggestion(section: &str, key: &str) -> Option<Suggestion> {
    let spelt = canonical(key);
    let candidates = || keys_of(section).iter().filter(|_| !spelt.is_empty());
    let near = candidates()
        .map(|known| (distance(&spelt, &canonical(known)), *known))
        .filter(|(distance, known)| *distance <= slips_in(known))
        .min_by_key(|(distance, _)| *distance);
    let elsewhere = || SECTIONS.iter().find(|(_, keys)| keys.contains(&key)).map(|(other, _)| joined(other, key));
    let begun = || candidates().find(|known| canonical(known).starts_with(&spelt));
    near.map(|(_, known)| Suggestion::Here(known))
        .or_else(|| elsewhere().map(Suggestion::Elsewhere))
        .or_else(|| begun().map(|known| Suggestion::Here(known)))
}

/// How many wrong letters still leave a key recognisable.
fn slips_in(known: &str) -> usize {
    if known.len() < 5 { 1 } else { 2 }
}

fn keys_of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// `ackDeadline`, `ack-deadline` and `ack_deadline` are one name to most people.
fn canonical(key: &str) -> String {
    /// Longer than any key; it bounds the work below.
    const LETTERS_MAX: usize = 64;
    key.chars().filter(|letter| !matches!(letter, '_' | '-')).take(LETTERS_MAX).flat_map(char::to_lowercase).collect()
}

/// How many letters must be put in, left out or exchanged to make `one` into `other` (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut letters = other.chars();
        for (column, above) in row.iter_mut().enumerate() {
            if column == 0 {
                *above = left;
                continue;
            }
            let exchanged = diagonal + usize::from(letters.next() != Some(letter));
            diagonal = *above;
            left = exchanged.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_letters() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_misspelt_key_is_recognised_and_a_strange_one_is_not() {
        let here = |key| Some(Suggestion::Here(key));
        let elsewhere = |path: &str| Some(Suggestion::Elsewhere(path.to_owned()));
        for (section, key, expected) in [
            ("kafka", "ack_dedline", here("ack_deadline")),
            ("kafka", "ackDeadline", here("ack_deadline")),
            ("kafka", "broker", here("brokers")),
            ("kafka.sasl", "password", here("password_file")),
            ("callback.keys[]", "appids", here("app_ids")),
            ("kafka", "request_deadline", elsewhere("http.request_deadline")),
            ("http", "ack_deadline", elsewhere("kafka.ack_deadline")),
            ("", "htpp", here("http")),
            ("", "kafak", here("kafka")),
            ("", "logs", here("log")),
            ("", "nonsense", None),
            ("", "repeat", here("repeats")),
            ("spool", "entries_max", elsewhere("repeats.entries_max")),
            ("http", "zzz", None),
            ("http", "", None),
            ("http", "_", None),
        ] {
            assert_eq!(suggestion(section, key), expected, "{section} {key}");
        }
    }
}
