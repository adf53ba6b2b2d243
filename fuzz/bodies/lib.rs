//! What every fuzz target does with an input.
//!
//! `tests/it/fuzz_corpus.rs` holds these modules as well, so that `cargo test` replays what was found. They panic when
//! a promise is broken, and do nothing else.

pub mod callback;
pub mod config;
pub mod intake;
pub mod secrets;
pub mod seeds;
pub mod spool_frame;
pub mod spool_segment;

#[path = "../../tests/it/support/faulty_storage.rs"]
#[allow(dead_code)]
mod faulty_storage;
#[path = "../../tests/it/support/random.rs"]
#[allow(dead_code)]
mod random;
#[path = "../../tests/it/support/spool.rs"]
#[allow(dead_code)]
mod spool;
