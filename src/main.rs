//! The command `recording-bridge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    recording_bridge::cli::run()
}
