//! A directory of segments, damaged → opened, read, committed, opened again.
//!
//! Promise: whatever stands in the files, the spool opens, reading comes to an end, and every frame that is handed out
//! was appended. Damage costs the frames that it hit: every other one is handed out, in order.
//!
//! An input says how many frames there are and what is done to the files, eight bytes a deed.

use std::collections::{BTreeMap, BTreeSet};

use recording_bridge::spool::inspect::{self, Content};
use recording_bridge::spool::segment::{HEADER_BYTES, Header};
use recording_bridge::spool::{Frame, Spool, watermark};

use super::faulty_storage::FaultyStorage;
use super::spool::{frame, small};

/// So many deeds are done at most.
const DEEDS_MAX: usize = 16;

/// Where each frame stands, and what was done to the files.
struct Scene {
    storage: FaultyStorage,
    frames: BTreeMap<u64, Frame>,
    /// File and place of every copy of a frame as it was written.
    places: Vec<(String, std::ops::Range<usize>, u64)>,
    /// Everything up to here was committed.
    committed: u64,
    /// Headers that hold and say something else: whoever writes those could as well remove the files.
    is_forged: bool,
}

/// See the module.
pub fn run(input: &[u8]) {
    let [frames, batch, sizes, committed, deeds @ ..] = input else { return };
    let mut scene = Scene::new(u64::from(frames % 24), u64::from(batch % 4) + 1, *sizes, u64::from(*committed % 24));
    for deed in deeds.chunks_exact(8).take(DEEDS_MAX) {
        scene.commit_deed(deed.try_into().expect("eight bytes"));
    }
    scene.look();
    scene.drain();
}

impl Scene {
    /// A spool whose process has ended in good order.
    fn new(count: u64, batch: u64, sizes: u8, committed: u64) -> Self {
        let storage = FaultyStorage::new(1);
        let mut spool = Spool::open(storage.clone(), small(1)).expect("the disk is sound");
        let frames: BTreeMap<u64, Frame> = (1..=count)
            .map(|sequence| (sequence, frame(sequence, 7, usize::from(sizes) * (1 + sequence as usize % 3) % 300)))
            .collect();
        let all: Vec<Frame> = frames.values().cloned().collect();
        for batch in all.chunks(usize::try_from(batch).unwrap_or(1)) {
            assert!(spool.writer.append_batch(batch).is_ok(), "there is room");
        }
        let committed = spool.drain.commit(committed).watermark;
        drop(spool);
        let mut scene = Self { storage, frames, places: Vec::new(), committed, is_forged: false };
        for name in scene.segments() {
            let bytes = scene.storage.get(&name);
            let mut at = HEADER_BYTES;
            while let Some((frame, length)) = Frame::decode(bytes.get(at..).unwrap_or_default()) {
                scene.places.push((name.clone(), at..at + length, frame.sequence));
                at += length;
            }
        }
        scene
    }

    fn segments(&self) -> Vec<String> {
        self.storage.names().into_iter().filter(|name| name.ends_with(".segment")).collect()
    }

    /// Does what eight bytes say to one of the files.
    fn commit_deed(&mut self, [kind, file, a, b, c, d, e, f]: [u8; 8]) {
        let names = self.storage.names();
        let Some(name) = names.get(usize::from(file) % names.len().max(1)).cloned() else { return };
        let length = self.storage.get(&name).len();
        let place = usize::from(u16::from_le_bytes([a, b])) % length.max(1);
        let count = usize::from(c) + 1;
        let end = (place + count).min(length);
        let is_segment = name.ends_with(".segment");
        match kind % 8 {
            0 => self.damage(&name, place..(place + 1).min(length), |byte| *byte ^= d.max(1)),
            1 => self.damage(&name, place..end, |byte| *byte = 0),
            2 => self.damage(&name, place..end, |byte| *byte = byte.wrapping_mul(d | 1).wrapping_add(e | 1)),
            3 => {
                self.storage.edit(&name, |bytes| bytes.truncate(place));
                self.forget(&name, place..length);
            }
            4 if self.segments().last() != Some(&name) || !is_segment => {
                self.storage.remove(&name);
                self.forget(&name, 0..length);
            }
            // A frame that begins anew and does not end: its length is a lie.
            5 => {
                let bytes = [&[0xF5, b'f', b'r', b'm', c, d, e, f % 32][..]].concat();
                self.overwrite(&name, place, &bytes);
            }
            // Whole frames elsewhere: of this spool, so they are known.
            6 => {
                let from = self.places.get(usize::from(d) % self.places.len().max(1)).cloned();
                if let Some((source, range, _)) = from {
                    let bytes = self.storage.get(&source).get(range).map(<[u8]>::to_vec).unwrap_or_default();
                    self.overwrite(&name, place, &bytes);
                    self.is_forged = true;
                }
            }
            7 if is_segment => {
                let Ok(header) = Header::decode(&self.storage.get(&name)) else { return };
                let forged = Header {
                    first_sequence: u64::from(c).rotate_left(u32::from(d)),
                    predecessor: u64::from(a % 8),
                    predecessor_end: u64::from(b).rotate_left(u32::from(e)),
                    rewrite: f & 1 == 1,
                    ..header
                };
                self.storage.edit(&name, |bytes| bytes[..HEADER_BYTES].copy_from_slice(&forged.encode()));
                self.is_forged = true;
            }
            _ => {}
        }
    }

