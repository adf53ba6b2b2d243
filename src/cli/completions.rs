//! `completions`: what a shell needs to complete this command, made of the same declarations that parse it.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::CommandError;
use super::spool::written;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut super::Arguments::command(), env!("CARGO_PKG_NAME"), &mut script);
    // clap_complete 4.6.11 takes the hyphen in our name for the one before a subcommand in half of what it writes for
    // bash, which then completes no subcommand.
    let script = String::from_utf8_lossy(&script).replace("recording__subcmd__bridge", "recording__bridge");
    written(std::io::Write::write_all(&mut std::io::stdout().lock(), script.as_bytes()))
}
