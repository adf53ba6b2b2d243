//! The spool's folders: opened before anything is accepted, with a word about what was found.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::config::SpoolConfig;
use crate::delivery::Spools;
use crate::spool::inspect::survey;
use crate::spool::{Config, Directory, Holder, Id, OpenError, SEGMENT_BYTES, Spool};

/// Folder of the dead letters inside the spool's own.
pub(crate) const DEAD_LETTERS: &str = "dead-letters";
/// Folder of the other events, likewise.
pub(crate) const OTHER_EVENTS: &str = "other-events";

/// Why the spool cannot be used.
#[derive(Debug)]
pub struct SpoolError {
    directory: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Folder(io::Error),
    Open(OpenError),
    Owned(Option<Holder>),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        match &self.cause {
            Cause::Folder(error) => write!(
                formatter,
                "the spool folder {directory} cannot be used: {error}; set spool.directory to a folder on a volume \
                 that outlives the process, or spool.enabled to false"
            ),
            Cause::Owned(holder) => {
                write!(formatter, "the spool in {directory} cannot be opened: {}", OpenError::Owned)?;
                holder.as_ref().map_or(Ok(()), |holder| write!(formatter, ": {holder}"))
            }
            Cause::Open(error) => write!(formatter, "the spool in {directory} cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for SpoolError {}

/// Both spools, or nothing if they are switched off.
pub(super) fn open(config: &SpoolConfig) -> Result<Option<Spools<Directory>>, SpoolError> {
    if !config.enabled {
        tracing::warn!("spool.enabled is false: while Kafka does not take events, callbacks are refused");
        return Ok(None);
    }
    open_both(config, false).map(Some)
}

/// Both spools of a folder, whether they are switched off or not. What an orphan's watermark says is not believed.
pub(super) fn open_both(config: &SpoolConfig, is_orphan: bool) -> Result<Spools<Directory>, SpoolError> {
    let directory = &config.directory;
    let owner = owner(directory)?;
    let messages = open_one(directory, limits(owner, config.bytes_max, config.disk_free_min), is_orphan)?;
    // Room for the first dead letters is taken now, since a disk that is full later leaves none.
    let limits = Config { allocate_at_start: true, ..limits(owner, config.dead_letter_bytes_max, 0) };
    let dead_letters = open_one(&directory.join(DEAD_LETTERS), limits, false)?;
    Ok(Spools { messages, dead_letters })
}

/// The spool of other events. It leaves free whatever that of events may take, so that it never costs an event its place.
/// Nothing that is wrong with it keeps events from being taken: it is then unusable until the next start, and `None`.
pub(super) fn open_other_events(config: &SpoolConfig) -> Option<Spool<Directory>> {
    let directory = config.directory.join(OTHER_EVENTS);
    let floor = config.disk_free_min.saturating_add(config.bytes_max);
    let spool = owner(&directory)
        .and_then(|owner| open_one(&directory, limits(owner, config.other_events_bytes_max, floor), false));
    spool.inspect_err(|error| tracing::error!(%error, "callbacks of other kinds cannot be passed on")).ok()
}

/// What is left of other events that nobody publishes any more, if anything is.
pub(super) fn forgotten_other_events(config: &SpoolConfig) -> Option<Spool<Directory>> {
    let directory = config.directory.join(OTHER_EVENTS);
    let is_there = config.enabled && survey(&Directory::at(&directory)).is_ok_and(|found| !found.files.is_empty());
    let spool = is_there.then(|| open_other_events(config)).flatten()?;
    if spool.recovery.frames > 0 {
        let (directory, frames) = (directory.display(), spool.recovery.frames);
        tracing::warn!(%directory, frames, "other events wait here: without kafka.other_events_topic nobody publishes them");
    }
    Some(spool)
}

fn limits(owner: Id, bytes_max: u64, disk_free_min: u64) -> Config {
    Config { bytes_max, disk_free_min, segment_bytes: SEGMENT_BYTES, owner, allocate_at_start: false }
}

fn owner(directory: &Path) -> Result<Id, SpoolError> {
    random_id().map_err(|error| fault(directory, Cause::Folder(error)))
}

fn open_one(directory: &Path, limits: Config, is_orphan: bool) -> Result<Spool<Directory>, SpoolError> {
    std::fs::create_dir_all(directory).map_err(|error| fault(directory, Cause::Folder(error)))?;
    let open = if is_orphan { Spool::open_orphan } else { Spool::open };
    let spool = open(Directory::at(directory), limits).map_err(|error| match error {
        OpenError::Owned => fault(directory, Cause::Owned(Directory::at(directory).holder())),
        OpenError::Newer { .. } | OpenError::Directory(_) => fault(directory, Cause::Open(error)),
    })?;
    let found = &spool.recovery;
    tracing::info!(
        directory = %directory.display(),
        frames = found.frames,
        bytes = found.bytes,
        segments = found.segments,
        torn_bytes = found.torn_bytes,
        damaged = found.damaged.len(),
        "the spool is open"
    );
    for file in &found.damaged {
        tracing::error!(file, "damage in the spool: what can be read is published, the file is kept");
    }
    Ok(spool)
}

fn fault(directory: &Path, cause: Cause) -> SpoolError {
    SpoolError { directory: directory.to_owned(), cause }
}

/// Sixteen bytes that no other process has.
fn random_id() -> io::Result<Id> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(Id(id))
}