    fn damage(&mut self, name: &str, range: std::ops::Range<usize>, damage: impl Fn(&mut u8)) {
        self.storage.edit(name, |bytes| bytes[range.clone()].iter_mut().for_each(&damage));
        self.forget(name, range);
    }

    fn overwrite(&mut self, name: &str, place: usize, bytes: &[u8]) {
        self.storage.edit(name, |file| {
            let end = (place + bytes.len()).min(file.len());
            file[place..end].copy_from_slice(&bytes[..end - place]);
        });
        self.forget(name, place..place + bytes.len());
    }

    /// Nobody has to find again what stood there.
    fn forget(&mut self, name: &str, range: std::ops::Range<usize>) {
        self.places.retain(|(file, frame, _)| file != name || frame.end <= range.start || range.end <= frame.start);
    }

    /// Sequences that must be handed out.
    fn wanted(&self) -> BTreeSet<u64> {
        if self.is_forged {
            return BTreeSet::new();
        }
        self.places.iter().map(|(.., sequence)| *sequence).filter(|sequence| *sequence > self.committed).collect()
    }

    fn check(&self, frame: &Frame) {
        assert_eq!(self.frames.get(&frame.sequence), Some(frame), "it was never appended");
    }

    /// As commands look that do not own the spool.
    fn look(&self) {
        let survey = inspect::survey(&self.storage).expect("the disk is sound");
        let mut found = BTreeSet::new();
        for file in &survey.files {
            let is_whole = inspect::read(&self.storage, file, |content| {
                if let Content::Frame(frame) = content {
                    self.check(&frame);
                    found.insert(frame.sequence);
                }
            });
            assert!(is_whole.expect("the file is there"));
        }
        let missed: Vec<u64> = self.wanted().difference(&found).copied().collect();
        assert!(missed.is_empty(), "frames {missed:?} are not shown");
    }

    /// As the next process does, and the one after that.
    fn drain(&self) {
        let mut spool = Spool::open(self.storage.clone(), small(2)).expect("damage is no reason to stay closed");
        let mut position = spool.monitor.status().watermark;
        assert!(position <= self.committed || self.is_forged, "{position} was never committed");
        let mut found = BTreeSet::new();
        let mut is_over = false;
        // Each reading hands out a frame, or is the last.
        for _ in 0..=self.frames.len() + 1 {
            let read = spool.drain.read(position, 1).expect("the disk is sound");
            for frame in &read.frames {
                self.check(frame);
                assert!(frame.sequence > position, "{} after {position}", frame.sequence);
                position = frame.sequence;
                found.insert(position);
            }
            is_over = read.frames.is_empty();
            if is_over {
                assert!(read.at_end);
                break;
            }
        }
        assert!(is_over, "reading does not come to an end");
        let missed: Vec<u64> = self.wanted().difference(&found).copied().collect();
        assert!(missed.is_empty(), "frames {missed:?} are lost");
        assert!(spool.recovery.next_sequence > position, "a sequence would be used again");
        // There may be no room for another segment, and a forged header may have used up the numbers.
        let next = spool.recovery.next_sequence;
        let appended = next < 1 << 40 && spool.writer.append_batch(&[frame(next, 9, 20)]).is_ok();
        spool.drain.commit(position);
        drop(spool);
        let mut spool = Spool::open(self.storage.clone(), small(3)).expect("it was opened before");
        let read = spool.drain.read(spool.monitor.status().watermark, usize::MAX).expect("the disk is sound");
        let left: Vec<u64> = read.frames.iter().map(|frame| frame.sequence).collect();
        if !self.is_forged {
            assert_eq!(left, if appended { vec![next] } else { Vec::new() }, "after a commit");
        }
        assert!(self.storage.names().contains(&watermark::NAME.to_owned()));
    }
}
