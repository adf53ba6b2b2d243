//! Looking at a spool without owning it: for commands that list, verify and show, also while a bridge is running.
//!
//! Nothing here locks, writes or heeds the watermark. What is being written meanwhile may look torn, and files that
//! vanish meanwhile were delivered.

use std::io::{self, ErrorKind};

use super::frame::Frame;
use super::recovery::read_header;
use super::segment::{self, FRAMES_START, Header, Kind, Unread};
use super::storage::{Storage, StoredFile};
use super::walk::{Lenient, Step, Walk};
use super::watermark::{self, Slot, read_slots};

/// A file that holds, or held, frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its header, or why there is none.
    pub header: Result<Header, Unread>,
    /// Its length.
    pub bytes: u64,
    /// Where its frames end.
    pub end: End,
}

/// Where the frames of a file end, as far as other files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is the newest, or an attempt that came to nothing: a write may have been cut off at its end.
    Open,
    /// Its successor says so: everything before was synced, and must be readable.
    At(u64),
    /// It is sealed, and nobody says where: what follows the last frame must be blank.
    Unknown,
}

/// A spool directory at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Segments, unfinished ones and those set aside, by name.
    pub files: Vec<File>,
    /// The newest sound slot of the watermark file.
    pub watermark: Option<Slot>,
    /// Segments whose successor names them, and that are not there although older ones are.
    pub missing: Vec<String>,
    /// The version of the watermark file, if it is later than this program knows.
    pub watermark_newer: Option<u32>,
    /// Whether anything in the directory is a spool's.
    pub is_spool: bool,
}

impl Survey {
    /// A file of a later version of the format, and that version.
    #[must_use]
    pub fn newer(&self) -> Option<(&str, u32)> {
        let newer = |file: &File| match file.header {
            Err(Unread::Newer(version)) => Some(version),
            Ok(_) | Err(Unread::Damaged) => None,
        };
        let file = self.files.iter().find_map(|file| newer(file).map(|version| (file.name.as_str(), version)));
        file.or(self.watermark_newer.map(|version| (watermark::NAME, version)))
    }

    /// Everything up to this sequence was delivered, by the watermark of the spool that the newest segment belongs to.
    #[must_use]
    pub fn watermark_sequence(&self) -> u64 {
        let mut known = self.files.iter().filter_map(|file| file.header.ok());
        let slot = self.watermark.filter(|slot| {
            let mut known = known.by_ref().map(|header| header.spool).peekable();
            known.peek().is_none() || known.any(|spool| spool == slot.spool)
        });
        slot.map_or(0, |slot| slot.watermark)
    }
}

/// Looks at every file's header.
///
/// # Errors
/// If the directory cannot be listed, or a file in it may not be opened.
pub fn survey<S: Storage>(storage: &S) -> io::Result<Survey> {
    let mut names = storage.list()?;
    names.sort();
    let is_spool = names.iter().any(|name| segment::kind(name) != Kind::Other || name == watermark::NAME);
    let mut files = Vec::new();
    for name in names {
        let kind = segment::kind(&name);
        if kind == Kind::Other {
            continue;
        }
        match storage.open(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            // What fails in another way is tried again, and then counts as damaged.
            Ok(_) | Err(_) => {}
        }
        let (header, bytes) = match read_header(storage, &name) {
            Ok((header, bytes)) => (Ok(header), bytes),
            Err((unread, bytes)) => (Err(unread), bytes),
        };
        files.push(File { name, kind, header, bytes, end: End::Unknown });
    }
    find_ends(&mut files);
    let slots = read_slots(storage).ok().flatten().map(|(_, slots)| slots);
    let watermark_newer = slots.iter().flatten().find_map(|slot| match slot {
        Err(Unread::Newer(version)) => Some(*version),
        Ok(_) | Err(Unread::Damaged) => None,
    });
    let watermark = slots.into_iter().flatten().flatten().max_by_key(|slot| slot.generation);
    let missing = find_missing(&files);
    Ok(Survey { files, watermark, missing, watermark_newer, is_spool })
}

