//! `spool drain`: publish a spool without running a bridge.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::tally::{tally, tally_file};
use super::{look, look_inside, refuse_newer, say, written};
use crate::app::{AppError, DEAD_LETTERS, Ending, OTHER_EVENTS, Progress, SpoolDrain};
use crate::cli::serve::read_config;
use crate::cli::{CommandError, logging, terminal};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Level, LogConfig, LogFormat};
use crate::message::DEAD_LETTER;
use crate::shutdown::Shutdown;
use crate::spool::inspect::{Content, Survey, read, survey};
use crate::spool::segment::Kind;
use crate::spool::{Directory, Sequences};

/// How often a line tells how far it is, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR: &str = "{bar:30} {pos}/{len} published, {per_sec}, {elapsed}";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file: Kafka, and the spool's directory unless --dir names another.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// An orphan: the spool directory of a bridge that will not come back. Its watermark is ignored, so some events
    /// may be published again.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Give up when nothing was published for so many seconds; without it, an outage of Kafka is waited for.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    give_up_after: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let config = read_config(&arguments.config)?;
    let orphan = arguments.dir.as_deref();
    if orphan.is_none() && !config.spool.enabled {
        return Err(CommandError::Usage("spool.enabled is false: name the directory with --dir".to_owned()));
    }
    let path = orphan.unwrap_or(&config.spool.directory).to_owned();
    // Opening a spool makes its directory; a mistyped path must not become one.
    let Some(found) = look(&path)? else {
        let path = path.display();
        if orphan.is_some() {
            // A script that removes the volume next must not take a failed mount for a drained spool.
            let sentence = format!("{path} is empty, as where a volume is not mounted: there is nothing to publish");
            return Err(CommandError::Failed(sentence));
        }
        say(&format!("{path} is empty: there is nothing to publish"));
        return Ok(());
    };
    refuse_what_is_no_event(&path, &found)?;
    refuse_newer(&path, &found)?;
    let other_events = look_inside(&path, OTHER_EVENTS)?;
    for (path, found) in look_inside(&path, DEAD_LETTERS)?.iter().chain(&other_events) {
        refuse_newer(path, found)?;
    }
    let _logs = logging::start(LogConfig { level: Level::Warn, format: LogFormat::Text });
    let rescued = if orphan.is_some() { rescued(&path, &found)? } else { Rescued::default() };
    let drain = SpoolDrain::start(&config, orphan).map_err(|error| match error {
        AppError::Producer(_) | AppError::Tls(_) => CommandError::Usage(error.to_string()),
        AppError::Listen(..) | AppError::Spool(_) | AppError::System(..) => CommandError::Failed(error.to_string()),
    })?;
    let mut display = Display::new(drain.progress().left);
    let patience = arguments.give_up_after.map(Duration::from_secs);
    let (ending, progress) = drain
        .run(&Shutdown::new(), patience, |progress| display.show(progress))
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    display.end();
    let other_events = other_events.map(|(path, found)| other_events_left(&path, &found)).transpose()?;
    conclude(&path, ending, &progress, &rescued, &found.missing, other_events.flatten())
}

/// Dead letters and callbacks of other kinds are no events, and must not go to the topic of events. Wherever they were
/// copied to, their frames say what they are.
fn refuse_what_is_no_event(path: &Path, found: &Survey) -> Result<(), CommandError> {
    let whole = path.canonicalize().map_err(|error| CommandError::failed(&path.display().to_string(), error))?;
    let kind = first_kind(path, found).unwrap_or_default();
    for (inside, what, begins) in
        [(DEAD_LETTERS, "dead letters", DEAD_LETTER), (OTHER_EVENTS, "other events", "callback.")]
    {
        let spool = whole.parent().filter(|_| whole.ends_with(inside));
        let is_inside = spool.is_some_and(|spool| survey(&Directory::at(spool)).is_ok_and(|found| found.is_spool));
        if is_inside || kind.starts_with(begins) {
            let sentence =
                "which do not belong into the topic of events; `serve` on the spool around it publishes them";
            return Err(CommandError::Failed(format!("{} holds {what}, {sentence}", path.display())));
        }
    }
    Ok(())
}

/// The kind of the first frame that can be read, if it names one.
fn first_kind(path: &Path, found: &Survey) -> Option<String> {
    let storage = Directory::at(path);
    found.files.iter().find_map(|file| {
        let mut first: Option<crate::spool::Frame> = None;
        let mut visit = |content| match content {
            Content::Frame(frame) => drop(first.get_or_insert(frame)),
            Content::Damaged(_) | Content::Torn(_) => {}
        };
        // What cannot be read is told of when it is to be published.
        read(&storage, file, &mut visit).ok()?;
        let kind = first?.message.headers().iter().find(|header| header.name == "ce_type")?.value.clone();
        String::from_utf8(kind.into()).ok()
    })
}

/// What can be read in files that were kept aside.
#[derive(Debug, Default)]
struct Rescued {
    files: u64,
    frames: u64,
}

