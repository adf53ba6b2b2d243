//! Logs go to stderr, as JSON lines or as text.
//!
//! They are written by a thread of their own, through a bounded queue: if nobody reads stderr any more, lines are lost
//! and nothing else. A log that waits for its reader would let anybody who can cause a line stop the bridge.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;

use super::terminal::Screen;
use crate::config::{Level, LogConfig, LogFormat};

/// Lines in the queue; some megabytes at most.
const LINES_MAX: usize = 8192;

/// Writes what is left in the queue when it is dropped, if somebody reads it.
#[must_use = "without it the last lines are lost"]
#[derive(Debug)]
pub(super) struct Logs(#[expect(dead_code, reason = "it works by being dropped")] WorkerGuard);

/// Begins to write logs. A second call changes nothing.
pub(super) fn start(config: LogConfig) -> Logs {
    let level = match config.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log");
    let (writer, guard) = queue.finish(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(writer);
    let started = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => lines.with_ansi(Screen::err().has_colour()).with_target(false).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logs were started before");
    }
    Logs(guard)
}
