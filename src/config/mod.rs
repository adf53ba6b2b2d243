//! The configuration: a YAML file as written, read into what each module means by its own `Config`.
//!
//! It promises that a configuration that is returned can be started with, as far as the file alone can tell: every
//! key is known, every value is of its kind and within its bounds, and the values go together. All faults are found
//! at once, each with its key and its line. A fault never quotes a value that has not been understood, so that no
//! secret reaches a log by way of a slip.
//!
//! It deliberately opens no other file, no socket and no connection: whether a key file exists is for `callback` to
//! say, whether a broker answers for `check`. It reads no environment.
//!
//! `tree` is the file as written, `reader` takes values out of it, `keys` lists the keys there are, `scalars` and
//! `units` say what one value may be, `sections` says what they are together, `relations` what must hold between
//! them.

mod fault;
mod keys;
mod reader;
mod relations;
mod scalars;
mod sections;
mod tree;
mod units;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use self::fault::{Fault, Faults};
pub use self::keys::known_keys;
use crate::{callback, delivery, http, kafka, shutdown};

/// A configuration of a thousand keys is far below this; a larger file is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The callback listener.
    pub http: http::Config,
    /// The admin listener.
    pub admin: http::admin::Config,
    /// Authentication and masking.
    pub callback: callback::Config,
    /// The producer.
    pub kafka: kafka::Config,
    /// The window of repeats.
    pub repeats: delivery::window::Config,
    /// The spool.
    pub spool: SpoolConfig,
    /// The end of the process.
    pub shutdown: shutdown::Config,
    /// Logs.
    pub log: LogConfig,
}

/// Where events wait while Kafka does not take them, and how much room they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Whether there is a spool. Without one, an outage is answered with 503.
    pub enabled: bool,
    /// Folder of the spool, on local block storage that outlives the process.
    pub directory: PathBuf,
    /// Most bytes of events.
    pub bytes_max: u64,
    /// Free bytes of the volume below which no more is taken.
    pub disk_free_min: u64,
    /// Most bytes of dead letters.
    pub dead_letter_bytes_max: u64,
    /// Most bytes of other events.
    pub other_events_bytes_max: u64,
}

impl SpoolConfig {
    /// No spool.
    #[must_use]
    pub fn disabled() -> Self {
        Self { enabled: false, ..Self::default() }
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: PathBuf::from("/var/lib/recording-bridge/spool"),
            bytes_max: 4 << 30,
            disk_free_min: 256 << 20,
            dead_letter_bytes_max: 256 << 20,
            other_events_bytes_max: 256 << 20,
        }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// The least urgent level that is still written.
    pub level: Level,
    /// The form of a line.
    pub format: LogFormat,
}

/// The urgency of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Something failed and somebody must look.
    Error,
    /// Something failed and is being dealt with.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Text for people.
    Text,
}

impl Config {
    /// The configuration in the file at `path`. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// Every fault of the file, also that it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Faults> {
        let folder = path.parent().unwrap_or(Path::new(""));
        text_of(path)
            .map_err(Faults::from)
            .and_then(|text| Self::parse(&text, folder))
            .map_err(|faults| faults.of_file(path))
    }

    /// The configuration in `text`, with relative paths taken from `folder`.
    ///
    /// # Errors
    /// Every fault of the text.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Faults> {
        let root = tree::read(text)?;
        let mut reader = reader::Reader::default();
        let config = sections::read(&mut reader, &root, folder);
        relations::check(&mut reader, &config);
        let faults = reader.into_faults();
        if faults.is_empty() { Ok(config) } else { Err(Faults::new(faults)) }
    }

    /// What is allowed but unwise, each in one sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        relations::warnings(self)
    }
}

/// The text of a file, or the one fault that stands for all that could have been in it.
fn text_of(path: &Path) -> Result<String, Fault> {
    let unreadable = |line, sentence| Fault { path: String::new(), line, sentence };
    let bytes = bytes_of(path).map_err(|error| unreadable(None, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + sound.filter(|byte| **byte == b'\n').count();
        unreadable(u32::try_from(line).ok(), "is not UTF-8".to_owned())
    })
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1MiB"));
    }
    Ok(bytes)
}
