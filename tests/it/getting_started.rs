//! The first page that somebody reads, and the first screen.
//!
//! Promise: every block of commands in `docs/getting-started.md` does what the page says, from the first to the last, in one
//! shell, and prints what the page shows; and the README shows what the demo prints. What stands in for the reader's
//! machine: a broker of the tests at another port, other ports of the bridge (the three lines in [`replaced`] are the only
//! ones that are changed), a `cargo` that has built already, and the `kafka-topics.sh` that every Kafka has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::java::jars;
use crate::support::kafka::{free_ports, one_broker};
use crate::support_app::{Program, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_recording-bridge");
/// Stands between what the blocks print.
const END: &str = "--- the end of a block ---";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What is fenced: language and text.
fn fenced(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n```").skip(1).step_by(2);
    parts.map(|part| part.split_once('\n').expect("a fence has lines")).collect()
}

/// Commands, and what the page says that they print.
struct Block {
    commands: String,
    printed: Option<(String, String)>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (language, text) in fenced(page) {
        if language == "sh" {
            blocks.push(Block { commands: text.to_owned(), printed: None });
        } else {
            let last = blocks.last_mut().expect("commands come before what they print");
            assert!(last.printed.is_none(), "two outputs of: {}", last.commands);
            last.printed = Some((language.to_owned(), text.to_owned()));
        }
    }
    blocks
}

/// A text with what differs from time to time taken out: identities, times of day, measured times.
fn masked(text: &str) -> String {
    let is_identity = |word: &str| {
        word.len() >= 8 && word.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
            || word.strip_prefix("1300000000_").is_some_and(|rest| rest.len() == 32)
    };
    let is_time = |word: &str| word.len() >= 20 && word.starts_with("20") && word.ends_with('Z') && word.contains('T');
    let is_decimal = |word: &str| word.split('.').count() == 2 && word.parse::<f64>().is_ok();
    let mask = |word: &str| match word {
        word if is_identity(word) => "ID".to_owned(),
        word if is_time(word) => "TIME".to_owned(),
        word if is_decimal(word) => "0.0".to_owned(),
        word => word.to_owned(),
    };
    let mut out = String::new();
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
    for piece in text.split_inclusive(|letter| !inner(letter)) {
        let end = piece.trim_end_matches(|letter| !inner(letter));
        out.push_str(&mask(end));
        out.push_str(&piece[end.len()..]);
    }
    out.trim().to_owned()
}

/// The same for every text and number in JSON, so that the order of members and the breaks of lines do not matter.
fn masked_json(text: &str) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::String(text) => *text = masked(text),
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(members) => members.values_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    walk(&mut value);
    value
}

/// Why what was printed is not what the page shows.
fn difference(block: &Block, printed: &str) -> Option<String> {
    let (language, shown) = block.printed.as_ref().map_or(("text", ""), |(language, shown)| (language, shown));
    let alike = match language {
        "json" => masked_json(shown) == masked_json(printed),
        _ => masked(shown) == masked(printed),
    };
    (!alike).then(|| format!("{}\nthe page shows:\n{shown}\nthis was printed:\n{printed}", block.commands))
}

/// The commands with the lines replaced that say where things are; each has to be there once.
fn replaced(commands: &[&str], lines: &BTreeMap<&str, String>) -> String {
    let script = commands.join(&format!("\nprintf '%s\\n' '{END}'\n"));
    for line in lines.keys() {
        assert_eq!(script.lines().filter(|found| found == line).count(), 1, "{line}");
    }
    let lines = script.lines().map(|line| lines.get(line).map_or(line, String::as_str));
    lines.collect::<Vec<_>>().join("\n")
}

/// A machine with the project built, and Kafka's own tool.
fn machine(folder: &Path) {
    let tool = |name: &str, text: String| {
        let path = folder.join("tools").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for name in ["tools", "clone/target/release"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    symlink(PROGRAM, folder.join("clone/target/release/recording-bridge")).unwrap();
    tool("cargo", "[ \"$*\" = 'build --release --locked' ]".to_owned());
    let (quiet, class) = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "org.apache.kafka.tools.TopicCommand");
    tool("kafka-topics.sh", format!("exec java -Xmx256m {quiet} -cp '{}/*' {class} \"$@\"", jars().display()));
}

#[test]
fn every_command_of_the_first_hour_does_and_prints_what_the_page_says() {
    let page = fs::read_to_string(root().join("docs/getting-started.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 10, "{} blocks", blocks.len());
    let (broker, ports) = (one_broker().brokers(), free_ports(2));
    let lines = BTreeMap::from([
        ("KAFKA=localhost:9092", format!("KAFKA={broker}")),
        ("PORT=8080", format!("PORT={}", ports[0])),
        ("ADMIN_PORT=9090", format!("ADMIN_PORT={}", ports[1])),
    ]);
    let commands: Vec<&str> = blocks.iter().map(|block| block.commands.as_str()).collect();
    let script = format!("set -euo pipefail\nexec 2>&1\n{}", replaced(&commands, &lines));
    let folder = tempfile::tempdir().unwrap();
    machine(folder.path());
    let path = format!("{}:{}", folder.path().join("tools").display(), std::env::var("PATH").unwrap());
    // With `timeout` what runs in the background ends too, if it comes to that.
    let output = Command::new("timeout")
        .args(["--signal=KILL", "120", "bash", "-c"])
        .arg(format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"))
        .current_dir(folder.path().join("clone"))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(&broker, "localhost:9092");
    let log = fs::read_to_string(folder.path().join("clone/bridge.log")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{printed}\n{log}");
    let printed: Vec<&str> = printed.split(&format!("{END}\n")).collect();
    assert_eq!(printed.len(), blocks.len(), "{printed:#?}\n{log}");
    let differences: Vec<String> =
        blocks.iter().zip(&printed).filter_map(|(block, printed)| difference(block, printed)).collect();
    assert!(differences.is_empty(), "{}\n{log}", differences.join("\n\n"));
    // And it would be seen if the page showed something else.
    for (block, printed) in blocks.iter().zip(&printed) {
        let Some((language, shown)) = &block.printed else { continue };
        for (right, wrong) in [("200", "201"), ("exit code", "code"), ("ok  ", "OK  "), ("recordings", "recording")] {
            let changed = Some((language.clone(), shown.replacen(right, wrong, 1)));
            let is_changed = changed != block.printed;
            let block = Block { commands: String::new(), printed: changed };
            assert_eq!(difference(&block, printed).is_some(), is_changed, "{right}: {shown}");
        }
    }
}

#[test]
fn the_readme_shows_what_the_demo_prints_and_leads_to_the_first_hour() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let first_screen: String = readme.lines().take(60).map(|line| line.to_owned() + "\n").collect();
    assert!(first_screen.contains("](docs/getting-started.md)"), "the README does not lead to the first hour");
    let shown = fenced(&first_screen).into_iter().find(|(_, text)| text.contains("read back after"));
    let (_, shown) = shown.expect("the first screen of the README shows the demo");
    let program = Program::start(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    eventually("the demo has said everything", || program.out().contains("Ctrl-C ends the demo"));
    let printed = masked(&ports_masked(&program.out()));
    let mut printed_lines = printed.lines();
    for line in masked(&ports_masked(shown)).lines() {
        // Rows are left out, and the body of the callback is.
        let begin = line.split('…').next().unwrap_or_default();
        let is_whole = !line.contains('…') || line.ends_with("ID…");
        let found = match begin.trim() {
            "" => continue,
            _ if is_whole => printed_lines.clone().any(|printed| printed == line),
            _ => printed_lines.clone().any(|printed| printed.starts_with(begin)),
        };
        assert!(found, "the demo does not print {line:?}\n{printed}");
        // What is no row comes in the order of the README.
        if !line.contains(" ms ") {
            printed_lines.by_ref().find(|printed| printed.starts_with(begin));
        }
    }
}

/// Ports are as the system gave them; measured times stand in columns.
fn ports_masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        while let Some(at) = line.find("127.0.0.1:") {
            let rest = &line[at + 10..];
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            line = format!("{}HERE{}", &line[..at], &rest[end..]);
        }
        if line.contains(" ms ") {
            line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}
