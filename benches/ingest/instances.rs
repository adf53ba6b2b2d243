//! One bridge, and two that have as much to do each: a callback is to cost the same in both.
//!
//! Both at full speed would tell nothing here: they share the cores of one machine.

use std::time::Duration;

use super::broker::Broker;
use super::costs::WARM_UP;
use super::load::{Load, Outcome};
use super::report::{Report, Unit};
use super::server::{Kind, Server};

pub(crate) fn measure(broker: &Broker, span: Duration, report: &mut Report) {
    for count in [1, 2] {
        let row = if count == 1 { "one instance" } else { "two instances" };
        eprintln!("  {row}");
        let servers: Vec<_> = (0..count).map(|_| Server::start(&Kind::Bridge(""), broker)).collect();
        together(&servers, Load::saturating(64, WARM_UP));
        for rate in [100, 500, 1_000] {
            let outcomes = together(&servers, Load::open(f64::from(rate), 32, span));
            report.add(row, &format!("CPU at {rate}/s each"), Unit::MicrosecondsPerCallback, cost(&outcomes));
        }
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
