//! See `bodies/spool_frame.rs`.

#![no_main]

mod seeds;

libfuzzer_sys::fuzz_target!(init: seeds::write("spool_frame"), |input: &[u8]| recording_bridge_fuzz::spool_frame::run(input));
