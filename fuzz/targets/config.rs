//! See `bodies/config.rs`.

#![no_main]

mod seeds;

libfuzzer_sys::fuzz_target!(init: seeds::write("config"), |input: &[u8]| recording_bridge_fuzz::config::run(input));
