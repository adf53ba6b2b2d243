//! `spool verify`: is everything in the spool as it was written, and if not, what and where.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::tally::{FileTally, Tally, tally};
use super::{Place, hold, look, look_inside, refuse_newer, say, written};
use crate::app::{DEAD_LETTERS, OTHER_EVENTS};
use crate::cli::CommandError;
use crate::spool::inspect::{Stretch, Survey};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Take no lock: looks at a directory that a bridge is using. A write under way may be shown as a torn tail.
    #[arg(long)]
    read_only: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let tallies = read_all(arguments).map_err(|error| match error {
        CommandError::Failed(sentence) => CommandError::Unseen(sentence),
        CommandError::Usage(_) | CommandError::Unseen(_) => error,
    })?;
    let Some(tallies) = tallies else { return Ok(()) };
    // The verdict stands whether or not somebody reads the lines.
    written(print(&tallies))?;
    match tallies.iter().map(|(_, tally)| tally.damage()).sum() {
        0 => Ok(()),
        1 => Err(CommandError::Failed("damage in 1 place".to_owned())),
        places => Err(CommandError::Failed(format!("damage in {places} places"))),
    }
}

/// `None` if there is nothing to read.
fn read_all(arguments: &Arguments) -> Result<Option<Vec<(PathBuf, Tally)>>, CommandError> {
    let path = arguments.place.directory()?;
    let Some(found) = look(&path)? else {
        say(&format!("{} is empty: no spool was begun here", path.display()));
        return Ok(None);
    };
    let mut tallies = Vec::new();
    let mut read = |path: &Path, found: Survey| {
        let lock = if arguments.read_only { None } else { Some(hold(path, "--read-only looks at it all the same")?) };
        // What was seen without the lock may be old.
        let found = if lock.is_some() { look(path)?.unwrap_or(found) } else { found };
        refuse_newer(path, &found)?;
        let tally = tally(path, &found)
            .map_err(|error| CommandError::failed(&format!("{} cannot be read", path.display()), error))?;
        tallies.push((path.to_owned(), tally));
        Ok(lock)
    };
    // All locks are kept until everything was read.
    let mut locks = vec![read(&path, found)?];
    for inside in [DEAD_LETTERS, OTHER_EVENTS] {
        if let Some((path, found)) = look_inside(&path, inside)? {
            locks.push(read(&path, found)?);
        }
    }
    Ok(Some(tallies))
}

fn print(tallies: &[(PathBuf, Tally)]) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (path, tally) in tallies {
        for name in &tally.missing {
            writeln!(
                out,
                "DAMAGED  {}: the file is missing, and older and newer ones are there",
                path.join(name).display()
            )?;
        }
        for file in &tally.files {
            print_file(&mut out, path, file)?;
        }
        let frames: u64 = tally.files.iter().map(|file| file.sequences.count()).sum();
        let verdict = if tally.damage() == 0 { "ok     " } else { "DAMAGED" };
        writeln!(
            out,
            "{verdict}  {}: {} segment(s), {} kept aside, {frames} sound frame(s), {} damaged place(s)",
            path.display(),
            tally.segments(),
            tally.set_aside(),
            tally.damage()
        )?;
    }
    out.flush()
}

fn print_file(out: &mut impl Write, path: &Path, file: &FileTally) -> io::Result<()> {
    let shown = path.join(&file.name);
    let shown = shown.display();
    if file.is_unfinished() {
        writeln!(out, "note     {shown}: begun and never finished; no frame was ever written to it")?;
    }
    if file.header_is_damaged {
        writeln!(out, "DAMAGED  {shown}: at byte 0: the header")?;
    }
    for stretch in &file.damaged {
        let Stretch { position, bytes, .. } = stretch;
        writeln!(out, "DAMAGED  {shown}: at byte {position}, {bytes} bytes: {}", lost(stretch))?;
    }
    if !file.is_readable {
        writeln!(out, "DAMAGED  {shown}: the disk cannot read some of it")?;
    }
    if let Some(Stretch { position, bytes, .. }) = file.torn {
        writeln!(
            out,
            "note     {shown}: at byte {position}, {bytes} bytes: a torn tail, taken for a write that was cut off before \
             it was acknowledged"
        )?;
    }
    Ok(())
}

/// Which sequences may have stood there. Numbers are also given to messages that never were in the spool.
fn lost(stretch: &Stretch) -> String {
    let first = stretch.after.saturating_add(1);
    match stretch.before {
        None => format!("sequences from {first} on may be missing"),
        Some(before) if before <= first => "no sequence is missing".to_owned(),
        Some(before) if before - first == 1 => format!("sequence {first} is missing"),
        Some(before) => format!("sequences {first} to {} may be missing", before - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_lost_is_what_lies_between_the_neighbours() {
        for (after, before, sentence) in [
            (57, Some(59), "sequence 58 is missing"),
            (57, Some(61), "sequences 58 to 60 may be missing"),
            (57, Some(58), "no sequence is missing"),
            (57, None, "sequences from 58 on may be missing"),
        ] {
            assert_eq!(lost(&Stretch { position: 128, bytes: 1, after, before }), sentence);
        }
    }
}
