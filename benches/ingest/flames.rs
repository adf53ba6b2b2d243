//! Where the time of a saturated bridge goes: `perf` looks at all of its threads, kernel included, while it is under load.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::broker::Broker;
use super::costs::WARM_UP;
use super::load::Load;
use super::server::{Kind, Server};

/// Samples a second of each thread: no multiple of anything that the bridge does.
const FREQUENCY: &str = "997";
/// Of each sample: the stack of a request is deep.
const STACK_BYTES: &str = "dwarf,32768";

/// Leaves the samples of `span` in `file`, for `perf script`.
pub(crate) fn record(broker: &Broker, span: Duration, file: &Path) {
    let server = Server::start(&Kind::Bridge(""), broker);
    Load::saturating(512, WARM_UP).run(&server);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| Load::saturating(512, span + 2 * WARM_UP).run(&server));
        std::thread::sleep(WARM_UP);
        let perf = ["record", "--quiet", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", STACK_BYTES];
        let mut command = Command::new("perf");
        command.args(perf).args(["-p", &server.id().to_string(), "-o"]).arg(file);
        let status = command.args(["--", "sleep", &span.as_secs_f64().to_string()]).status();
        assert!(status.expect("perf is needed: linux-perf of Debian").success(), "perf has failed");
        assert_eq!(load.join().unwrap().refused, 0, "callbacks were refused\n{}", server.log_tail());
    });
}
