//! Recovery: from the files in a directory to a ledger, without reading more than it must.
//!
//! It reads every segment's header and scans the newest, and beyond it only those whose content no header vouches
//! for: rewrites, damaged headers and what precedes them. It promises that no file with an unread frame is removed,
//! that nothing but blank space is taken from one, and that every sequence that may be on disk lies below the next one given out. Damage is found, noted
//! and lived with; a newer format version is the one thing it refuses.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use super::fault::OpenError;
use super::frame::SEQUENCE_MAX;
use super::ledger::{END_UNKNOWN, Ledger, Segment};
use super::segment::{self, FRAMES_START, HEADER_BYTES, Header, Id, Kind, Unread};
use super::storage::{Storage, StoredFile, read_fully};
use super::walk::{Lenient, READ_ATTEMPTS_MAX, Source, Step, Strict, Walk};
use super::watermark::{self, WatermarkFile};

/// Reading a header is tried this often before it counts as damaged.
const HEADER_ATTEMPTS: u32 = READ_ATTEMPTS_MAX;

/// So many numbers are left out behind a newest segment that cannot be read in full: its last frames may be readable
/// again one day, and theirs must not have been given to others.
const UNREADABLE_SEQUENCES: u64 = 1 << 32;

/// What was found at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Id of the spool.
    pub spool: Id,
    /// Whether there was no trace of an earlier spool.
    pub created: bool,
    /// Segments with frames that may be undelivered.
    pub segments: usize,
    /// Space they take.
    pub bytes: u64,
    /// Undelivered frames, at most.
    pub frames: u64,
    /// The watermark found; `None` if there was none, or only that of another spool.
    pub watermark: Option<u64>,
    /// The lowest sequence that was never used.
    pub next_sequence: u64,
    /// Bytes behind the last sound frame of the newest segment: a write that was cut off before it was acknowledged.
    pub torn_bytes: u64,
    /// Segments in which something cannot be read, as far as they were scanned.
    pub damaged: Vec<String>,
    /// Segments of another spool. They are not touched.
    pub foreign: Vec<String>,
    /// Damaged segments set aside, now or earlier.
    pub set_aside: u64,
}

/// What recovery hands to the handles.
pub(super) struct Recovered<F> {
    pub(super) ledger: Ledger,
    pub(super) watermark_file: WatermarkFile<F>,
    pub(super) next_number: u64,
    pub(super) report: Recovery,
}

/// Whose spool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The caller's own: what the watermark says was delivered was.
    Own,
    /// That of a bridge which will not come back: better a duplicate than a loss.
    Orphan,
}

/// A segment as found.
struct Found {
    bytes: u64,
    is_set_aside: bool,
    /// `None` if damaged.
    header: Option<Header>,
}

/// What a scan tells of a segment.
struct Scan {
    frames: u64,
    last: u64,
    /// Behind the last sound frame; or as far as there may be any, if some of it could not be read at all.
    end: u64,
    /// Length of the file.
    length: u64,
    damaged: bool,
    unreadable: bool,
    /// Bytes behind the end that are neither blank nor a frame.
    rest_bytes: u64,
}

/// Scans a segment up to its end, if that is known, or the end of the file. An error may pass, so it is tried again; then what cannot be read is
/// passed over.
fn scan<S: Storage>(storage: &S, name: &str, floor: u64, known_end: Option<u64>) -> Scan {
    for attempt in 1..=READ_ATTEMPTS_MAX {
        let Ok((file, length)) = storage.open(name).and_then(|file| file.length().map(|length| (file, length))) else {
            continue;
        };
        // After the death of a process alone, its last write may stand in the page cache only. It is made durable
        // before anybody acts on it, or a power cut would take it back and its sequence be given out again.
        if attempt < READ_ATTEMPTS_MAX && file.sync_data().is_err() {
            continue;
        }
        let limit = known_end.unwrap_or(length);
        if let Ok(scan) = scan_file(&Strict(&file), floor, limit) {
            return Scan { length, ..scan };
        }
        let source = Lenient::new(&file);
        if attempt == READ_ATTEMPTS_MAX
            && let Ok(scan) = scan_file(&source, floor, limit)
        {
            let unreadable = source.gave_up();
            let end = if unreadable { known_end.unwrap_or(END_UNKNOWN) } else { scan.end };
            return Scan { length, unreadable, end, damaged: scan.damaged || unreadable, ..scan };
        }
    }
    let end = known_end.unwrap_or(END_UNKNOWN);
    Scan { frames: 0, last: floor, end, length: 0, damaged: true, unreadable: true, rest_bytes: 0 }
}

