//! See `bodies/intake.rs`.

#![no_main]

mod seeds;

libfuzzer_sys::fuzz_target!(init: seeds::write("intake"), |input: &[u8]| recording_bridge_fuzz::intake::run(input));
