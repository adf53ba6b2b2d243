//! Promise: what the fuzz targets begin with, and whatever they have found, does no harm. The same code as under the
//! fuzzer (`fuzz/bodies`), without it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{faulty_storage, spool};

/// The bodies of the targets, as they are in `fuzz`.
macro_rules! bodies {
    ($($name:ident $path:literal),*) => {
        $(
            #[path = $path]
            #[allow(unreachable_pub, clippy::pedantic, reason = "it is a library of its own elsewhere")]
            mod $name;
        )*
    };
}

bodies!(
    callback "../../fuzz/bodies/callback.rs",
    config "../../fuzz/bodies/config.rs",
    intake "../../fuzz/bodies/intake.rs",
    secrets "../../fuzz/bodies/secrets.rs",
    seeds "../../fuzz/bodies/seeds.rs",
    spool_frame "../../fuzz/bodies/spool_frame.rs",
    spool_segment "../../fuzz/bodies/spool_segment.rs"
);

/// Files in a folder that need not be there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Gives `run` every seed, every input of the corpus and every past finding of `target`, at least `count` in all.
fn replay(target: &str, count: usize, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs: Vec<(String, Vec<u8>)> =
        (0..).zip(seeds::of(target, root)).map(|(number, seed)| (format!("seed {number}"), seed)).collect();
    for kind in ["corpus", "regressions"] {
        let folder = root.join("fuzz").join(kind).join(target);
        inputs.extend(files(&folder).into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())));
    }
    assert!(inputs.len() >= count, "{target} has {} inputs only", inputs.len());
    for (name, input) in &inputs {
        if let Err(panic) = std::panic::catch_unwind(|| run(input)) {
            eprintln!("failed with {name} of the target {target}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn no_body_is_accepted_unsigned_and_no_message_shows_a_secret() {
    replay("callback", 100, callback::run);
}

#[test]
fn no_configuration_is_quoted_in_its_faults() {
    replay("config", 60, config::run);
}

#[test]
fn nothing_is_acknowledged_that_is_not_stored() {
    replay("intake", 100, intake::run);
}

#[test]
fn a_frame_is_read_as_it_was_written_or_not_at_all() {
    replay("spool_frame", 4, spool_frame::run);
}

#[test]
fn damage_costs_the_frames_that_it_hits_and_no_others() {
    replay("spool_segment", 20, spool_segment::run);
}