fn scan_file(source: &impl Source, floor: u64, limit: u64) -> io::Result<Scan> {
    let mut walk = Walk::new(FRAMES_START, floor);
    let (end, length) = (FRAMES_START, 0);
    let mut scan = Scan { frames: 0, last: floor, end, length, damaged: false, unreadable: false, rest_bytes: 0 };
    loop {
        match walk.step(source, limit)? {
            Step::Frame(head, whole) => {
                scan.frames += 1;
                scan.last = head.sequence;
                scan.damaged |= head.frame(whole).is_none();
                scan.end = walk.position();
            }
            Step::Damaged(..) => scan.damaged = true,
            Step::Rest { range, blank } => {
                scan.rest_bytes = if blank { 0 } else { range.end - range.start };
                return Ok(scan);
            }
            Step::End => return Ok(scan),
        }
    }
}

/// Builds the ledger of the spool in `storage`, whose lock is held. A spool without any trace gets the id `fresh`.
pub(super) fn recover<S: Storage>(storage: &S, fresh: Id, origin: Origin) -> Result<Recovered<S::File>, OpenError> {
    let names = storage.list().map_err(OpenError::Directory)?;
    let (watermark_file, slot) = WatermarkFile::load(storage)
        .map_err(|version| OpenError::Newer { file: watermark::NAME.to_owned(), version })?;
    // Whether each was set aside; where both are there, the segment counts.
    let mut numbers = BTreeMap::new();
    let (mut set_aside, mut highest) = (0, 0);
    for name in &names {
        highest = highest.max(match segment::kind(name) {
            Kind::Segment(number) => {
                numbers.insert(number, false);
                number
            }
            // Never held a frame. If it cannot be removed, its number is left alone all the same.
            Kind::Unfinished(number) => {
                storage.unlink(name).ok();
                number
            }
            Kind::SetAside(number) => {
                set_aside += 1;
                if origin == Origin::Orphan {
                    numbers.entry(number).or_insert(true);
                }
                number
            }
            Kind::Other => 0,
        });
    }
    let mut found = read_headers(storage, numbers)?;
    let mut known = found.values().filter_map(|segment| segment.header.map(|header| header.spool));
    // The watermark's spool, if a segment belongs to it as well; else that of the newest segment: a watermark file
    // that fits none of the segments was put there by mistake.
    let spool = match slot {
        Some(slot) if found.is_empty() || known.clone().any(|spool| spool == slot.spool) => slot.spool,
        Some(_) | None => known.next_back().or(slot.map(|slot| slot.spool)).unwrap_or(fresh),
    };
    let slot = slot.filter(|slot| slot.spool == spool);
    let is_foreign = |segment: &Found| segment.header.is_some_and(|header| header.spool != spool);
    let foreign = found
        .iter()
        .filter(|(_, found)| is_foreign(found))
        .map(|(number, found)| segment::stored_name(*number, found.is_set_aside))
        .collect();
    found.retain(|_, segment| !is_foreign(segment));
    let created = found.is_empty() && slot.is_none();
    let mark = slot.map_or(0, |slot| slot.watermark);
    let watermark = if origin == Origin::Orphan { 0 } else { mark };
    let mut ledger = Ledger { watermark, set_aside, found: mark, ..Ledger::default() };
    let torn_bytes = enter(storage, &found, &mut ledger);
    let last = ledger.segments.values().map(|segment| segment.last_bound.max(segment.first_sequence.saturating_sub(1)));
    ledger.last_sequence = last.max().unwrap_or(0).max(mark).max(ledger.last_sequence);
    let damaged =
        ledger.segments.iter().filter(|(_, segment)| segment.damaged).map(|(number, segment)| segment.name(*number));
    let report = Recovery {
        spool,
        created,
        segments: 0,
        bytes: 0,
        frames: 0,
        watermark: slot.map(|slot| slot.watermark),
        next_sequence: ledger.last_sequence.saturating_add(1),
        torn_bytes,
        damaged: damaged.collect(),
        foreign,
        set_aside: 0,
    };
    verify_delivered(storage, &mut ledger);
    Ok(Recovered { ledger, watermark_file, next_number: highest.saturating_add(1), report })
}

fn read_headers<S: Storage>(storage: &S, numbers: BTreeMap<u64, bool>) -> Result<BTreeMap<u64, Found>, OpenError> {
    let mut found = BTreeMap::new();
    for (number, is_set_aside) in numbers {
        let name = segment::stored_name(number, is_set_aside);
        let (header, bytes) = match read_header(storage, &name) {
            Ok((header, bytes)) => (Some(header), bytes),
            Err((Unread::Damaged, bytes)) => (None, bytes),
            Err((Unread::Newer(version), _)) => return Err(OpenError::Newer { file: name, version }),
        };
        found.insert(number, Found { bytes, is_set_aside, header });
    }
    Ok(found)
}

