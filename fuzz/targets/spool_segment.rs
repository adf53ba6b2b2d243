//! See `bodies/spool_segment.rs`.

#![no_main]

mod seeds;

libfuzzer_sys::fuzz_target!(init: seeds::write("spool_segment"), |input: &[u8]| recording_bridge_fuzz::spool_segment::run(input));
