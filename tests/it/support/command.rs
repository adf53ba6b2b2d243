//! The commands of the real binary that end by themselves, run as a script would run them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bridge::write_config;

/// SIGKILL after this many seconds: a command that hangs fails its test and outlives nobody.
const PATIENCE_SECONDS: &str = "120";

/// A configuration file in a folder of its own.
pub(crate) struct Setup {
    _folder: TempDir,
    config: PathBuf,
}

impl Setup {
    /// See [`write_config`].
    pub(crate) fn new(kafka: &str, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("recording-bridge-tests-").tempdir().unwrap();
        let config = write_config(folder.path(), kafka, more);
        Self { _folder: folder, config }
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it had to be killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ended {
    /// The lines of stdout as JSON.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// Whether a line of stdout begins with `mark` and holds `sentence`.
    pub(crate) fn has(&self, mark: &str, sentence: &str) -> bool {
        self.stdout.lines().any(|line| line.starts_with(mark) && line.contains(sentence))
    }
}

/// `recording-bridge COMMAND --config FILE MORE...`
pub(crate) fn run(command: &str, config: &Path, more: &[&str]) -> Ended {
    let start = [command, "--config", config.to_str().unwrap()];
    run_arguments(&[&start, more].concat())
}

/// `recording-bridge ARGUMENTS...`
pub(crate) fn run_arguments(arguments: &[&str]) -> Ended {
    let began = Instant::now();
    let output = Command::new("timeout")
        .args(["--signal=KILL", PATIENCE_SECONDS, env!("CARGO_BIN_EXE_recording-bridge")])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        took: began.elapsed(),
    }
}

/// `check --config FILE --online`
pub(crate) fn check_online(config: &Path) -> Ended {
    run("check", config, &["--online"])
}
