//! `spool list`, `verify` and `show`.
//!
//! Promise: an operator with a directory in hand learns what is in it and what is damaged, to the byte; a bridge that
//! uses it is not disturbed; and whatever the directory holds, the answer is a sentence and an exit code.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use recording_bridge::message::Message;
use recording_bridge::spool::{Directory, Frame, Spool, segment};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, plain};
use crate::support::command::{Ended, Setup, run_arguments};
use crate::support::spool::{frame, small, write};
use crate::support::wait_for;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";
/// Of a frame made by [`write`].
const FRAME_BYTES: u64 = 557;

fn spool(command: &str, directory: &Path, more: &[&str]) -> Ended {
    run_arguments(&[&["spool", command, "--dir", directory.to_str().unwrap()], more].concat())
}

fn segment_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(segment::name(number))
}

/// Changes one bit of the byte at `position`.
fn flip(file: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

/// Twenty frames in segments of seven, five of them delivered, and one dead letter.
fn twenty() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = write(folder.path(), 20);
    assert_eq!(spool.drain.read(0, usize::MAX).unwrap().frames.len(), 20);
    assert_eq!(spool.drain.commit(5).watermark, 5);
    drop(write(&folder.path().join("dead-letters"), 1));
    folder
}

#[test]
fn list_is_a_table_of_the_spool_and_of_its_dead_letters() {
    let folder = twenty();
    let ended = spool("list", folder.path(), &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ended.stdout,
        "SPOOL         SEGMENTS  FRAMES  OLDEST                       BYTES  SEQUENCES  DAMAGED  KEPT ASIDE  STATE\n\
         events        3         15      2023-11-14T22:13:20.000006Z  12288  6-20       0        0           \
         not seen in use\n\
         dead-letters  1         1       2023-11-14T22:13:20.000001Z  4096   1-1        0        0           \
         not seen in use\n"
    );
}

#[test]
fn list_as_json_names_every_file() {
    let folder = twenty();
    flip(&segment_of(folder.path(), 2), 128 + FRAME_BYTES + 100);
    fs::write(folder.path().join("0000000000000004.unfinished"), b"").unwrap();
    let ended = spool("list", folder.path(), &["--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let listed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let file = |name: &str, kind, frames: u64, first: u64, last: u64, damaged| {
        json!({ "name": name, "kind": kind, "bytes": 4096, "frames": frames, "first_sequence": first,
            "last_sequence": last, "damaged": damaged, "torn_bytes": 0 })
    };
    let unfinished = json!({ "name": "0000000000000004.unfinished", "kind": "unfinished", "bytes": 0, "frames": 0,
        "first_sequence": null, "last_sequence": null, "damaged": 0, "torn_bytes": 0 });
    let events = json!({
        "directory": folder.path(), "segments": 3, "frames": 14, "oldest": "2023-11-14T22:13:20.000006Z",
        "bytes": 12288, "first_sequence": 6, "last_sequence": 20, "watermark": 5, "damaged": 1, "kept_aside": 0,
        "missing_files": [], "state": "not_seen_in_use", "holder": null,
        "files": [
            file("0000000000000001.segment", "segment", 7, 1, 7, 0),
            file("0000000000000002.segment", "segment", 6, 8, 14, 1),
            file("0000000000000003.segment", "segment", 6, 15, 20, 0),
            unfinished,
        ],
    });
    assert_eq!(listed["events"], events);
    assert_eq!(listed["dead_letters"]["frames"], 1);
}

#[test]
fn verify_names_file_byte_and_sequence_of_a_flipped_bit_in_a_sealed_segment() {
    let folder = twenty();
    let whole = spool("verify", folder.path(), &[]);
    assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""));
    let shown = folder.path().display();
    assert_eq!(
        whole.stdout,
        format!(
            "ok       {shown}: 3 segment(s), 0 kept aside, 20 sound frame(s), 0 damaged place(s)\n\
             ok       {shown}/dead-letters: 1 segment(s), 0 kept aside, 1 sound frame(s), 0 damaged place(s)\n"
        )
    );
    // The third frame of the second segment is the tenth of all.
    flip(&segment_of(folder.path(), 2), 128 + 2 * FRAME_BYTES + 300);
    let damaged = spool("verify", folder.path(), &[]);
    assert_eq!((damaged.code, damaged.stderr.as_str()), (Some(1), "recording-bridge: damage in 1 place\n"));
    assert_eq!(
        damaged.stdout,
        format!(
            "DAMAGED  {shown}/0000000000000002.segment: at byte 1242, 557 bytes: sequence 10 is missing\n\
             DAMAGED  {shown}: 3 segment(s), 0 kept aside, 19 sound frame(s), 1 damaged place(s)\n\
             ok       {shown}/dead-letters: 1 segment(s), 0 kept aside, 1 sound frame(s), 0 damaged place(s)\n"
        )
    );
}

