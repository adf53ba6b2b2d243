//! Looking at a spool without owning it: for commands that list, verify and show, also while a bridge is running.
//!
//! Nothing here locks, writes or heeds the watermark. What is being written meanwhile may look torn.

use std::io;

use super::frame::Frame;
use super::recovery::read_header;
use super::segment::{self, FRAMES_START, Header, Kind, Unread};
use super::storage::{Storage, StoredFile};
use super::walk::{Lenient, Step, Walk};
use super::watermark::{Slot, read_slots};

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
}

/// A spool directory at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Segments, unfinished ones and those set aside, by name.
    pub files: Vec<File>,
    /// The newest sound slot of the watermark file.
    pub watermark: Option<Slot>,
}

/// Looks at every file's header.
///
/// # Errors
/// If the directory cannot be listed.
pub fn survey<S: Storage>(storage: &S) -> io::Result<Survey> {
    let mut names = storage.list()?;
    names.sort();
    let mut files = Vec::new();
    for name in names {
        let kind = segment::kind(&name);
        if kind == Kind::Other {
            continue;
        }
        let (header, bytes) = match read_header(storage, &name) {
            Ok((header, bytes)) => (Ok(header), bytes),
            Err((unread, bytes)) => (Err(unread), bytes),
        };
        files.push(File { name, kind, header, bytes });
    }
    let slots = read_slots(storage).ok().flatten().map(|(_, slots)| slots);
    let watermark = slots.into_iter().flatten().flatten().max_by_key(|slot| slot.generation);
    Ok(Survey { files, watermark })
}

/// What stands in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A frame.
    Frame(Frame),
    /// Bytes that are no frame, with a sound frame behind them; or a sound frame that holds no message.
    Damaged {
        /// Position in the file.
        position: u64,
        /// How many.
        bytes: u64,
    },
    /// Bytes at the end that are no frame: a torn tail, if the segment was the newest at a crash; else damage.
    Torn {
        /// Position in the file.
        position: u64,
        /// How many.
        bytes: u64,
    },
}

/// Goes through everything in the file called `name`, from the start to the end, whatever its header says.
///
/// # Errors
/// If the file cannot be opened; what cannot be read in it is shown as damaged.
pub fn read_segment<S: Storage>(storage: &S, name: &str, mut visit: impl FnMut(Content)) -> io::Result<()> {
    let file = storage.open(name)?;
    let limit = file.length()?;
    let source = Lenient::new(&file);
    let mut walk = Walk::new(FRAMES_START, 0);
    loop {
        let position = walk.position();
        match walk.step(&source, limit)? {
            Step::Frame(head, whole) => visit(match head.frame(whole) {
                Some(frame) => Content::Frame(frame),
                None => Content::Damaged { position, bytes: whole.len() as u64 },
            }),
            Step::Damaged(range, _) => visit(Content::Damaged { position, bytes: range.end - range.start }),
            Step::Rest { range, blank: false } => visit(Content::Torn { position, bytes: range.end - range.start }),
            Step::Rest { blank: true, .. } | Step::End => return Ok(()),
        }
    }
}