/// Number of a file that holds frames.
fn number(file: &File) -> Option<u64> {
    match file.kind {
        Kind::Segment(number) | Kind::SetAside(number) => Some(number),
        Kind::Unfinished(_) | Kind::Other => None,
    }
}

/// From the newest to the oldest, as recovery does it: who vouches for a segment is its successor.
fn find_ends(files: &mut [File]) {
    let mut is_newest = true;
    let mut successor: Option<(u64, u64)> = None;
    for file in files.iter_mut().rev() {
        let Some(number) = number(file) else { continue };
        let known = successor.filter(|(predecessor, end)| *predecessor == number && *end > 0);
        let is_attempt = successor.is_some_and(|(predecessor, _)| predecessor < number);
        let may_be_torn = (is_newest || is_attempt) && matches!(file.kind, Kind::Segment(_));
        file.end = match known {
            Some((_, end)) => End::At(end),
            None if may_be_torn => End::Open,
            None => End::Unknown,
        };
        is_newest = false;
        successor = file.header.ok().map(|header| (header.predecessor, header.predecessor_end));
    }
}

/// Delivered segments are removed from the oldest on, so none is missing in the middle; but a rewrite replaces the
/// segment that it repeats.
fn find_missing(files: &[File]) -> Vec<String> {
    let numbers: Vec<u64> = files.iter().filter_map(number).collect();
    let missing = files.iter().filter_map(|file| file.header.ok()).filter(|header| {
        let is_there = numbers.contains(&header.predecessor);
        let is_in_the_middle = numbers.iter().any(|number| *number < header.predecessor);
        !header.rewrite && header.predecessor > 0 && !is_there && is_in_the_middle
    });
    missing.map(|header| segment::name(header.predecessor)).collect()
}

/// What stands in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A frame.
    Frame(Frame),
    /// Bytes that are no frame where there was one; or a sound frame that holds no message.
    Damaged(Stretch),
    /// Bytes at the end of the newest segment that are no frame: a write that was cut off, or is under way.
    Torn(Stretch),
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Position in the file.
    pub position: u64,
    /// How many.
    pub bytes: u64,
    /// Sequences that may be lost are above this one …
    pub after: u64,
    /// … and below this one; `None` if nothing sound follows in the file.
    pub before: Option<u64>,
}

/// Goes through everything in `file`, from the start to the end. Returns whether all of it could be read at all; what
/// could not is shown as damaged, or passed over where it may be blank.
///
/// # Errors
/// If the file cannot be opened.
pub fn read<S: Storage>(storage: &S, file: &File, mut visit: impl FnMut(Content)) -> io::Result<bool> {
    let stored = storage.open(&file.name)?;
    let limit = match file.end {
        End::At(end) => end,
        End::Open | End::Unknown => stored.length()?,
    };
    let source = Lenient::new(&stored);
    let first_sequence = file.header.map_or(0, |header| header.first_sequence);
    let mut walk = Walk::new(FRAMES_START, first_sequence.saturating_sub(1));
    loop {
        let (position, after) = (walk.position(), walk.floor());
        let stretch = |bytes, before| Stretch { position, bytes, after, before };
        match walk.step(&source, limit)? {
            Step::Frame(head, whole) => visit(match head.frame(whole) {
                Some(frame) => Content::Frame(frame),
                None => Content::Damaged(stretch(whole.len() as u64, head.sequence.checked_add(1))),
            }),
            Step::Damaged(range, next) => visit(Content::Damaged(stretch(range.end - range.start, Some(next)))),
            Step::Rest { range, blank } => {
                let stretch = stretch(range.end - range.start, None);
                match (file.end, blank) {
                    (End::At(_), _) | (End::Unknown, false) => visit(Content::Damaged(stretch)),
                    (End::Open, false) => visit(Content::Torn(stretch)),
                    (End::Open | End::Unknown, true) => {}
                }
                return Ok(!source.gave_up());
            }
            Step::End => return Ok(!source.gave_up()),
        }
    }
}
