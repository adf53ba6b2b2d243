//! `spool list`: a spool at a glance, also while a bridge uses it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::tally::{FileTally, Tally, tally};
use super::{Place, look, look_inside, refuse_newer, say, written};
use crate::app::{DEAD_LETTERS, OTHER_EVENTS};
use crate::cli::CommandError;
use crate::cli::terminal::Screen;
use crate::spool::inspect::Survey;
use crate::spool::segment::Kind;
use crate::spool::{Directory, Holder};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object, with every file, instead of a table.
    #[arg(long)]
    json: bool,
}

/// One spool.
struct Listed {
    path: PathBuf,
    tally: Tally,
    holder: Option<Holder>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let path = arguments.place.directory()?;
    let Some(found) = look(&path)? else {
        say(&format!("{} is empty: no spool was begun here", path.display()));
        let nothing =
            if arguments.json { "{\"events\":null,\"dead_letters\":null,\"other_events\":null}\n" } else { "" };
        return written(std::io::stdout().lock().write_all(nothing.as_bytes()));
    };
    let inside = [look_inside(&path, DEAD_LETTERS)?, look_inside(&path, OTHER_EVENTS)?];
    let listed = read(&path, &found)?;
    let read = |inside: &Option<(PathBuf, Survey)>| inside.as_ref().map(|(path, found)| read(path, found)).transpose();
    let [letters, others] = [read(&inside[0])?, read(&inside[1])?];
    let text = if arguments.json {
        let [letters, others] = [letters.as_ref().map(as_json), others.as_ref().map(as_json)];
        format!("{}\n", json!({ "events": as_json(&listed), "dead_letters": letters, "other_events": others }))
    } else {
        table([("events", Some(&listed)), (DEAD_LETTERS, letters.as_ref()), (OTHER_EVENTS, others.as_ref())])
    };
    written(std::io::stdout().lock().write_all(text.as_bytes()))?;
    // Only now: what can be understood was shown.
    refuse_newer(&path, &found)?;
    inside.iter().flatten().try_for_each(|(path, found)| refuse_newer(path, found))
}

fn read(path: &Path, found: &Survey) -> Result<Listed, CommandError> {
    let tally = tally(path, found)
        .map_err(|error| CommandError::failed(&format!("{} cannot be read", path.display()), error))?;
    Ok(Listed { path: path.to_owned(), tally, holder: Directory::at(path).holder() })
}

const TITLES: [&str; 9] =
    ["SPOOL", "SEGMENTS", "FRAMES", "OLDEST", "BYTES", "SEQUENCES", "DAMAGED", "KEPT ASIDE", "STATE"];

/// A table, or a list of each spool where the terminal is too narrow for it.
fn table(spools: [(&str, Option<&Listed>); 3]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    for (name, listed) in spools {
        let Some(Listed { tally, holder, .. }) = listed else { continue };
        let none = || "-".to_owned();
        rows.push([
            name.to_owned(),
            tally.segments().to_string(),
            tally.waiting.count().to_string(),
            tally.oldest.map_or_else(none, |oldest| oldest.to_string()),
            tally.bytes().to_string(),
            tally.waiting.range().map_or_else(none, |(first, last)| format!("{first}-{last}")),
            tally.damage().to_string(),
            tally.set_aside().to_string(),
            holder.as_ref().map_or_else(|| "not seen in use".to_owned(), |holder| format!("in use by {holder}")),
        ]);
    }
    let table = aligned(&rows);
    let longest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let screen = Screen::out();
    if screen.has_room_for(longest) { table } else { rows.iter().skip(1).map(|row| listed(screen, row)).collect() }
}

fn listed(screen: Screen, row: &[String; 9]) -> String {
    let line = |(title, cell): (&&str, &String)| screen.marked(title, None, 10, cell) + "\n";
    TITLES.iter().zip(row).map(line).collect()
}

/// Columns two spaces apart, and no space at the end of a line.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            write!(line, "{cell:<width$}  ").ok();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn as_json(listed: &Listed) -> Value {
    let Listed { path, tally, holder } = listed;
    let range = tally.waiting.range();
    json!({
        "directory": path.display().to_string(),
        "segments": tally.segments(),
        "frames": tally.waiting.count(),
        "oldest": tally.oldest.map(|oldest| oldest.to_string()),
        "bytes": tally.bytes(),
        "first_sequence": range.map(|(first, _)| first),
        "last_sequence": range.map(|(_, last)| last),
        "watermark": tally.watermark,
        "damaged": tally.damage(),
        "kept_aside": tally.set_aside(),
        "missing_files": tally.missing,
        "state": if holder.is_some() { "in_use" } else { "not_seen_in_use" },
        "holder": holder.as_ref().map(|holder| json!({ "process": holder.process, "name": holder.name })),
        "files": tally.files.iter().map(file_as_json).collect::<Vec<_>>(),
    })
}

fn file_as_json(file: &FileTally) -> Value {
    let range = file.sequences.range();
    json!({
        "name": file.name,
        "kind": match file.kind {
            Kind::Segment(_) => "segment",
            Kind::Unfinished(_) => "unfinished",
            Kind::SetAside(_) => "kept_aside",
            Kind::Other => "other",
        },
        "bytes": file.bytes,
        "frames": file.sequences.count(),
        "first_sequence": range.map(|(first, _)| first),
        "last_sequence": range.map(|(_, last)| last),
        "damaged": file.damage(),
        "torn_bytes": file.torn.map_or(0, |torn| torn.bytes),
    })
}