#[test]
fn verify_knows_a_torn_tail_from_damage_at_the_end_of_a_sealed_segment() {
    let folder = twenty();
    let shown = folder.path().display();
    // Six frames stand in the last one; the seventh was cut off.
    let end = 128 + 6 * FRAME_BYTES;
    let last = OpenOptions::new().write(true).open(segment_of(folder.path(), 3)).unwrap();
    last.write_all_at(b"\xF5frm torn", end).unwrap();
    let torn = spool("verify", folder.path(), &[]);
    assert_eq!((torn.code, torn.stderr.as_str()), (Some(0), ""), "{}", torn.stdout);
    let note = format!(
        "note     {shown}/0000000000000003.segment: at byte {end}, 626 bytes: a torn tail, taken for a write \
         that was cut off before it was acknowledged"
    );
    assert_eq!(torn.stdout.lines().next(), Some(note.as_str()));
    // Zeros where the third segment says that frames of the second were synced.
    let sealed = OpenOptions::new().write(true).open(segment_of(folder.path(), 2)).unwrap();
    sealed.write_all_at(&[0; 557], end).unwrap();
    let damaged = spool("verify", folder.path(), &[]);
    assert_eq!(damaged.code, Some(1));
    assert!(
        damaged.has(
            "DAMAGED",
            &format!("0000000000000002.segment: at byte {end}, 557 bytes: sequences from 14 on may be missing")
        ),
        "{}",
        damaged.stdout
    );
}

#[test]
fn verify_misses_no_damaged_header_no_missing_file_and_no_file_kept_aside() {
    let folder = twenty();
    flip(&segment_of(folder.path(), 2), 60);
    let header = spool("verify", folder.path(), &[]);
    assert!(header.code == Some(1) && header.has("DAMAGED", "0000000000000002.segment: at byte 0: the header"));
    fs::remove_file(segment_of(folder.path(), 2)).unwrap();
    let missing = spool("verify", folder.path(), &[]);
    assert_eq!(missing.code, Some(1), "{}", missing.stdout);
    assert!(missing.has("DAMAGED", "0000000000000002.segment: the file is missing"), "{}", missing.stdout);

    let folder = twenty();
    flip(&segment_of(folder.path(), 1), 200);
    fs::rename(segment_of(folder.path(), 1), folder.path().join("0000000000000001.damaged")).unwrap();
    let kept = spool("verify", folder.path(), &[]);
    assert_eq!(kept.code, Some(1));
    assert!(kept.has("DAMAGED", "0000000000000001.damaged: at byte 128, 557 bytes: sequence 1 is missing"));
    assert!(kept.has("DAMAGED", "2 segment(s), 1 kept aside, 19 sound frame(s), 1 damaged place(s)"));
}

