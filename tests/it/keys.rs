//! Promise: keys change while the bridge runs, at once where somebody asks for it, and no valid signature is refused
//! meanwhile.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::fs;
use std::time::Duration;

use recording_bridge::callback::Scope;
use rustix::process::Signal;

use crate::support_app::{Broker, KEY, Program, ask, body_signed, config_file, eventually, now, post};

const QUICK: &str = "shutdown: {drain_delay: 0s, grace: 20s}\n";

#[test]
fn sighup_reads_key_files_at_once_and_stops_nothing() {
    // Files are also read every 5 s, so that many changes one after another would take that many times 5 s.
    const CHANGES: usize = 8;
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], QUICK);
    let mut program = Program::serve(&config);
    program.ready();
    let address = program.address("callbacks");
    let started = now();
    for change in 0..CHANGES {
        let key = format!("keyAfterChangeNumber{change}");
        fs::write(folder.path().join("next"), &key).expect("a key file");
        fs::rename(folder.path().join("next"), folder.path().join("live")).expect("the key file is replaced");
        program.signal(Signal::HUP);
        eventually("the new key is in use", || ask(address, post(body_signed("hup", &key))).status() == 200);
    }
    assert!(now() - started < Duration::from_secs(5 * CHANGES as u64 / 2), "{:?}", now() - started);
    assert_eq!(program.metric("key_reloads_total{result=\"taken\"}"), 8.0);
    program.terminate();
    assert_eq!(program.exit_code(), 0, "{}", program.log());
    assert!(program.log().contains("SIGHUP"), "{}", program.log());
}
