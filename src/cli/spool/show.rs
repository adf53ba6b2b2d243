//! `spool show`: the frames themselves, as JSON lines.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Place, hold, look, look_inside, refuse_newer, say, written};
use crate::app::{DEAD_LETTERS, OTHER_EVENTS};
use crate::cli::CommandError;
use crate::spool::inspect::{Content, Survey, read};
use crate::spool::{Directory, Frame, Sequences};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Show the dead letters instead: unusable callbacks, and messages that Kafka refused for good.
    #[arg(long)]
    dead_letters: bool,
    /// Show the other events instead: callbacks of kinds that are not published, on their way to their topic.
    #[arg(long, conflicts_with = "dead_letters")]
    other_events: bool,
    /// Show so many frames at most, from the oldest on.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all")]
    limit: u64,
    /// Show every frame.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut path = arguments.place.directory()?;
    let mut found = look(&path)?;
    let inside = [(arguments.dead_letters, DEAD_LETTERS), (arguments.other_events, OTHER_EVENTS)];
    if let Some((_, inside)) = inside.into_iter().find(|(is_asked, _)| *is_asked) {
        found = look_inside(&path, inside)?.map(|(_, found)| found);
        path = path.join(inside);
    }
    if found.is_none() {
        say(&format!("{} is not there or empty: nothing to show", path.display()));
        return Ok(());
    }
    let _lock = hold(&path, "stop that process, or use `spool list`")?;
    // What was seen without the lock may be old.
    let Some(found) = look(&path)? else { return Ok(()) };
    refuse_newer(&path, &found)?;
    let limit = if arguments.all { u64::MAX } else { arguments.limit };
    let shown = print_all(&path, &found, limit);
    if let Ok(Shown { is_cut: true, frames, .. }) = shown {
        say(&format!("only the first {frames} frames are shown; --all shows every one, --limit N more"));
    }
    if let Ok(Shown { damaged, .. }) = shown
        && damaged > 0
    {
        say(&format!("{damaged} place(s) cannot be read; `spool verify` says where"));
    }
    written(shown.map(drop))
}

/// What was shown.
#[derive(Default)]
struct Shown {
    frames: u64,
    damaged: u64,
    is_cut: bool,
}

fn print_all(path: &Path, found: &Survey, limit: u64) -> io::Result<Shown> {
    let storage = Directory::at(path);
    let watermark = found.watermark_sequence();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut shown = Shown::default();
    // A rewrite repeats frames of the segment before it.
    let mut seen = Sequences::default();
    for file in &found.files {
        let mut outcome = Ok(());
        let visited = read(&storage, file, |content| match content {
            Content::Frame(frame) => {
                if outcome.is_err() || shown.is_cut || !seen.insert(frame.sequence) {
                    return;
                }
                if shown.frames == limit {
                    shown.is_cut = true;
                    return;
                }
                shown.frames += 1;
                outcome = print(&mut out, &frame, frame.sequence <= watermark, &file.name);
            }
            Content::Damaged(_) => shown.damaged += 1,
            Content::Torn(_) => {}
        });
        outcome?;
        match visited {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if shown.is_cut {
            break;
        }
    }
    out.flush()?;
    Ok(shown)
}

fn print(out: &mut impl Write, frame: &Frame, delivered: bool, file: &str) -> io::Result<()> {
    let message = &frame.message;
    let headers: BTreeMap<&str, String> =
        message.headers().iter().map(|header| (header.name.as_ref(), text(&header.value))).collect();
    write!(
        out,
        "{{\"sequence\":{},\"accepted_at\":\"{}\",\"key\":{},\"headers\":{},\"value\":",
        frame.sequence,
        frame.accepted_at,
        json!(text(message.key())),
        json!(headers)
    )?;
    match serde_json::from_slice::<&RawValue>(message.payload()) {
        // The bytes themselves: members keep their order and numbers their digits.
        Ok(value) if !value.get().contains('\n') => out.write_all(value.get().as_bytes())?,
        Ok(value) => write!(out, "{}", serde_json::from_str::<Value>(value.get())?)?,
        Err(_) => write!(out, "{}", json!(text(message.payload())))?,
    }
    writeln!(out, ",\"delivered\":{delivered},\"file\":{}}}", json!(file))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
