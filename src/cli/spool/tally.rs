//! What reading every frame of a spool tells.
//!
//! It promises the truth about a directory that nobody changes, and no false alarm about one that a bridge is
//! writing to: there, what looks damaged at the end of the newest segment is read again.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::cli::terminal;
use crate::event::Timestamp;
use crate::spool::inspect::{Content, End, File, Stretch, Survey, read};
use crate::spool::segment::{Kind, Unread};
use crate::spool::{Directory, Frame, Sequences};

/// How often a newest segment that looks damaged is read: a write under way ends within one.
const ATTEMPTS: u32 = 3;

/// One file.
#[derive(Debug)]
pub(super) struct FileTally {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) header_is_damaged: bool,
    /// Of all its frames.
    pub(super) sequences: Sequences,
    pub(super) damaged: Vec<Stretch>,
    pub(super) torn: Option<Stretch>,
    /// Whether all of it could be read at all.
    pub(super) is_readable: bool,
}

impl FileTally {
    pub(super) fn damage(&self) -> usize {
        self.damaged.len() + usize::from(self.header_is_damaged) + usize::from(!self.is_readable)
    }

    pub(super) fn is_set_aside(&self) -> bool {
        matches!(self.kind, Kind::SetAside(_))
    }

    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self.kind, Kind::Unfinished(_))
    }
}

/// A whole spool.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) files: Vec<FileTally>,
    pub(super) missing: Vec<String>,
    pub(super) watermark: u64,
    /// Of the frames that wait.
    pub(super) waiting: Sequences,
    pub(super) oldest: Option<Timestamp>,
}

impl Tally {
    pub(super) fn segments(&self) -> usize {
        self.files.iter().filter(|file| matches!(file.kind, Kind::Segment(_))).count()
    }

    pub(super) fn set_aside(&self) -> usize {
        self.files.iter().filter(|file| file.is_set_aside()).count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Places that are damaged, those in files that were kept aside included.
    pub(super) fn damage(&self) -> usize {
        self.missing.len() + self.files.iter().map(FileTally::damage).sum::<usize>()
    }
}

/// Reads everything that `found` names in the directory at `path`. What vanishes meanwhile was delivered.
pub(super) fn tally(path: &Path, found: &Survey) -> io::Result<Tally> {
    let storage = Directory::at(path);
    let watermark = found.watermark_sequence();
    let missing = found.missing.clone();
    let mut tally = Tally { files: Vec::new(), missing, watermark, waiting: Sequences::default(), oldest: None };
    let bar = terminal::bar(found.files.len() as u64, "{bar:30} {pos}/{len} files read, {elapsed}");
    for file in &found.files {
        bar.inc(1);
        if matches!(file.header, Err(Unread::Newer(_))) {
            continue;
        }
        let waits = |frame: &Frame| matches!(file.kind, Kind::Segment(_)) && frame.sequence > watermark;
        let (waiting, oldest) = (&mut tally.waiting, &mut tally.oldest);
        let mut visit = |frame: Frame| {
            if waits(&frame) && waiting.insert(frame.sequence) {
                *oldest = Some(oldest.map_or(frame.accepted_at, |oldest: Timestamp| oldest.min(frame.accepted_at)));
            }
        };
        match tally_file(&storage, file, &mut visit) {
            Ok(read) => tally.files.push(read),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    bar.finish_and_clear();
    Ok(tally)
}

/// Reads one file, and shows every frame at least once.
pub(super) fn tally_file(storage: &Directory, file: &File, visit: &mut impl FnMut(Frame)) -> io::Result<FileTally> {
    let mut attempt = 1;
    loop {
        let tally = read_once(storage, file, visit)?;
        if tally.damaged.is_empty() || file.end != End::Open || attempt == ATTEMPTS {
            return Ok(tally);
        }
        attempt += 1;
    }
}

fn read_once(storage: &Directory, file: &File, visit: &mut impl FnMut(Frame)) -> io::Result<FileTally> {
    let mut tally = FileTally {
        name: file.name.clone(),
        kind: file.kind,
        bytes: file.bytes,
        header_is_damaged: file.header.is_err(),
        sequences: Sequences::default(),
        damaged: Vec::new(),
        torn: None,
        is_readable: true,
    };
    if tally.is_unfinished() {
        // No frame was ever written to it, and its header need not be there.
        tally.header_is_damaged = false;
        return Ok(tally);
    }
    tally.is_readable = read(storage, file, |content| match content {
        Content::Frame(frame) => {
            tally.sequences.insert(frame.sequence);
            visit(frame);
        }
        Content::Damaged(stretch) => tally.damaged.push(stretch),
        Content::Torn(stretch) => tally.torn = Some(stretch),
    })?;
    Ok(tally)
}
