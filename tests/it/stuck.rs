//! Promise: what the bridge leans on may hang (a reader of its log, a volume with its keys), and it goes on: callbacks
//! are answered, probes are answered, and a signal ends it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use recording_bridge::callback::Scope;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::load::Client;
use crate::support::wait_for;
use crate::support_app::{Broker, KEY, config_file};

/// The real program, with a standard error that is a pipe which nobody reads.
struct Unheard {
    child: Child,
    callbacks: SocketAddr,
    admin: SocketAddr,
}

impl Unheard {
    fn start(folder: &Path, broker: &Broker) -> Self {
        let [callbacks, admin] = free_addresses();
        let further = format!(
            "http: {{listen: '{callbacks}'}}\nadmin: {{listen: '{admin}'}}\nspool: {{enabled: false}}\n\
             shutdown: {{drain_delay: 0s, grace: 16s}}\n"
        );
        let config = config_file(folder, &broker.address(), &[("live", KEY, Scope::default())], &further);
        let child = Command::new(env!("CARGO_BIN_EXE_recording-bridge"))
            .args(["serve", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let program = Self { child, callbacks, admin };
        program.await_page("/live", 200);
        program.await_page("/ready", 200);
        program
    }

    fn await_page(&self, page: &str, status: u16) {
        let ask = || Client::new(self.admin).get(page).ok().filter(|(got, _)| *got == status).map(|_| ());
        wait_for(&format!("{page} to be {status}"), Duration::from_secs(20), String::new, ask);
    }

    fn terminate(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let patience = Duration::from_secs(20);
        wait_for("the end", patience, String::new, || self.child.try_wait().unwrap().map(|_| ()));
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two addresses that were free a moment ago.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let program = Unheard::start(folder.path(), &broker);
    // A pipe holds 64 KiB. Faults of connections are not limited by the second as refusals are, so send both.
    let mut client = Client::new(program.callbacks);
    for second in 0..16 {
        for _ in 0..25 {
            assert_eq!(client.post("/callbacks/recording", "{}").unwrap(), 403, "in second {second}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(client.post("/callbacks/recording", "{}").unwrap(), 403);
    program.await_page("/ready", 200);
    program.terminate();
}

#[test]
fn a_key_file_that_hangs_stops_nothing() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let program = Unheard::start(folder.path(), &broker);
    let file = folder.path().join("live");
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    // Longer than the key files rest between two looks.
    for _ in 0..8 {
        program.await_page("/live", 200);
        std::thread::sleep(Duration::from_secs(1));
    }
    let (status, page) = Client::new(program.admin).get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("recording_bridge_key_reloads_total{result=\"rejected\"} 1"), "{page}");
    program.terminate();
}