#[test]
fn show_prints_frames_as_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = write(folder.path(), 8);
    let strange =
        Message::from_parts(Bytes::from_static(b"k\xFF"), Bytes::from_static(b"no JSON \"here\""), Vec::new());
    let strange = Frame { message: strange, ..frame(9, 1, 0) };
    let pretty = Message::from_parts(Bytes::from_static(b"k"), Bytes::from_static(b"{\n\"a\": 1\n}"), Vec::new());
    let pretty = Frame { message: pretty, ..frame(10, 1, 0) };
    assert!(made.writer.append_batch(&[strange, pretty]).unwrap().covers(9));
    made.drain.commit(1);
    drop(made);
    let all = spool("show", folder.path(), &["--all"]);
    assert_eq!((all.code, all.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = all.stdout.lines().collect();
    assert_eq!(lines.len(), 10);
    assert_eq!(
        lines[0],
        r#"{"sequence":1,"accepted_at":"2023-11-14T22:13:20.000001Z","key":"stream","headers":{"ce_id":"1"},"value":{"sequence":1,"salt":1},"delivered":true,"file":"0000000000000001.segment"}"#
    );
    assert_eq!(
        lines[8],
        r#"{"sequence":9,"accepted_at":"2023-11-14T22:13:20.000009Z","key":"k�","headers":{},"value":"no JSON \"here\"","delivered":false,"file":"0000000000000002.segment"}"#
    );
    assert!(lines[9].contains(r#""value":{"a":1},"#), "{}", lines[9]);
    let numbers: Vec<u64> = all.json_lines().iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<u64>>());

    let some = spool("show", folder.path(), &["--limit", "3"]);
    assert_eq!((some.code, some.stdout.lines().count()), (Some(0), 3));
    assert_eq!(some.stderr, "only the first 3 frames are shown; --all shows every one, --limit N more\n");
    let exactly = spool("show", folder.path(), &["--limit", "10"]);
    assert_eq!((exactly.stderr.as_str(), exactly.stdout.lines().count()), ("", 10));

    let letters = spool("show", folder.path(), &["--dead-letters"]);
    assert_eq!((letters.code, letters.stdout.as_str()), (Some(0), ""));
    assert!(letters.stderr.contains("nothing to show"), "{}", letters.stderr);
    let folder = twenty();
    let letters = spool("show", folder.path(), &["--dead-letters"]);
    assert_eq!((letters.code, letters.stdout.lines().count()), (Some(0), 1));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Spool::open(
        Directory::at(folder.path()),
        recording_bridge::spool::Config { bytes_max: 1 << 30, segment_bytes: 1 << 20, ..small(7) },
    )
    .unwrap();
    let frames: Vec<Frame> = (1..=1000).map(|sequence| frame(sequence, 1, 500)).collect();
    assert!(made.writer.append_batch(&frames).unwrap().covers(1));
    drop(made);
    let mut child = Command::new(env!("CARGO_BIN_EXE_recording-bridge"))
        .args(["spool", "show", "--all", "--dir", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More is to come than a pipe holds.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// What a command has to answer about a directory: its exit code and a part of what it says.
type Expected = (i32, &'static str);

/// Runs `list`, `verify`, `show` and `drain` on `directory` in this order.
#[track_caller]
fn expect(setup: &Setup, directory: &Path, expected: [Expected; 4]) {
    for (command, (code, sentence)) in ["list", "verify", "show", "drain"].into_iter().zip(expected) {
        let config = setup.config().to_str().unwrap();
        let more: &[&str] = if command == "drain" { &["--config", config, "--give-up-after", "1"] } else { &[] };
        let ended = spool(command, directory, more);
        let said = format!("{command}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(code), "{said}");
        assert!(said.contains(sentence) && !said.contains("panicked"), "{said}, where {sentence} was expected");
    }
}

#[test]
fn whatever_the_directory_is_the_answer_is_a_sentence_and_an_exit_code() {
    let setup = Setup::new(&plain(NOWHERE, "none"), "");
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);

    let there_is_none = "there is no directory";
    expect(&setup, &place("absent"), [(1, there_is_none), (2, there_is_none), (1, there_is_none), (1, there_is_none)]);
    assert!(!place("absent").exists());

    fs::write(place("file"), "").unwrap();
    let is_none = "is no directory";
    expect(&setup, &place("file"), [(1, is_none), (2, is_none), (1, is_none), (1, is_none)]);

    fs::create_dir_all(place("empty/lost+found")).unwrap();
    let empty = "is empty: no spool was begun here";
    expect(&setup, &place("empty"), [(0, empty), (0, empty), (0, "nothing to show"), (1, "nothing to publish")]);
    assert_eq!(fs::read_dir(place("empty")).unwrap().count(), 1);

    fs::create_dir(place("strange")).unwrap();
    fs::write(place("strange/letter.txt"), "").unwrap();
    let no_spool = "is no spool: it has 1 entries, and none is a spool's";
    expect(&setup, &place("strange"), [(1, no_spool), (2, no_spool), (1, no_spool), (1, no_spool)]);
    assert_eq!(fs::read_dir(place("strange")).unwrap().count(), 1);

    // Killed while it began its first segment: a file without a header, under its temporary name.
    fs::create_dir(place("half")).unwrap();
    fs::write(place("half/0000000000000001.unfinished"), "").unwrap();
    let half = "begun and never finished; no frame was ever written to it";
    expect(&setup, &place("half"), [(0, "events"), (0, half), (0, ""), (0, "0 events published")]);

    // Not even that: an empty file under its final name, which only damage can make.
    fs::create_dir(place("blank")).unwrap();
    fs::write(place("blank/0000000000000001.segment"), "").unwrap();
    let header = "0000000000000001.segment: at byte 0: the header";
    expect(&setup, &place("blank"), [(0, "1"), (1, header), (0, ""), (1, "1 damaged file(s) are left")]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let setup = Setup::new(&plain(NOWHERE, "none"), "");
    let newer = |file: &Path, length: usize| {
        let mut bytes = fs::read(file).unwrap();
        bytes[8] = 2;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..length]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        fs::write(file, bytes).unwrap();
    };
    for (name, length) in [("0000000000000002.segment", 128), ("watermark", 64), ("dead-letters/watermark", 64)] {
        let folder = twenty();
        newer(&folder.path().join(name), length);
        let refused: &'static str = "is written in format version 2, which this program does not know";
        let show = if name.starts_with("dead-letters") { (0, "sequence") } else { (1, refused) };
        expect(&setup, folder.path(), [(1, refused), (2, refused), show, (1, refused)]);
    }
}

#[test]
fn a_command_needs_to_know_where_to_look() {
    for command in ["list", "verify", "show", "drain"] {
        assert_eq!(run_arguments(&["spool", command]).code, Some(64));
        let help = run_arguments(&["spool", command, "--help"]);
        assert!(help.code == Some(0) && help.stdout.contains("--dir <PATH>"), "{}", help.stdout);
    }
    let setup = Setup::new(&plain(NOWHERE, "none"), "spool: {directory: elsewhere}");
    let config = setup.config().to_str().unwrap();
    let ended = run_arguments(&["spool", "list", "--config", config]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/elsewhere"), "{}", ended.stderr);
    // The configuration of `Setup` has no spool of its own.
    let setup = Setup::new(&plain(NOWHERE, "none"), "");
    let ended = run_arguments(&["spool", "drain", "--config", setup.config().to_str().unwrap()]);
    assert!(ended.code == Some(64) && ended.stderr.contains("--dir"), "{}", ended.stderr);
}

/// The process that `sentence` says uses the directory.
fn holder(sentence: &str) -> Option<u32> {
    let rest = sentence.split("in use by process ").nth(1)?;
    rest.contains("(recording-bridge)").then(|| rest.split(' ').next()?.parse().ok())?
}

#[test]
fn beside_a_running_bridge_list_looks_and_everything_else_is_refused() {
    let more = "spool: {directory: spool, disk_free_min: 0B, bytes_max: 256MiB, dead_letter_bytes_max: 16MiB}";
    let mut bridge = Bridge::start(NOWHERE, "none", more);
    let directory = bridge.home().join("spool");
    let mut load = bridge.load(6_000, 2_000.0);
    load.connections = 32;
    let mut seen = Vec::new();
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        while !load.is_finished() {
            let listed = spool("list", &directory, &["--json"]);
            assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), ""), "{}", listed.stdout);
            let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
            let events = &listed["events"];
            assert_eq!((&events["damaged"], &events["state"]), (&json!(0), &json!("in_use")), "{listed}");
            assert_eq!(events["holder"]["name"], "recording-bridge");
            seen.push(events["frames"].as_u64().unwrap());
            let verified = spool("verify", &directory, &["--read-only"]);
            assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
        }
        load.join().unwrap()
    });
    assert!(answers.iter().all(|answer| answer.status == Some(200)));
    assert!(seen.len() > 2 && seen.is_sorted() && seen.first() < seen.last(), "{seen:?}");
    let listed = spool("list", &directory, &[]);
    assert!(listed.has("events", "  6000  "), "{}", listed.stdout);
    let process = holder(&listed.stdout).expect(&listed.stdout);

    let config = bridge.config().to_str().unwrap().to_owned();
    for (command, code, more) in [("verify", 2, [].as_slice()), ("show", 1, &[]), ("drain", 1, &["--config", &config])]
    {
        let refused = spool(command, &directory, more);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{}", refused.stderr);
        let said = refused.stderr.replace("in use by another process: process ", "in use by process ");
        assert_eq!(holder(&said), Some(process), "{said}");
    }
    assert!(bridge.is_alive());
    let evidence = || bridge.log_tail();
    wait_for("no callback in flight", Duration::from_secs(10), evidence, || {
        (bridge.metric("recording_bridge_callbacks_in_flight", &[]) == 0).then_some(())
    });

    // Killed in the middle of everything, it leaves a spool that is whole.
    bridge.kill();
    let verified = spool("verify", &directory, &[]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    assert!(verified.has("ok", "6000 sound frame(s), 0 damaged"), "{}", verified.stdout);
    let listed = spool("list", &directory, &[]);
    assert!(listed.has("events", "  6000  ") && listed.stdout.contains("not seen in use"), "{}", listed.stdout);
}
