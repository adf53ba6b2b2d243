//! What a callback costs: the bridge beside two floors, in one run, against one broker, round by round.
//!
//! `cargo bench --bench ingest` needs what `tests/run` needs. Every server is a process of its own and starts anew in
//! every round; the load comes from this process. Times of one machine say little about another, so the table shows
//! ratios to the floors of the same run as well.
//!
//! - Floor A: hyper that reads the body and answers 200. Nothing that is a server of this kind can be cheaper.
//! - Floor B: the least code that does the job: typed JSON, MD5, an event, librdkafka's acknowledgement. It has no
//!   metrics, no limits but those on heads, and no spool, and forgets what Kafka does not take. It has the settings of
//!   the bridge towards Kafka. Its message has a third of the members; one row has it write the message of the bridge.
//! - The bridge: Direct, Spooling (the broker is dead), and Draining (it is back) while the load goes on.
//!
//! `--part outage` has a long outage, `--part alternatives` measures what the defaults were chosen from, and
//! `--part instances` one bridge beside two. `--part comparison --other PROGRAM` measures this build beside another one:
//! whether a change is worth keeping shows only side by side.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a benchmark fails by panicking"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are small beside what a float holds"
)]
#![allow(clippy::disallowed_methods, reason = "real processes are watched by real clocks")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table goes to stdout, the progress to stderr")]

mod alternatives;
mod broker;
mod comparison;
mod costs;
mod flames;
mod floors;
mod instances;
mod load;
mod proxy;
mod report;
mod server;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the benchmark needs the brokers and the processes of the tests")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use broker::Broker;
use clap::{Parser, ValueEnum};
use report::Report;

/// The allocator of the bridge, for the floors too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures what a callback costs in the bridge and in two floors, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of every single measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Part::Costs)]
    part: Part,
    /// Seconds of the outage, at 2,000 callbacks a second.
    #[arg(long, default_value_t = 10)]
    outage: u64,
    /// The program of another build of the bridge, for `--part comparison`.
    #[arg(long)]
    other: Option<String>,
    /// Use librdkafka's mock cluster instead of Apache Kafka: quicker to start, and without durability.
    #[arg(long)]
    mock: bool,
    /// Where the figures of every round go, as JSON: target/ingest-<part>.json unless said otherwise.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a callback costs in the bridge and in the floors.
    Costs,
    /// The bridge in an outage alone, to be had as long as one likes.
    Outage,
    /// Linger, batches, requests in flight, threads.
    Alternatives,
    /// One bridge, and two that have as much to do each.
    Instances,
    /// The bridge beside another build of it.
    Comparison,
    /// What the bridge does when it is saturated, in samples for `perf script`: target/ingest-flames.data.
    Flames,
}

fn main() {
    if floors::run_as_told() {
        return;
    }
    let arguments = Arguments::parse();
    let span = Duration::from_secs(arguments.seconds);
    let mut report = Report::new(match arguments.part {
        Part::Costs => vec![("floor A", "floor A".to_owned()), ("floor B", "floor B, linger 0".to_owned())],
        Part::Alternatives => vec![("the default", "bridge, direct".to_owned())],
        Part::Outage | Part::Flames => Vec::new(),
        Part::Comparison => vec![("floor B", "floor B, linger 0".to_owned()), ("other", "the other bridge".to_owned())],
        Part::Instances => vec![("one instance", "one instance".to_owned())],
    });
    let broker = Broker::start(arguments.mock);
    if arguments.part == Part::Flames {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ingest-flames.data");
        return flames::record(&broker, span, file.as_ref());
    }
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        match arguments.part {
            Part::Costs => costs::measure(&broker, round, span, Duration::from_secs(arguments.outage), &mut report),
            Part::Outage => costs::in_outage(&broker, span, Duration::from_secs(arguments.outage), &mut report),
            Part::Alternatives => alternatives::measure(&broker, round, span, &mut report),
            Part::Instances => instances::measure(&broker, span, &mut report),
            Part::Flames => unreachable!("it has no rounds"),
            Part::Comparison => comparison::measure(&broker, arguments.other.as_deref(), round, span, &mut report),
        }
    }
    println!("{report}");
    let part = arguments.part.to_possible_value().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ingest-");
    report.write(&arguments.json.unwrap_or_else(|| format!("{file}{}.json", part.get_name()).into()));
}

/// `kinds` in another order every round, so that nobody is always the first.
fn in_turn<T: Clone>(kinds: &[T], round: u32) -> impl Iterator<Item = T> {
    kinds.iter().cycle().skip(round as usize % kinds.len()).take(kinds.len()).cloned()
}
