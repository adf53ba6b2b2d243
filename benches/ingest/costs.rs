//! What a callback costs: in the floors, and in the bridge in each of its states.

use std::time::Duration;

use super::broker::Broker;
use super::floors::Tuning;
use super::in_turn;
use super::load::{Load, Outcome};
use super::report::{Report, Unit};
use super::server::{Kind, Server};

/// Long enough for connections, caches and the allocator.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// The default of `repeats.entries_max`.
const REPEATS_ENTRIES_MAX: u64 = 65_536;

pub(crate) fn measure(broker: &Broker, round: u32, span: Duration, outage: Duration, report: &mut Report) {
    let floor_b = |linger| Kind::FloorB(Tuning::linger(linger));
    let whole = Kind::FloorB(Tuning { is_whole: true, ..Tuning::linger("0") });
    for kind in in_turn(&[Kind::FloorA, floor_b("0"), whole, floor_b("1"), Kind::Bridge("")], round) {
        eprintln!("  {kind}");
        well(broker, &kind, span, report);
    }
    eprintln!("  outage");
    in_outage(broker, span, outage, report);
}

/// One server that is well: at rest, at fixed rates, and as fast as it can.
fn well(broker: &Broker, kind: &Kind, span: Duration, report: &mut Report) {
    let server = Server::start(kind, broker);
    let row = kind.to_string();
    report.add(&row, "start to ready", Unit::Milliseconds, server.ready_after().as_secs_f64() * 1e3);
    let idle = server.cpu();
    std::thread::sleep(span);
    let idle = server.cpu().saturating_sub(idle).as_secs_f64() / span.as_secs_f64();
    report.add(&row, "idle CPU", Unit::PercentOfCore, idle * 100.0);
    report.add(&row, "resident, idle", Unit::Mebibytes, server.resident_mebibytes());
    Load::saturating(64, WARM_UP).run(&server);
    let mut refused = 0;
    for (rate, connections, name) in [(100.0, 1, "100/s, one connection"), (2_000.0, 64, "2,000/s")] {
        refused += steady(&row, &server, Load::open(rate, connections, span), name, report).refused;
    }
    let rate = saturated(&row, &server, span, report);
    // Every server at half of what it can do itself.
    let half = Load::open(rate / 2.0, 64, span).run(&server);
    half.report(&row, "half of saturation", report);
    assert_eq!(half.refused + refused, 0, "{kind} refused callbacks\n{}", server.log_tail());
}

/// At a fixed rate.
pub(crate) fn steady(row: &str, server: &Server, load: Load, name: &str, report: &mut Report) -> Outcome {
    let outcome = load.run(server);
    outcome.report(row, name, report);
    report.add(row, &format!("CPU at {name}"), Unit::MicrosecondsPerCallback, outcome.cpu_per_callback());
    report.add(row, &format!("switches at {name}"), Unit::PerCallback, outcome.switches_per_callback());
    outcome
}

/// As fast as it can; gives the higher rate.
pub(crate) fn saturated(row: &str, server: &Server, span: Duration, report: &mut Report) -> f64 {
    let mut rate = 0.0;
    for connections in [64, 512] {
        let full = Load::saturating(connections, span).run(server);
        let name = format!("saturated, {connections} connections");
        report.add(row, &name, Unit::CallbacksPerSecond, full.rate());
        report.add(row, &format!("CPU {name}"), Unit::MicrosecondsPerCallback, full.cpu_per_callback());
        report.add(row, &format!("switches {name}"), Unit::PerCallback, full.switches_per_callback());
        report.add(row, &format!("resident, {name}"), Unit::Mebibytes, server.resident_mebibytes());
        rate = f64::max(rate, full.rate());
    }
    rate
}

/// The bridge while the broker is dead, and while it drains.
pub(crate) fn in_outage(broker: &Broker, span: Duration, outage: Duration, report: &mut Report) {
    let server = Server::start(&Kind::Bridge(""), broker);
    // The broker's death finds what an hour of work would leave: a window of repeats that is full, above all.
    let mut sent = 0;
    while sent < REPEATS_ENTRIES_MAX {
        sent += Load::saturating(64, WARM_UP).run(&server).answered;
    }
    Load::open(2_000.0, 64, span).run(&server);
    let before = server.resident_mebibytes();
    broker.kill();
    let row = "bridge, spooling";
    // The first callbacks of an outage wait for their acknowledgement in vain.
    Load::open(2_000.0, 64, outage.max(Duration::from_secs(7))).run(&server);
    report.add(row, "resident, growth in the outage", Unit::Mebibytes, server.resident_mebibytes() - before);
    for (rate, name) in [(100.0, "100/s"), (2_000.0, "2,000/s")] {
        steady(row, &server, Load::open(rate, 64, span), name, report);
    }
    saturated(row, &server, span, report);
    let row = "bridge, draining";
    let (frames, cpu) = (server.spooled_frames(), server.cpu());
    // A broker takes seconds to start, and the drain begins in the middle of the load.
    let (draining, drained) = std::thread::scope(|scope| {
        let load = scope.spawn(|| Load::open(2_000.0, 64, span + Duration::from_secs(4)).run(&server));
        broker.restart();
        let drained = server.await_drained();
        (load.join().unwrap(), drained)
    });
    server.await_drained();
    draining.report(row, "2,000/s", report);
    let cpu = server.cpu().saturating_sub(cpu).as_secs_f64() * 1e6;
    let every = frames + draining.answered;
    report.add(row, "CPU a frame or callback", Unit::MicrosecondsPerCallback, cpu / every as f64);
    report.add(row, "drained", Unit::CallbacksPerSecond, drained);
    assert_eq!(draining.refused, 0, "callbacks were refused\n{}", server.log_tail());
}
