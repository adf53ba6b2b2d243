//! `spool`: for an operator with a spool volume in hand. What is in it, is it whole, and out with it.
//!
//! None of these commands makes a spool or removes what could not be read, and only `drain` writes. Results go to
//! stdout, everything else to stderr; a reader that has gone is no error.

mod drain;
mod list;
mod show;
mod tally;
mod verify;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::CommandError;
use super::serve::read_config;
use super::terminal::Screen;
use crate::app::{DEAD_LETTERS, OTHER_EVENTS};
use crate::spool::Directory;
use crate::spool::inspect::{Survey, survey};

/// What every new filesystem holds, and nobody put there.
const LOST_AND_FOUND: &str = "lost+found";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is in a spool: frames that wait, the oldest, bytes, damage, and who uses it.
    ///
    /// Takes no lock and changes nothing, so it can be used beside a running bridge. It reads every frame, which takes
    /// some seconds a gigabyte. Exit code 0, or 1 if the directory cannot be read.
    List(list::Arguments),
    /// Check every checksum of every frame in every file, and say what is damaged, and where.
    ///
    /// Exit code 0: whole. 1: damage was found; each place is a line on stdout. 2: it could not be looked at. A torn
    /// tail of the newest segment counts as a write that was cut off before it was acknowledged, and not as damage:
    /// damage to its very last frame looks the same.
    Verify(verify::Arguments),
    /// Print frames as JSON lines.
    ///
    /// Each line has the sequence, the time of acceptance, key, headers and value (as JSON where it is JSON, else as
    /// text), whether Kafka has it already by the watermark, and the file. Refuses a directory that a bridge is using.
    Show(show::Arguments),
    /// Publish a spool to Kafka without running a bridge, and end when it is empty.
    ///
    /// With --config alone it empties that bridge's own directory. With --dir too, it empties an orphan: the volume of
    /// a bridge that will not come back. An orphan's watermark is not believed (better a duplicate than a loss), and
    /// what can be read in damaged files that were kept aside is published as well; those files stay.
    ///
    /// While Kafka takes nothing it waits and goes on trying. Ctrl-C or SIGTERM stops it; what is left stays, and the
    /// next run goes on from there. Exit code 0: everything is published, and nothing is left but empty files. 1:
    /// something is left, and a sentence on stderr says what; dead letters, other events and damaged files count as left.
    Drain(drain::Arguments),
}

/// Where the spool is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The bridge's configuration file; its spool.directory is looked at.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The spool's directory itself, such as a volume that was mounted by hand.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

impl Place {
    fn directory(&self) -> Result<PathBuf, CommandError> {
        match (&self.dir, &self.config) {
            (Some(directory), _) => Ok(directory.clone()),
            (None, Some(file)) => Ok(read_config(file)?.spool.directory),
            (None, None) => Err(CommandError::Usage("neither --config nor --dir is given".to_owned())),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.command {
        Command::List(arguments) => list::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Drain(arguments) => drain::run(arguments),
    }
}

/// What is in the directory at `path`; `None` if nothing is.
fn look(path: &Path) -> Result<Option<Survey>, CommandError> {
    let shown = path.display();
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => CommandError::Failed(format!("there is no directory {shown}")),
        ErrorKind::NotADirectory => CommandError::Failed(format!("{shown} is no directory")),
        _ => CommandError::Failed(format!("{shown} cannot be looked at: {error}")),
    };
    let names: Vec<_> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>())
        .map_err(failed)?;
    let found = survey(&Directory::at(path)).map_err(failed)?;
    let others = names.iter().filter(|name| *name != LOST_AND_FOUND).count();
    if found.is_spool || [DEAD_LETTERS, OTHER_EVENTS].iter().any(|inner| path.join(inner).is_dir()) {
        Ok(Some(found))
    } else if others == 0 {
        Ok(None)
    } else {
        Err(CommandError::Failed(format!("{shown} is no spool: it has {others} entries, and none is a spool's")))
    }
}

/// The same for a spool `inside` that at `path`; `None` if there is no such directory either.
fn look_inside(path: &Path, inside: &str) -> Result<Option<(PathBuf, Survey)>, CommandError> {
    let path = path.join(inside);
    if !path.is_dir() {
        return Ok(None);
    }
    Ok(look(&path)?.map(|found| (path, found)))
}

/// Locks the directory at `path`, or says who has it; `instead` is what the operator can do.
fn hold(path: &Path, instead: &str) -> Result<File, CommandError> {
    let directory = Directory::at(path);
    let shown = path.display();
    match directory.hold() {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            let holder = directory.holder().map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            Err(CommandError::Failed(format!("{shown} is in use by {holder}; {instead}")))
        }
        Err(error) => Err(CommandError::Failed(format!("{shown} cannot be locked: {error}"))),
    }
}

/// Refuses files that only a newer program understands.
fn refuse_newer(path: &Path, found: &Survey) -> Result<(), CommandError> {
    let Some((file, version)) = found.newer() else { return Ok(()) };
    let path = path.join(file);
    Err(CommandError::Failed(format!(
        "{} is written in format version {version}, which this program does not know; use the newer program",
        path.display()
    )))
}

/// The outcome of writing to stdout. A reader that has seen enough, as with `| head`, is no error.
pub(super) fn written(result: io::Result<()>) -> Result<(), CommandError> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CommandError::failed("stdout", error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "a word to the operator, who may have stdout elsewhere")]
pub(super) fn say(sentence: &str) {
    eprintln!("{}", Screen::err().broken(sentence, 0));
}