/// The header of a segment, and the length of the file as far as it is known.
pub(super) fn read_header<S: Storage>(storage: &S, name: &str) -> Result<(Header, u64), (Unread, u64)> {
    let mut outcome = Err((Unread::Damaged, 0));
    for _ in 0..HEADER_ATTEMPTS {
        let read = storage.open(name).and_then(|file| Ok((read_fully(&file, 0, HEADER_BYTES)?, file.length()?)));
        match read {
            Ok((bytes, length)) => {
                let decoded = Header::decode(&bytes);
                let decoded = if decoded.is_ok_and(|header| header.first_sequence > SEQUENCE_MAX) {
                    Err(Unread::Damaged)
                } else {
                    decoded
                };
                outcome = decoded.map(|header| (header, length)).map_err(|unread| (unread, length));
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(_) => {}
        }
    }
    outcome
}

/// Enters the segments into the ledger, from the newest to the oldest; returns the torn bytes of the newest.
fn enter<S: Storage>(storage: &S, found: &BTreeMap<u64, Found>, ledger: &mut Ledger) -> u64 {
    let mut torn_bytes = 0;
    // The first sequence of the nearest later segment that begins above everything before it.
    let mut bound: Option<u64> = None;
    // Where the nearest later header says that its predecessor ends, and which that is.
    let mut successor: Option<(u64, u64)> = None;
    for (number, segment) in found.iter().rev() {
        let newest = ledger.segments.is_empty();
        // Between a segment and its successor stand only attempts that came to nothing: a torn end there is none.
        let attempt = successor.is_some_and(|(predecessor, _)| predecessor < *number);
        let known_end = successor.filter(|(predecessor, end)| predecessor == number && *end > 0).map(|(_, end)| end);
        let first_sequence = segment.header.map_or(0, |header| header.first_sequence);
        let is_set_aside = segment.is_set_aside;
        let vouched = segment.header.and(bound.zip(known_end));
        let entry = if let Some((bound, end)) = vouched {
            let frames_max = bound.saturating_sub(first_sequence);
            let last_bound = if frames_max > 0 { bound.saturating_sub(1) } else { 0 };
            Segment {
                first_sequence,
                last_bound,
                frames_max,
                bytes: segment.bytes,
                end,
                damaged: false,
                is_set_aside,
                reported_to: 0,
            }
        } else {
            let floor = first_sequence.saturating_sub(1);
            let scan = scan(storage, &segment::stored_name(*number, is_set_aside), floor, known_end);
            if scan.unreadable {
                ledger.last_sequence = ledger.last_sequence.max(scan.last.saturating_add(UNREADABLE_SEQUENCES));
            }
            let torn = scan.rest_bytes > 0 && known_end.is_none();
            if newest {
                torn_bytes = if torn { scan.rest_bytes } else { 0 };
            }
            let damaged = segment.header.is_none() || scan.damaged || (torn && !newest && !attempt);
            let end = known_end.unwrap_or(scan.end);
            // What could not be read may be readable for the drain, which tries again; until then nobody can tell
            // what is in there, and so it is not delivered.
            let last_bound = match (scan.unreadable, scan.frames) {
                (true, _) => {
                    bound.map_or(scan.last.saturating_add(UNREADABLE_SEQUENCES), |bound| bound.saturating_sub(1))
                }
                (false, 0) => 0,
                (false, _) => scan.last,
            };
            let frames_max = if scan.unreadable { UNREADABLE_SEQUENCES } else { scan.frames };
            // Nothing is appended to it any more: without this, every restart would cost a whole segment.
            let is_sound = newest && !is_set_aside && segment.header.is_some() && !scan.damaged && scan.rest_bytes == 0;
            let shortened = is_sound && scan.length > end && shorten(storage, &segment::name(*number), end).is_ok();
            let bytes = if shortened { end } else { scan.length.max(segment.bytes) };
            Segment { first_sequence, last_bound, frames_max, bytes, end, damaged, is_set_aside, reported_to: 0 }
        };
        ledger.segments.insert(*number, entry);
        if let Some(header) = segment.header {
            bound = if header.rewrite { bound } else { Some(header.first_sequence) };
            successor = Some((header.predecessor, header.predecessor_end));
        } else {
            // What precedes a damaged header has nobody to vouch for it.
            (bound, successor) = (None, None);
        }
    }
    torn_bytes
}

/// Gives back the blank space behind the frames of a segment.
fn shorten<S: Storage>(storage: &S, name: &str, end: u64) -> io::Result<()> {
    storage.open_writable(name)?.shorten(end)
}

/// Looks through the segments that the watermark says are delivered, before they are removed: what was damaged is
/// still to be set aside, and a crash may have come between the watermark and that.
fn verify_delivered<S: Storage>(storage: &S, ledger: &mut Ledger) {
    let mark = ledger.watermark;
    for (number, segment) in ledger.segments.iter_mut().take_while(|(_, segment)| segment.last_bound <= mark) {
        let scan = scan(storage, &segment.name(*number), segment.first_sequence.saturating_sub(1), Some(segment.end));
        segment.damaged |= scan.damaged || scan.end < segment.end;
    }
}
