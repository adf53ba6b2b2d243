//! One bridge, and two that share the same load: a callback is to cost the same in both.

use std::time::Duration;

use super::broker::Broker;
use super::costs::WARM_UP;
use super::load::{Load, Outcome};
use super::report::{Report, Unit};
use super::server::{Kind, Server};

pub(crate) fn measure(broker: &Broker, span: Duration, report: &mut Report) {
    for count in [1_u32, 2] {
        let row = if count == 1 { "one instance" } else { "two instances" };
        eprintln!("  {row}");
        let servers: Vec<_> = (0..count).map(|_| Server::start(&Kind::Bridge(""), broker)).collect();
        let share = |load: Load| together(&servers, load);
        share(Load::saturating(32, WARM_UP));
        let steady = share(Load::open(2_000.0 / f64::from(count), 64 / u64::from(count), span));
        report.add(row, "CPU at 2,000/s in all", Unit::MicrosecondsPerCallback, cost(&steady));
        let full = share(Load::saturating(64 / u64::from(count), span));
        report.add(row, "CPU saturated, 64 connections in all", Unit::MicrosecondsPerCallback, cost(&full));
        let rate = full.iter().map(Outcome::rate).sum();
        report.add(row, "saturated, 64 connections in all", Unit::CallbacksPerSecond, rate);
    }
}

/// The same load on every server at the same time.
fn together(servers: &[Server], load: Load) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let loads: Vec<_> = servers.iter().map(|server| scope.spawn(move || load.run(server))).collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    })
}

fn cost(outcomes: &[Outcome]) -> f64 {
    let cpu: f64 = outcomes.iter().map(|outcome| outcome.cpu.as_secs_f64() * 1e6).sum();
    cpu / outcomes.iter().map(|outcome| outcome.answered).sum::<u64>() as f64
}
