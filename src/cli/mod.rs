//! The command line: one file a command, each returning an exit code that scripts can rely on.
//!
//! 0 is success, 1 a failure on the way or a bad verdict, 2 no verdict, 64 a mistake in the usage or the
//! configuration. Results go to stdout, everything else to stderr.

mod check;
mod completions;
mod contact;
mod demo;
mod edition;
mod explain;
mod logging;
mod online;
mod replay;
mod send;
mod serve;
mod spool;
mod tail;
mod terminal;

use std::fmt;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use terminal::Screen;

/// Exit code for a failure on the way.
const FAILURE: u8 = 1;
/// Exit code of a command that judges, and that could not see what it is to judge.
const UNSEEN: u8 = 2;
/// Exit code for a mistake in the usage or the configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// Takes recording callbacks of Tencent Cloud live streaming and publishes them to Kafka. A 200 means that the event
/// is safe: Kafka has acknowledged it with acks=all, or it is synced in the local spool.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge.
    Serve(serve::Arguments),
    /// Find every fault of a configuration file; with --online, look at the brokers and the topic too.
    Check(check::Arguments),
    /// Sign a sample recording callback and post it, to try a deployment without the provider.
    Send(send::Arguments),
    /// Print events from the topic as they come.
    Tail(tail::Arguments),
    /// Look at a spool directory, and publish one whose bridge will not come back.
    Spool(spool::Arguments),
    /// Put dead letters into the topic of events, after they were mended, or events of a dump again.
    Replay(replay::Arguments),
    /// Say step by step what the bridge does with a captured callback, and why.
    Explain(explain::Arguments),
    /// See the whole thing work in one process, with an embedded broker and nothing to set up.
    Demo(demo::Arguments),
    /// Print what a shell needs to complete this command.
    ///
    /// For bash: `source <(recording-bridge completions bash)` in ~/.bashrc.
    Completions(completions::Arguments),
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The arguments or the configuration are wrong.
    Usage(String),
    /// Something failed on the way.
    Failed(String),
    /// There is no judgement, since what is to be judged cannot be seen.
    Unseen(String),
}

impl CommandError {
    fn failed(what: &str, error: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

/// The command line. Whether help and mistakes have colours is decided as for everything else; left alone, clap would send
/// them to a terminal that cannot show them if `CI` is set.
fn arguments() -> Result<Arguments, clap::Error> {
    let has_colour = Screen::out().has_colour() || Screen::err().has_colour();
    let choice = if has_colour { ColorChoice::Auto } else { ColorChoice::Never };
    let mut command = Arguments::command().color(choice);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Parses the command line and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    // Before anything secret is read, by any command.
    if let Err(error) = crate::app::keep_private() {
        return complain(&format!("the memory cannot be kept private: {error}"), FAILURE);
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes.
            let code = if error.use_stderr() { USAGE } else { 0 };
            if error.print().is_err() {
                return ExitCode::from(FAILURE);
            }
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Send(arguments) => send::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Spool(arguments) => spool::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Usage(sentence)) => complain(&sentence, USAGE),
        Err(CommandError::Failed(sentence)) => complain(&sentence, FAILURE),
        Err(CommandError::Unseen(sentence)) => complain(&sentence, UNSEEN),
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command that has no log")]
fn complain(sentence: &str, code: u8) -> ExitCode {
    eprintln!("{}", Screen::err().broken(&format!("recording-bridge: {sentence}"), 0));
    ExitCode::from(code)
}
