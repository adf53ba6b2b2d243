//! What the defaults were chosen from: each alternative at a fixed rate and as fast as it can.
//!
//! What an operator may set is tried on the bridge; what the promise rests on, or what would be another program, on
//! floor B.

use std::time::Duration;

use super::broker::{Broker, DELAYS};
use super::costs::{WARM_UP, steady};
use super::floors::{Shape, Tuning};
use super::in_turn;
use super::load::Load;
use super::report::{Report, Unit};
use super::server::{Kind, Server};

/// What a far broker is tried with as well. A callback waits there for its turn of a round trip for each partition, and a
/// connection sends one at a time: 64 of them cannot send 2,000/s to a broker that is 10 ms away.
const FAR_CONNECTIONS: u64 = 512;

pub(crate) fn measure(broker: &Broker, round: u32, span: Duration, report: &mut Report) {
    let bridge = [
        "",
        "linger.ms: 0.5",
        "linger.ms: 1",
        "linger.ms: 5",
        "batch.size: 16384",
        "batch.num.messages: 100",
        "compression.type: none",
    ];
    let shapes = [Shape::Shared, Shape::Single, Shape::PerCore];
    let shapes = shapes.map(|shape| Kind::FloorB(Tuning { shape, ..Tuning::linger("0") }));
    let kinds: Vec<_> = bridge.map(Kind::Bridge).into_iter().chain(shapes).collect();
    for kind in in_turn(&kinds, round) {
        eprintln!("  {kind}");
        let server = Server::start(&kind, broker);
        try_out(&kind.to_string(), &server, span, report);
    }
    let delays = [Duration::ZERO].into_iter().chain(DELAYS.map(|(_, delay)| delay));
    let networks: Vec<_> = delays.flat_map(|delay| [(delay, 1), (delay, 5)]).collect();
    for (delay, in_flight) in in_turn(&networks, round) {
        let row = format!("floor B, {in_flight} in flight, {} ms away", delay.as_millis());
        eprintln!("  {row}");
        let tuning = Tuning { in_flight, ..Tuning::linger("0") };
        let server = Server::start_at(&Kind::FloorB(tuning), &broker.addresses_at(delay));
        try_out(&row, &server, span, report);
        let name = format!("2,000/s, {FAR_CONNECTIONS} connections");
        // Some callbacks for every connection.
        steady(&row, &server, Load::open(2_000.0, FAR_CONNECTIONS, 3 * span), &name, report);
    }
}

fn try_out(row: &str, server: &Server, span: Duration, report: &mut Report) {
    Load::saturating(64, WARM_UP).run(server);
    for (rate, connections, name) in [(100.0, 1, "100/s, one connection"), (2_000.0, 64, "2,000/s")] {
        steady(row, server, Load::open(rate, connections, span), name, report);
    }
    let full = Load::saturating(512, span).run(server);
    let name = "saturated, 512 connections";
    report.add(row, name, Unit::CallbacksPerSecond, full.rate());
    report.add(row, &format!("CPU {name}"), Unit::MicrosecondsPerCallback, full.cpu_per_callback());
}
