//! Promise: the house is as its documents say. Imports point down the table below, files stay short, every metric is
//! in the README and the reverse, and nothing is left undone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest production code in one file, tests at its end not counted.
const LINES_MAX: usize = 400;

/// Module → what of this crate it may import, and which outside crates it may name. The lowest come first.
const IMPORTS: [(&str, &[&str], &[&str]); 16] = [
    ("clock", &[], &[]),
    ("refusal", &[], &[]),
    ("event", &[], &["time", "uuid"]),
    ("callback", &["event"], &["serde", "serde_json", "md5", "hex", "subtle", "zeroize", "bytes"]),
    ("message", &["event"], &["serde", "serde_json", "bytes", "sha2"]),
    ("spool", &["event", "message"], &["crc32c", "rustix", "tracing", "bytes"]),
    ("kafka", &["message"], &["openssl", "rdkafka", "tokio", "tracing", "zeroize"]),
    ("metrics", &["callback", "event", "refusal"], &["prometheus", "tracing"]),
    ("status", &["callback", "event", "metrics", "refusal"], &["serde", "serde_json"]),
    ("delivery", &["event", "message", "kafka", "spool", "metrics", "clock"], &["tokio", "tokio_util", "tracing"]),
    (
        "http",
        &["clock", "refusal", "event", "callback", "message", "metrics", "delivery", "status"],
        &[
            "bytes",
            "hyper",
            "hyper_util",
            "http_body_util",
            "tokio",
            "tokio_rustls",
            "tokio_util",
            "serde_json",
            "tracing",
            "x509_parser",
            "zeroize",
        ],
    ),
    ("config", &["http", "callback", "kafka", "delivery", "spool", "shutdown"], &["serde", "serde_saphyr"]),
    ("shutdown", &[], &["tokio", "tokio_util", "tracing"]),
    (
        "app",
        &[
            "clock", "refusal", "event", "callback", "message", "kafka", "metrics", "delivery", "http", "config",
            "shutdown", "spool", "status",
        ],
        &["tokio", "tokio_util", "rustix", "tracing"],
    ),
    (
        "cli",
        &[
            "clock", "refusal", "event", "callback", "message", "kafka", "metrics", "delivery", "http", "config",
            "shutdown", "app", "spool",
        ],
        &[
            "bytes",
            "clap",
            "clap_complete",
            "indicatif",
            "rdkafka",
            "serde",
            "serde_json",
            "terminal_size",
            "tokio",
            "tracing",
            "tracing_appender",
            "tracing_subscriber",
            "ureq",
        ],
    ),
    ("main", &[], &["tikv_jemallocator"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file up to its tests, without comments.
fn production(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first folder or file name below `src`.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The names that follow `before` in `text`, also those in `before{a, b}`.
fn names_after(text: &str, before: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(before) {
        let rest = &text[at + before.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split("};").next().unwrap();
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars().chain([',']) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.insert(word(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
        } else {
            names.insert(word(rest));
        }
    }
    names.remove("");
    names
}

/// The crates that a line of the manifest declares.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let lines = section.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split_once(" =").map(|(name, _)| name.replace('-', "_")));
    names.map(|name| if name == "md_5" { "md5".to_owned() } else { name }).collect()
}

#[test]
fn imports_point_down_the_table() {
    let table: BTreeMap<&str, (&[&str], &[&str])> =
        IMPORTS.iter().map(|(name, own, outside)| (*name, (*own, *outside))).collect();
    let dependencies = dependencies();
    assert!(dependencies.contains("rdkafka") && dependencies.contains("md5"), "{dependencies:?}");
    let mut faults = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        let (own, outside) = table.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the table"));
        let code = production(&path);
        for name in names_after(&code, "crate::") {
            if name != module && !own.contains(&name.as_str()) && module != "main" {
                faults.push(format!("{}: crate::{name}", path.display()));
            }
        }
        for name in &dependencies {
            let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                !before.is_alphanumeric() && before != '_' && before != ':'
            });
            if named && !outside.contains(&name.as_str()) {
                faults.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "imports that the table does not allow:\n{}", faults.join("\n"));
}

#[test]
fn the_table_of_imports_has_no_cycle() {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<_> = IMPORTS.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(name, own, _)| {
            let known = own.iter().all(|import| placed.contains(import));
            if known {
                placed.insert(name);
            }
            !known
        });
        assert!(left.len() < before, "these import each other: {left:?}");
    }
}

/// A `Delivered` stands for an acknowledgement of Kafka: only who hears from Kafka may make one.
#[test]
fn only_the_adapter_says_that_kafka_has_a_message() {
    let making =
        files(&root().join("src"), "rs").into_iter().filter(|path| production(path).contains("Delivered::new("));
    assert_eq!(making.map(|path| module(&path)).collect::<Vec<_>>(), ["kafka"]);
}

/// Who looks at no signature must not be on the path of a callback.
#[test]
fn only_commands_believe_a_callback_without_its_signature() {
    let believing = files(&root().join("src"), "rs")
        .into_iter()
        .filter(|path| production(path).contains("::assumed_without_signature("));
    let modules: BTreeSet<String> = believing.map(|path| module(&path)).collect();
    assert_eq!(modules.into_iter().collect::<Vec<_>>(), ["cli"]);
}

#[test]
fn files_stay_short() {
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.split("#[cfg(test)]").next().unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; split it by noun", path.display());
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in files(&root().join("src"), "rs").into_iter().chain(files(&root().join("tests/it"), "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no module documentation", path.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    // Put together, so that this file does not find itself.
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["#[ig", "nore"], ["todo", "!("], ["unimplemented", "!("]].map(|w| w.concat());
    for path in files(&root().join("src"), "rs").into_iter().chain(files(&root().join("tests"), "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} holds {word}", path.display());
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !line.starts_with('#') {
            assert!(before.starts_with('#'), "{line} has no comment");
        }
        before = line;
    }
}

/// Names in backticks in the first column of the README's table of metrics.
/// The versions of every crate in a lock file.
fn locked(file: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_matches([' ', '=', '"']).to_owned()
        };
        crates.entry(value("name")).or_default().insert(value("version"));
    }
    crates
}

#[test]
fn the_gate_counts_what_the_bridge_is_built_of() {
    let (bridge, gate) = (locked("Cargo.lock"), locked("benches/gate/Cargo.lock"));
    for (name, versions) in gate.iter().filter(|(name, _)| bridge.contains_key(*name)) {
        assert!(
            versions.is_subset(&bridge[name]),
            "{name} {versions:?} in benches/gate/Cargo.lock; mend it by `cp Cargo.lock benches/gate/Cargo.lock && cargo \
             metadata --manifest-path benches/gate/Cargo.toml`"
        );
    }
    let profile = |file: &str| {
        let manifest = fs::read_to_string(root().join(file)).unwrap();
        let section = manifest.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
        section.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(profile("Cargo.toml"), profile("benches/gate/Cargo.toml"));
}

fn metrics_in_the_readme() -> BTreeSet<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows =
        readme.lines().filter(|line| line.starts_with("| `recording_bridge_") || line.starts_with("| `process_"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn every_metric_is_in_the_readme_and_the_reverse() {
    let metrics = recording_bridge::metrics::Metrics::new(&["key"], &["timed_out"], "0.0.0");
    // Those of the certificate and the spool's id exist where there is one, histograms by outcome from the first outcome on.
    metrics.tls.in_use(0);
    metrics.tls.files_usable(true);
    metrics.spool.identify("00");
    metrics.resolved(recording_bridge::metrics::Outcome::Unresolved, 0.0);
    let text = String::from_utf8(metrics.render()).unwrap();
    let exported: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert!(exported.len() > 20, "{exported:?}");
    assert_eq!(metrics_in_the_readme(), exported, "left: README, right: exported");
}

/// Lines of a patch's head that begin with `name: `.
fn head_of<'a>(patch: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let head = patch.lines().take_while(|line| !line.starts_with("diff "));
    head.filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// `tests/run --planted` applies them; this only sees that the list is true.
#[test]
fn every_planted_mistake_is_listed_with_a_test_that_exists() {
    let sources: String =
        files(&root().join("tests/it"), "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut rows = BTreeSet::new();
    for path in files(&root().join("tests/planted"), "patch") {
        let (patch, name) = (fs::read_to_string(&path).unwrap(), path.file_stem().unwrap().display().to_string());
        let tests: Vec<&str> = head_of(&patch, "Test").collect();
        assert!(!tests.is_empty(), "{name} names no test");
        for test in &tests {
            let function = test.rsplit("::").next().unwrap();
            assert!(sources.contains(&format!("fn {function}(")), "{name}: there is no test {test}");
        }
        let bug = head_of(&patch, "Bug").next().unwrap_or_else(|| panic!("{name} says no mistake"));
        rows.insert(format!("| `{name}` | {bug} | `{}` |", tests.join("`, `")));
    }
    let text = fs::read_to_string(root().join("docs/planted-bugs.md")).unwrap();
    let listed: BTreeSet<String> = text.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let differing: Vec<&String> = listed.symmetric_difference(&rows).collect();
    assert!(differing.is_empty(), "in the table or in the patches, and not in both: {differing:#?}");
}

/// Every document, by its name.
fn documents() -> Vec<(String, String)> {
    let beside = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let beside = beside.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let documents: Vec<PathBuf> = beside.chain(files(&root().join("docs"), "md")).collect();
    assert!(documents.len() > 5, "{documents:?}");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    documents.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Words in backticks that are the path of a test: modules, and a function whose name is a sentence.
fn tests_named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let lower = |word: &&str| {
        word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_:".contains(letter))
    };
    let sentence = |word: &&str| word.rsplit_once("::").is_some_and(|(_, function)| function.matches('_').count() >= 3);
    quoted.filter(lower).filter(sentence).collect()
}

/// Whether `tests/it` or `src` has the test `path` in the file of its module.
fn test_exists(path: &str) -> bool {
    let (module, function) = path.rsplit_once("::").unwrap();
    let module = module.replace("::", "/");
    let places = ["tests/it", "src"]
        .into_iter()
        .flat_map(|top| [format!("{top}/{module}.rs"), format!("{top}/{module}/mod.rs")]);
    let mut sources = places.filter_map(|place| fs::read_to_string(root().join(place)).ok());
    sources.any(|source| source.contains(&format!("fn {function}(")))
}

#[test]
fn every_test_that_a_document_names_exists() {
    let missing: Vec<String> = documents()
        .iter()
        .flat_map(|(document, text)| {
            let missing = tests_named(text).into_iter().filter(|path| !test_exists(path));
            missing.map(|path| format!("{document}: {path}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_threat_has_a_test_or_says_that_it_has_none() {
    let text = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let table = text.split("## Threats\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 25, "{} threats", rows.len());
    for row in rows {
        let shown = row.split(" | ").nth(2).unwrap_or_else(|| panic!("three columns: {row}"));
        assert!(!tests_named(shown).is_empty() || shown.starts_with("no test"), "{row}");
    }
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "/._-".contains(letter)));
        let named = words.filter(|word| {
            Path::new(word).extension().is_some_and(|ending| ending == "rs")
                && (word.starts_with("src/") || word.starts_with("tests/"))
        });
        missing.extend(named.filter(|path| !root().join(path).exists()).map(|path| format!("{document}: {path}")));
    }
    assert!(missing.is_empty(), "{missing:?}");
}
