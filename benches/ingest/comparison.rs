//! The bridge beside another build of it, or beside floor B alone.

use std::time::Duration;

use super::broker::Broker;
use super::costs::{WARM_UP, saturated, steady};
use super::floors::Tuning;
use super::in_turn;
use super::load::Load;
use super::report::Report;
use super::server::{Kind, Server};

pub(crate) fn measure(broker: &Broker, other: Option<&str>, round: u32, span: Duration, report: &mut Report) {
    let whole = Tuning { is_whole: true, ..Tuning::linger("0") };
    let mut kinds = vec![Kind::FloorB(Tuning::linger("0")), Kind::FloorB(whole), Kind::Bridge("")];
    kinds.extend(other.map(|program| Kind::OtherBridge(program.to_owned())));
    for kind in in_turn(&kinds, round) {
        eprintln!("  {kind}");
        let (row, server) = (kind.to_string(), Server::start(&kind, broker));
        Load::saturating(64, WARM_UP).run(&server);
        for (rate, connections, name) in [(100.0, 1, "100/s, one connection"), (2_000.0, 64, "2,000/s")] {
            steady(&row, &server, Load::open(rate, connections, span), name, report);
        }
        saturated(&row, &server, span, report);
    }
}
