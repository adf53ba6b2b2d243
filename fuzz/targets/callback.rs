//! See `bodies/callback.rs`.

#![no_main]

mod seeds;

libfuzzer_sys::fuzz_target!(init: seeds::write("callback"), |input: &[u8]| recording_bridge_fuzz::callback::run(input));
