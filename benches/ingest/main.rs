//! What a callback costs: the bridge beside two floors, in one run, against one broker, round by round.
//!
//! `cargo bench --bench ingest` needs what `tests/run` needs. Every server is a process of its own and starts anew in
//! every round; the load comes from this process. Times of one machine say little about another, so the table shows
//! ratios to the floors of the same run as well.
//!
//! - Floor A: hyper that reads the body and answers 200. Nothing that is a server of this kind can be cheaper.
//! - Floor B: the least code that does the job: typed JSON, MD5, an event, librdkafka's acknowledgement. It has no
//!   metrics, no limits and no spool, and forgets what Kafka does not take.
//! - The bridge: Direct, Spooling (the broker is dead), and Draining (it is back) while the load goes on.

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

mod broker;
mod floors;
mod load;
mod report;
mod server;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the benchmark needs the brokers and the processes of the tests")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use broker::Broker;
use clap::Parser;
use load::{Load, Outcome};
use report::{Report, Unit};
use server::{Kind, Server};

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
    /// Use librdkafka's mock cluster instead of Apache Kafka: quicker to start, and without durability.
    #[arg(long)]
    mock: bool,
    /// Where the figures of every round go, as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ingest.json"))]
    json: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    if floors::run_as_told() {
        return;
    }
    let arguments = Arguments::parse();
    let span = Duration::from_secs(arguments.seconds);
    let mut report = Report::default();
    let broker = Broker::start(arguments.mock);
    let kinds = [Kind::FloorA, Kind::FloorB { linger: 0 }, Kind::FloorB { linger: 1 }, Kind::Bridge];
    for round in 0..arguments.rounds {
        // Nobody is always the first.
        for turn in 0..kinds.len() {
            let kind = kinds[(turn + round as usize) % kinds.len()];
            eprintln!("round {} of {}: {kind}", round + 1, arguments.rounds);
            measure(&broker, kind, span, &mut report);
        }
        eprintln!("round {} of {}: outage", round + 1, arguments.rounds);
        measure_outage(&broker, span, &mut report);
    }
    println!("{report}");
    report.write(&arguments.json);
}

/// One server that is well: at rest, at fixed rates, and as fast as it can.
fn measure(broker: &Broker, kind: Kind, span: Duration, report: &mut Report) {
    let server = Server::start(kind, broker);
    let row = kind.to_string();
    report.add(&row, "start to ready", Unit::Milliseconds, server.ready_after().as_secs_f64() * 1e3);
    let idle = server.cpu();
    std::thread::sleep(span);
    report.add(
        &row,
        "idle CPU",
        Unit::PercentOfCore,
        server.cpu_since(idle).as_secs_f64() / span.as_secs_f64() * 100.0,
    );
    report.add(&row, "resident, idle", Unit::Mebibytes, server.resident_mebibytes());
    Load::saturating(64, Duration::from_millis(500)).run(&server);
    let one = Load::open(100.0, 1, span).run(&server);
    report.latencies(&row, "100/s, one connection", &one);
    report.add(&row, "CPU at 100/s", Unit::MicrosecondsPerCallback, one.cpu_per_callback());
    let steady = Load::open(2_000.0, 64, span).run(&server);
    report.latencies(&row, "2,000/s", &steady);
    report.add(&row, "CPU at 2,000/s", Unit::MicrosecondsPerCallback, steady.cpu_per_callback());
    let mut rate = 0.0;
    for connections in [64, 512] {
        let full = Load::saturating(connections, span).run(&server);
        let name = format!("saturated, {connections} connections");
        report.add(&row, &name, Unit::CallbacksPerSecond, full.rate());
        report.add(&row, &format!("CPU {name}"), Unit::MicrosecondsPerCallback, full.cpu_per_callback());
        rate = f64::max(rate, full.rate());
    }
    report.add(&row, "resident, after the load", Unit::Mebibytes, server.resident_mebibytes());
    // Every server at half of what it can do itself.
    let half = Load::open(rate / 2.0, 64, span).run(&server);
    report.latencies(&row, "half of saturation", &half);
    assert_eq!(half.refused + steady.refused + one.refused, 0, "{kind} refused callbacks\n{}", server.log_tail());
}

/// The bridge while the broker is dead, and while it drains.
fn measure_outage(broker: &Broker, span: Duration, report: &mut Report) {
    let server = Server::start(Kind::Bridge, broker);
    Load::saturating(64, Duration::from_millis(500)).run(&server);
    broker.kill();
    // The first callbacks of an outage wait for their acknowledgement in vain.
    Load::open(500.0, 64, Duration::from_secs(7)).run(&server);
    let row = "bridge, spooling";
    let record = |report: &mut Report, row: &str, name: &str, outcome: &Outcome| {
        report.latencies(row, name, outcome);
        report.add(row, &format!("CPU at {name}"), Unit::MicrosecondsPerCallback, outcome.cpu_per_callback());
    };
    record(report, row, "100/s", &Load::open(100.0, 16, span).run(&server));
    record(report, row, "2,000/s", &Load::open(2_000.0, 64, span).run(&server));
    for connections in [64, 512] {
        let full = Load::saturating(connections, span).run(&server);
        let name = format!("saturated, {connections} connections");
        report.add(row, &name, Unit::CallbacksPerSecond, full.rate());
        report.add(row, &format!("CPU {name}"), Unit::MicrosecondsPerCallback, full.cpu_per_callback());
    }
    report.add(row, "resident, after the load", Unit::Mebibytes, server.resident_mebibytes());
    let row = "bridge, draining";
    let (frames, cpu) = (server.spooled_frames(), server.cpu());
    // A broker takes seconds to start, and the drain begins in the middle of the load.
    let draining = std::thread::scope(|scope| {
        let load = scope.spawn(|| Load::open(2_000.0, 64, span + Duration::from_secs(4)).run(&server));
        broker.restart();
        load.join().unwrap()
    });
    report.latencies(row, "2,000/s", &draining);
    let drained = server.await_drained();
    let every = frames + draining.answered;
    report.add(
        row,
        "CPU a frame or callback",
        Unit::MicrosecondsPerCallback,
        server.cpu_since(cpu).as_secs_f64() * 1e6 / every as f64,
    );
    report.add(row, "drained", Unit::CallbacksPerSecond, drained);
    assert_eq!(draining.refused, 0, "callbacks were refused\n{}", server.log_tail());
}