/// Read beforehand, since the drain does not tell frames by their files.
fn rescued(path: &Path, found: &Survey) -> Result<Rescued, CommandError> {
    let mut rescued = Rescued::default();
    let mut sequences = Sequences::default();
    for file in found.files.iter().filter(|file| matches!(file.kind, Kind::SetAside(_))) {
        let mut visit = |frame: crate::spool::Frame| {
            sequences.insert(frame.sequence);
        };
        tally_file(&Directory::at(path), file, &mut visit)
            .map_err(|error| CommandError::failed(&format!("{} cannot be read", file.name), error))?;
        rescued.files += 1;
    }
    rescued.frames = sequences.count();
    Ok(rescued)
}

/// How far it is: a bar on a terminal, otherwise a line now and then.
struct Display {
    bar: Option<ProgressBar>,
    total: u64,
    begun: Instant,
    next_line: Instant,
}

impl Display {
    fn new(total: u64) -> Self {
        let begun = SystemClock.monotonic();
        let bar = terminal::shows_progress().then(|| terminal::bar(total, BAR));
        if bar.is_none() {
            say(&format!("{total} events to publish, at most"));
        }
        Self { bar, total, begun, next_line: begun + LINE_INTERVAL }
    }

    fn show(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_position(progress.published);
            return;
        }
        let now = SystemClock.monotonic();
        if now >= self.next_line {
            self.next_line = now + LINE_INTERVAL;
            let milliseconds = u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
            let rate = progress.published.saturating_mul(1000) / milliseconds.max(1);
            say(&format!("{} of {} published, {rate}/s", progress.published, self.total));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Tells what was done, and fails if anything is left: only an empty directory may be given away.
fn conclude(
    path: &Path,
    ending: Ending,
    progress: &Progress,
    rescued: &Rescued,
    missing: &[String],
    other_events: Option<String>,
) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let lines = done(path, progress, rescued);
    written(lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    let why = match ending {
        Ending::Empty => None,
        Ending::Asked => Some("stopped by a signal".to_owned()),
        Ending::GivenUp(patience) => Some(format!("nothing was published for {} s", patience.as_secs())),
    };
    let mut left = Vec::new();
    if let Some(why) = why {
        left.push(format!("{why}: about {} events are left; the same command goes on with them", progress.left));
    }
    if !progress.foreign.is_empty() {
        let files = progress.foreign.join(", ");
        left.push(format!("files of another spool are left: {files}; drain them in a directory of their own"));
    }
    if progress.set_aside > 0 {
        left.push(format!("{} damaged file(s) are left; what can be read in them is published", progress.set_aside));
    }
    if !missing.is_empty() {
        // A filesystem check may have put them elsewhere on the volume.
        left.push(format!("files in the middle of the spool are missing: {}", missing.join(", ")));
    }
    left.extend(dead_letters_left(progress));
    left.extend(dead_letter_files_left(progress));
    left.extend(other_events);
    if left.is_empty() { Ok(()) } else { Err(CommandError::Failed(left.join("; "))) }
}

fn done(path: &Path, progress: &Progress, rescued: &Rescued) -> Vec<String> {
    let mut lines = vec![format!("{} events published from {}", progress.published, path.display())];
    if rescued.files > 0 {
        let Rescued { files, frames } = rescued;
        lines.push(format!("{frames} readable events were in {files} damaged file(s) kept aside before"));
    }
    if progress.damaged_stretches > 0 {
        lines.push(format!("{} damaged place(s) could not be read", progress.damaged_stretches));
    }
    if progress.dead_lettered > 0 {
        lines.push(format!("{} events were refused by Kafka for good: now dead letters", progress.dead_lettered));
    }
    lines
}

/// This command does not publish dead letters: whoever drains them too replaces this sentence.
fn dead_letters_left(progress: &Progress) -> Option<String> {
    let count = progress.dead_letters;
    (count > 0).then(|| format!("{count} dead letter(s) are left; `spool show --dead-letters` prints them"))
}

/// Nor does it publish other events, nor touch them.
fn other_events_left(path: &Path, found: &Survey) -> Result<Option<String>, CommandError> {
    let tally = tally(path, found)
        .map_err(|error| CommandError::failed(&format!("{} cannot be read", path.display()), error))?;
    let (frames, places) = (tally.waiting.count(), tally.damage());
    let damaged = if places == 0 { String::new() } else { format!(", and {places} damaged place(s) among them") };
    let left = format!("{frames} other event(s) are left{damaged}; `spool show --other-events` prints them");
    Ok((frames > 0 || places > 0).then_some(left))
}

/// Letters in them are not among those that were counted.
fn dead_letter_files_left(progress: &Progress) -> Option<String> {
    let count = progress.dead_letter_files;
    let which = "damaged or of another spool";
    (count > 0).then(|| format!("{count} file(s) of dead letters are left that are {which}; `spool verify` names them"))
}
