//! The metrics and labels that a text names, and those that a page of metrics has.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus adds, and those of its own series of alerts.
const ADDED: [&str; 7] = ["job", "instance", "namespace", "pod", "alertname", "alertstate", "severity"];
/// Labels whose values are names out of the configuration, ids or versions: only that they exist can be seen.
const OPEN: [&str; 10] =
    ["job", "instance", "namespace", "pod", "alertname", "severity", "spool", "key", "version", "librdkafka"];

/// Series of a page of metrics: name → label → values.
pub(super) struct Known(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

/// A name in a text, with what stands in the braces behind it: label, operator, value.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) metric: &'a str,
    matchers: Vec<(String, String, String)>,
}

impl Known {
    /// What `page` has, and the series that rules record.
    pub(super) fn new(page: &str, recorded: impl IntoIterator<Item = String>) -> Self {
        let mut known: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for sample in page.lines().filter(|line| !line.starts_with('#')) {
            let sample = sample.rsplit_once(' ').unwrap().0;
            let named = all_named(sample).pop().unwrap_or_else(|| panic!("no metric: {sample}"));
            let labels = known.entry(named.metric.to_owned()).or_default();
            for (label, _, value) in named.matchers {
                labels.entry(label).or_default().insert(value);
            }
        }
        // A histogram goes by its own name in prose.
        let histograms: Vec<_> = known
            .iter()
            .filter_map(|(name, labels)| name.strip_suffix("_bucket").map(|name| (name.to_owned(), labels.clone())))
            .collect();
        known.extend(histograms);
        for name in recorded.into_iter().chain(["up", "ALERTS", "ALERTS_FOR_STATE"].map(str::to_owned)) {
            known.insert(name, BTreeMap::new());
        }
        Self(known)
    }

    pub(super) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether any metric has the label with that value.
    pub(super) fn has_value(&self, label: &str, value: &str) -> bool {
        self.0.values().any(|labels| labels.get(label).is_some_and(|values| values.contains(value)))
    }

    pub(super) fn has_label(&self, label: &str) -> bool {
        ADDED.contains(&label) || self.0.values().any(|labels| labels.contains_key(label))
    }

    /// What `text` names and there is not.
    pub(super) fn faults(&self, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for named in all_named(text) {
            let Some(labels) = self.0.get(named.metric) else {
                faults.push(format!("there is no metric {}", named.metric));
                continue;
            };
            for (label, operator, value) in &named.matchers {
                let known = labels.get(label);
                if known.is_none() && !ADDED.contains(&label.as_str()) {
                    faults.push(format!("{} has no label {label}", named.metric));
                }
                if OPEN.contains(&label.as_str()) || value.starts_with('$') {
                    continue;
                }
                let values = if operator.ends_with('~') { value.split('|').collect() } else { vec![value.as_str()] };
                let lacks = |value: &&str| known.is_some_and(|known| !known.contains(*value));
                faults.extend(
                    values
                        .into_iter()
                        .filter(lacks)
                        .map(|value| format!("{} has no {label}=\"{value}\"", named.metric)),
                );
            }
        }
        for label in grouped(text) {
            if !self.has_label(&label) {
                faults.push(format!("nothing has the label {label}"));
            }
        }
        faults
    }
}

/// Every word of ours in `text`, recorded series included. A word that goes on with `(` is the beginning of a pattern.
pub(super) fn all_named(text: &str) -> Vec<Named<'_>> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(is_name).map(|offset| at + offset) {
        let end = text[start..].find(|letter| !is_name(letter)).map_or(text.len(), |offset| start + offset);
        let (metric, rest) = (text[start..end].trim_end_matches(':'), &text[end..]);
        at = end;
        let is_ours = metric.starts_with("recording_bridge_")
            || metric.contains(":recording_bridge_")
            || metric.starts_with("process_");
        if is_ours && !rest.starts_with('(') && !metric.ends_with('_') {
            // In a pattern of grep they may be left open.
            let braces = rest.lines().next().and_then(|line| line.strip_prefix('{')?.split_once('}'));
            found.push(Named { metric, matchers: braces.map_or_else(Vec::new, |(inside, _)| matchers(inside)) });
        }
    }
    found
}

/// `label="value", other=~'value'`. No value of ours holds a quote or a brace.
fn matchers(inside: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = inside;
    while let Some(open) = rest.find(['"', '\'']) {
        let quote = &rest[open..=open];
        let Some(length) = rest[open + 1..].find(quote) else { break };
        let before = rest[..open].trim_start_matches([',', ' ']);
        let label = before.trim_end_matches(['=', '!', '~', ' ']);
        let operator = before[label.len()..].trim();
        found.push((label.to_owned(), operator.to_owned(), rest[open + 1..open + 1 + length].to_owned()));
        rest = &rest[open + 2 + length..];
    }
    found
}

/// The labels in `by (…)` and its like.
fn grouped(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in [" by (", " without (", " on (", " ignoring (", " group_left ("] {
        for (at, _) in text.match_indices(word) {
            let inside = text[at + word.len()..].split(')').next().unwrap();
            found.extend(inside.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned));
        }
    }
    found
}

#[test]
fn names_labels_and_values_are_found_where_they_are_not() {
    let known = Known::new("recording_bridge_x{state=\"up\",key=\"k\"} 1\n", []);
    assert!(
        known
            .faults("sum by (state) (rate(recording_bridge_x{state=~\"up\", key=\"other\", job=\"j\"}[5m]))")
            .is_empty()
    );
    for (text, fault) in [
        ("recording_bridge_y > 0", "there is no metric recording_bridge_y"),
        ("recording_bridge_x{stat=\"up\"}", "recording_bridge_x has no label stat"),
        ("recording_bridge_x{state=~'up|down'}", "recording_bridge_x has no state=\"down\""),
        ("sum by (stat) (recording_bridge_x)", "nothing has the label stat"),
        ("instance:recording_bridge_x:rate5m > 0", "there is no metric instance:recording_bridge_x:rate5m"),
    ] {
        assert_eq!(known.faults(text), [fault], "{text}");
    }
    assert!(known.faults("grep -E '^recording_bridge_(x|y)'").is_empty(), "a pattern is no name");
}
