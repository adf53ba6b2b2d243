//! Promise: keys change while the bridge runs, at once where somebody asks for it, and no valid signature is refused
//! meanwhile.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use recording_bridge::callback::Scope;
use rustix::process::Signal;

use crate::support::bridge::{Bridge, KEY as OLD_KEY};
use crate::support::kafka::{Topic, one_broker, read_topic, topic_name};
use crate::support::law::law;
use crate::support::load::{Answer, Load, Statuses};
use crate::support::{long, wait_for};
use crate::support_app::{Broker, KEY, Program, ask, body_signed, config_file, eventually, now, post};

const NEW_KEY: &str = "anotherKeyOfTheTests4567";

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

#[test]
fn a_bad_key_file_keeps_its_own_key_and_no_other_and_is_told_once() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let keys = [("live", KEY, Scope::default()), ("next", NEW_KEY, Scope::default())];
    let config = config_file(folder.path(), &broker.address(), &keys, QUICK);
    let program = Program::serve(&config);
    program.ready();
    let address = program.address("callbacks");
    let status = |key: &str| ask(address, post(body_signed("bad", key))).status();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).expect("a key file");
    let rejected = |key: &str| program.metric(&format!("key_file_rejected{{key=\"{key}\"}}"));
    let told = || program.log().matches("a key file cannot be used").count();
    assert_eq!((rejected("live"), rejected("next")), (0.0, 0.0));

    write("live", "tooShortKey1");
    // Three looks at the bad file, each proved by a change of the good one.
    for change in 0..3 {
        let key = format!("keyAfterChangeNumber{change}");
        write("next", &key);
        program.signal(Signal::HUP);
        eventually("the good file's key is in use", || status(&key) == 200);
        assert_eq!(status(KEY), 200, "the bad file's key stays");
    }
    assert_eq!((rejected("live"), rejected("next")), (1.0, 0.0));
    assert_eq!(program.metric("key_reloads_total{result=\"rejected\"}"), 1.0);
    assert_eq!(told(), 1, "{}", program.log());

    // A file that has gone is another fault, and no order to give up the key.
    fs::remove_file(folder.path().join("live")).expect("the key file goes");
    program.signal(Signal::HUP);
    eventually("the other fault is told", || told() == 2);
    assert_eq!((status(KEY), rejected("live")), (200, 1.0));

    write("live", KEY);
    program.signal(Signal::HUP);
    program.says("can be used again");
    eventually("nothing is wrong any more", || rejected("live") == 0.0);
    assert_eq!(status(KEY), 200);
    assert_eq!(program.metric("key_reloads_total{result=\"taken\"}"), 3.0);
}

/// A folder of key files as the kubelet mounts a secret: names lead through one link, which is exchanged.
struct Mounted {
    folder: tempfile::TempDir,
    versions: usize,
}

impl Mounted {
    fn new(live: &str, next: &str) -> Self {
        let mut mounted = Self { folder: tempfile::tempdir().unwrap(), versions: 0 };
        mounted.exchange(live, next);
        for name in ["live", "next"] {
            symlink(Path::new("..data").join(name), mounted.file(name)).unwrap();
        }
        mounted
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn exchange(&mut self, live: &str, next: &str) {
        let before = self.file(&format!("..version-{}", self.versions));
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        fs::create_dir(self.file(&version)).unwrap();
        for (name, key) in [("live", live), ("next", next)] {
            fs::write(self.file(&version).join(name), key).unwrap();
        }
        symlink(&version, self.file("..data_tmp")).unwrap();
        fs::rename(self.file("..data_tmp"), self.file("..data")).unwrap();
        if before.exists() {
            fs::remove_dir_all(before).unwrap();
        }
    }
}

/// Sends callbacks without a pause until `done`.
fn send_until(load: &Load, done: &AtomicBool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        answers.extend(load.run());
    }
    answers
}

/// What a provider whose nodes have learnt of the new key or not sends while `operator` is at work.
fn send_during(bridge: &Bridge, signed: &[(&str, f64)], operator: impl FnOnce()) -> Vec<Answer> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let senders: Vec<_> = signed
            .iter()
            .map(|(key, rate)| {
                // Half a second's worth, again and again.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
                let count = (rate / 2.0) as u64;
                let load = Load { key: (*key).to_owned(), ..bridge.load(count, *rate) };
                let done = &done;
                scope.spawn(move || send_until(&load, done))
            })
            .collect();
        operator();
        done.store(true, Ordering::Relaxed);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

#[test]
fn a_key_is_rotated_under_load_and_no_valid_signature_is_refused() {
    let (cluster, name) = (one_broker(), topic_name("rotation"));
    cluster.create_topic(&Topic { name: &name, partitions: 12, replication: 1, min_isr: 1, properties: &[] });
    let mut mounted = Mounted::new(OLD_KEY, OLD_KEY);
    let (live, next) = (mounted.file("live"), mounted.file("next"));
    let callback = format!(
        "callback: {{keys: [{{name: live, file: {}}}, {{name: next, file: {}}}]}}",
        live.display(),
        next.display()
    );
    let bridge = Bridge::start(&cluster.brokers(), &name, &callback);
    let taken = |times: u64| {
        let look = || bridge.metric("recording_bridge_key_reloads_total", &[("result", "taken")]) == times;
        wait_for("the key to be taken", Duration::from_secs(60), || bridge.log_tail(), || look().then_some(()));
    };
    let counted = |key: &str| bridge.metric("recording_bridge_authentic_callbacks_total", &[("key", key)]);
    let a_while = Duration::from_secs(if long() { 60 } else { 2 });

    // 1. The new key into the second file.
    let old = send_during(&bridge, &[(OLD_KEY, 500.0)], || {
        mounted.exchange(OLD_KEY, NEW_KEY);
        taken(1);
    });
    assert_eq!((counted("live"), counted("next")), (old.len() as u64, 0));
    // 2. The console: some nodes of the provider know the new key.
    let mixed = send_during(&bridge, &[(OLD_KEY, 250.0), (NEW_KEY, 250.0)], || thread::sleep(a_while));
    let moved = counted("next");
    assert!(moved > 0 && counted("live") > old.len() as u64);
    assert_eq!(counted("live") + moved, (old.len() + mixed.len()) as u64);
    // 3. All of them do: the first counter rests.
    let rested = counted("live");
    let new = send_during(&bridge, &[(NEW_KEY, 500.0)], || thread::sleep(a_while));
    assert_eq!((counted("live"), counted("next")), (rested, moved + new.len() as u64));
    // 4. The new key into the first file too, which counts from then on: it stands first.
    let last = send_during(&bridge, &[(NEW_KEY, 500.0)], || {
        mounted.exchange(NEW_KEY, NEW_KEY);
        taken(2);
        thread::sleep(a_while);
    });
    assert!(counted("live") > rested);

    let answers: Vec<Answer> = [old, mixed, new, last].into_iter().flatten().collect();
    assert_eq!(counted("live") + counted("next"), answers.len() as u64);
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    assert_eq!(bridge.metric("recording_bridge_callbacks_total", &[("outcome", "refused")]), 0);
    law(&answers, &read_topic(cluster, &name)).assert_hold();
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
    cluster.delete_topic(&name);
}
