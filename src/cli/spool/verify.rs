//! `spool verify`: is everything in the spool as it was written, and if not, what and where.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::tally::{FileTally, Tally, tally};
use super::{Place, hold, look, look_inside, refuse_newer, say, written};
use crate::app::{DEAD_LETTERS, OTHER_EVENTS};
use crate::cli::CommandError;
use crate::cli::terminal::{Screen, Tone};
use crate::spool::inspect::{Stretch, Survey};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Take no lock: looks at a directory that a bridge is using. A write under way may be shown as a torn tail.
    #[arg(long)]
    read_only: bool,
    /// Print one JSON object instead of lines: `damaged`, and every file with its damaged places.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let tallies = read_all(arguments).map_err(|error| match error {
        CommandError::Failed(sentence) => CommandError::Unseen(sentence),
        CommandError::Usage(_) | CommandError::Unseen(_) => error,
    })?;
    let damage = tallies.iter().map(|(_, tally)| tally.damage()).sum();
    // The verdict stands whether or not somebody reads the lines.
    let text = if arguments.json { as_json(&tallies, damage) } else { lines(&tallies) };
    written(io::stdout().lock().write_all(text.as_bytes()))?;
    match damage {
        0 => Ok(()),
        1 => Err(CommandError::Failed("damage in 1 place".to_owned())),
        places => Err(CommandError::Failed(format!("damage in {places} places"))),
    }
}

/// Nothing if there is nothing to read, which is said.
fn read_all(arguments: &Arguments) -> Result<Vec<(PathBuf, Tally)>, CommandError> {
    let path = arguments.place.directory()?;
    let Some(found) = look(&path)? else {
        say(&format!("{} is empty: no spool was begun here, as where a volume is not mounted", path.display()));
        return Ok(Vec::new());
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
    Ok(tallies)
}

/// Lines that are made of marks and sentences.
struct Lines {
    screen: Screen,
    text: String,
}

impl Lines {
    fn damaged(&mut self, sentence: impl AsRef<str>) {
        self.add("DAMAGED", Some(Tone::Bad), sentence);
    }

    fn note(&mut self, sentence: impl AsRef<str>) {
        self.add("note", None, sentence);
    }

    fn add(&mut self, mark: &str, tone: Option<Tone>, sentence: impl AsRef<str>) {
        self.text.push_str(&self.screen.marked(mark, tone, 8, sentence.as_ref()));
        self.text.push('\n');
    }
}

fn lines(tallies: &[(PathBuf, Tally)]) -> String {
    let mut lines = Lines { screen: Screen::out(), text: String::new() };
    if tallies.is_empty() {
        lines.note("nothing was there to be read");
    }
    for (path, tally) in tallies {
        for name in &tally.missing {
            let shown = path.join(name);
            lines.damaged(format!("{}: the file is missing, and older and newer ones are there", shown.display()));
        }
        for file in &tally.files {
            add_file(&mut lines, path, file);
        }
        let verdict = format!(
            "{}: {} segment(s), {} kept aside, {} sound frame(s), {} damaged place(s)",
            path.display(),
            tally.segments(),
            tally.set_aside(),
            sound_frames(tally),
            tally.damage()
        );
        match tally.damage() {
            0 => lines.add("ok", Some(Tone::Good), verdict),
            _ => lines.damaged(verdict),
        }
    }
    lines.text
}

fn sound_frames(tally: &Tally) -> u64 {
    tally.files.iter().map(|file| file.sequences.count()).sum()
}

fn add_file(lines: &mut Lines, path: &Path, file: &FileTally) {
    let shown = path.join(&file.name);
    let shown = shown.display();
    if file.is_unfinished() {
        lines.note(format!("{shown}: begun and never finished; no frame was ever written to it"));
    }
    if file.header_is_damaged {
        lines.damaged(format!("{shown}: at byte 0: the header"));
    }
    for stretch in &file.damaged {
        let Stretch { position, bytes, .. } = stretch;
        lines.damaged(format!("{shown}: at byte {position}, {bytes} bytes: {}", lost(stretch)));
    }
    if !file.is_readable {
        lines.damaged(format!("{shown}: the disk cannot read some of it"));
    }
    if let Some(Stretch { position, bytes, .. }) = file.torn {
        lines.note(format!(
            "{shown}: at byte {position}, {bytes} bytes: a torn tail, taken for a write that was cut off before it was \
             acknowledged"
        ));
    }
}

fn as_json(tallies: &[(PathBuf, Tally)], damage: usize) -> String {
    let place = |stretch: &Stretch| json!({ "at": stretch.position, "bytes": stretch.bytes, "lost": lost(stretch) });
    let file = |file: &FileTally| {
        json!({
            "name": file.name,
            "sound_frames": file.sequences.count(),
            "header_damaged": file.header_is_damaged,
            "readable": file.is_readable,
            "damaged": file.damaged.iter().map(place).collect::<Vec<_>>(),
            "torn_bytes": file.torn.map_or(0, |torn| torn.bytes),
        })
    };
    let spool = |(path, tally): &(PathBuf, Tally)| {
        json!({
            "directory": path.display().to_string(),
            "segments": tally.segments(),
            "kept_aside": tally.set_aside(),
            "sound_frames": sound_frames(tally),
            "damaged": tally.damage(),
            "missing_files": tally.missing,
            "files": tally.files.iter().map(file).collect::<Vec<_>>(),
        })
    };
    let spools: Vec<_> = tallies.iter().map(spool).collect();
    format!("{}\n", json!({ "damaged": damage, "spools": spools }))
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
