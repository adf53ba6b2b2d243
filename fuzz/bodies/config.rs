//! Text → a configuration, or its faults.
//!
//! Promise: whatever the text, reading it ends soon and the same way each time; a fault is one line that does not
//! quote a value, so that a secret in the wrong place does not reach a log.
//!
//! An input is a byte and a text. If the byte is 0, the text is the configuration. Otherwise the byte chooses a line of
//! a sound configuration, and its value is replaced by the text and a secret.

use std::path::Path;

use recording_bridge::config::Config;

use super::secrets::{secret, shows};

/// A sound configuration that has every key.
const SOUND: &str = include_str!("../../tests/data/config/every-key.yaml");
/// With these, the text before the secret could make a key of it; keys are named in faults.
const STRUCTURE: [char; 10] = ['{', '}', '[', ']', '?', ':', '\n', '\r', '\u{85}', '\u{2028}'];
/// Values that are no secret where they belong, and are shown when they are understood and do not fit together.
const SHOWN: [&str; 3] = ["topic", "dead_letter_topic", "name"];

/// See the module.
pub fn run(input: &[u8]) {
    let [line, text @ ..] = input else { return };
    let text = String::from_utf8_lossy(text);
    match usize::from(*line) {
        0 => drop(faults(&text)),
        line => hides(line - 1, &text, &secret("hidden", input)),
    }
}

/// What is said of the configuration, without and with the name of its file.
fn faults(text: &str) -> Vec<String> {
    let read = || match Config::parse(text, Path::new("/etc/bridge")) {
        Ok(config) => config.warnings(),
        Err(faults) => {
            assert!(!faults.all().is_empty(), "refused without a reason");
            faults.to_string().lines().map(str::to_owned).collect()
        }
    };
    let said = read();
    assert_eq!(said, read(), "the same text is read in another way");
    said
}

fn hides(line: usize, around: &str, hidden: &str) {
    let lines: Vec<&str> = SOUND.lines().collect();
    let line = line % lines.len();
    let Some((key, _)) = lines[line].split_once(": ") else { return };
    if around.contains(STRUCTURE) || SHOWN.contains(&key.trim_start_matches([' ', '-'])) {
        return;
    }
    let changed = format!("{key}: {around}{hidden}");
    let text: Vec<&str> = (0..).zip(&lines).map(|(place, text)| if place == line { &changed } else { *text }).collect();
    for sentence in faults(&text.join("\n")) {
        assert!(!shows(sentence.as_bytes(), hidden), "a value is quoted: {sentence}");
    }
}
