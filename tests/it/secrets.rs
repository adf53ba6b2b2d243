//! Promise: what the bridge knows stays with it. No key is in a log, a metric or an argument, no other process of the
//! same user can look inside, and a crash leaves no core file.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use recording_bridge::callback::Scope;
use rustix::process::{Signal, geteuid};

use crate::support_app::{
    Broker, KEY, Program, ask, body_signed, config_file, epoch_seconds, eventually, facts, get, post, series, signature,
};

const NEXT_KEY: &str = "anotherKeyOfTheTests4567";
/// Nobody's.
const USER: u32 = 12_345;

/// A command that runs as a user without privileges, with core files allowed, in `folder`.
fn unprivileged(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -c unlimited || :; exec \"$0\" \"$@\"").arg(program).current_dir(folder);
    if geteuid().is_root() {
        command.uid(USER).gid(USER);
    }
    command
}

fn user() -> u32 {
    if geteuid().is_root() { USER } else { geteuid().as_raw() }
}

/// A folder that any user may use, with the program in it: its own folder may be closed to others.
fn open_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("an open folder");
    let (built, program) = (Path::new(env!("CARGO_BIN_EXE_recording-bridge")), folder.path().join("recording-bridge"));
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).expect("the program can be copied");
    }
    (folder, program)
}

/// Whether a process of the same user may look into that process.
fn may_look_into(process: u32, folder: &Path) -> bool {
    let mut look = unprivileged(folder, Path::new("cat"));
    let environment = format!("/proc/{process}/environ");
    look.arg(environment).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("cat runs").success()
}

/// A process like any other, ended with the test.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn no_other_process_looks_inside_and_no_crash_leaves_a_core_file() {
    let broker = Broker::start();
    let sleeping = tempfile::tempdir().expect("a folder");
    fs::set_permissions(sleeping.path(), fs::Permissions::from_mode(0o777)).expect("an open folder");
    let sleeper = unprivileged(sleeping.path(), Path::new("sleep")).arg("600").spawn().expect("sleep runs");
    let sleeper = Sleeper(sleeper);
    let owner = |process: u32| fs::metadata(format!("/proc/{process}/environ")).expect("it runs").uid();
    // What is looked for can be found.
    eventually("sleep can be looked into", || may_look_into(sleeper.0.id(), sleeping.path()));
    assert_eq!(owner(sleeper.0.id()), user());
    for signal in [Signal::ABORT, Signal::SEGV] {
        let (folder, program) = open_folder();
        let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], "");
        let mut command = unprivileged(folder.path(), &program);
        command.args(["serve", "--config"]).arg(&config);
        let mut bridge = Program::spawn(command);
        bridge.ready();
        let limits = fs::read_to_string(format!("/proc/{}/limits", bridge.id())).expect("its limits");
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
        assert!(user() == 0 || owner(bridge.id()) != user(), "it may be attached to");
        assert!(user() == 0 || !may_look_into(bridge.id(), folder.path()));
        // It still sees itself.
        let scrape = ask(bridge.address("admin"), get("/metrics"));
        let series = series(scrape.body());
        for metric in ["process_open_fds", "process_max_fds", "process_threads", "process_resident_memory_bytes"] {
            assert!(series.get(metric).is_some_and(|value| *value >= 3.0), "{metric}: {:?}", series.get(metric));
        }
        assert_eq!(ask(bridge.address("callbacks"), post(body_signed("last", KEY))).status(), 200);
        // The standard library lets a first SIGSEGV pass that has no cause in the program.
        eventually("the signal ends it", || {
            bridge.signal(signal);
            let stat = fs::read_to_string(format!("/proc/{}/stat", bridge.id())).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        });
        let status = bridge.status();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{}", bridge.log());
        assert!(!status.core_dumped(), "{status}");
        let files: Vec<String> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().display().to_string()).collect();
        assert!(!files.iter().any(|file| file.contains("core")), "{files:?}");
    }
}

#[test]
fn no_key_and_no_signature_is_in_any_log_metric_or_argument() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let further = "shutdown: {drain_delay: 0s, grace: 20s}\nlog: {level: trace, format: json}\n";
    let keys = [("live", KEY, Scope { app_ids: vec![1_300_000_000], ..Scope::default() })];
    let config = config_file(folder.path(), &broker.address(), &keys, further);
    let mut program = Program::serve(&config);
    program.ready();
    let address = program.address("callbacks");
    let status = |body: String| ask(address, post(body)).status();
    let t = (epoch_seconds() + 600).to_string();
    let sign = signature(KEY, &t);
    let signed = |t: &str| format!(r#"{{{},"t":{t},"sign":"{sign}"}}"#, facts("secret"));
    assert_eq!(status(signed(&t)), 200);
    assert_eq!(status(signed(&t).replace("1300000000", "7")), 403, "out of scope");
    assert_eq!(status(signed("1700000600")), 403, "expired");
    assert_eq!(status(format!("{{\"key\":\"{KEY}\",\"t\":{t},\"sign\":\"{KEY}\"}}")), 403);
    for (content, sentence) in
        [(NEXT_KEY, "a key file has changed"), ("tooShortKey1", "a key file cannot be used"), (KEY, "a key file has")]
    {
        fs::write(folder.path().join("live"), content).expect("a key file");
        program.signal(Signal::HUP);
        program.says(sentence);
    }
    eventually("both changes were taken", || program.metric("key_reloads_total{result=\"taken\"}") == 2.0);
    let scrape = ask(program.address("admin"), get("/metrics"));
    let arguments = fs::read(format!("/proc/{}/cmdline", program.id())).expect("its arguments");
    program.terminate();
    assert_eq!(program.exit_code(), 0);
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    for (place, text) in [("log", program.log()), ("metrics", scrape.0), ("arguments", arguments)] {
        for secret in [KEY, NEXT_KEY, "tooShortKey1", &sign] {
            assert!(!text.contains(secret), "{place}: {secret}");
        }
    }
}

#[test]
fn no_command_takes_a_secret_in_an_argument() {
    let mut seen = 0;
    for command in
        [&["serve"][..], &["check"], &["send"], &["tail"], &["demo"], &["spool", "drain"], &["spool", "show"]]
    {
        let mut program = Program::start(command.iter().chain(&["--help"]));
        assert_eq!(program.exit_code(), 0);
        let help = program.out();
        // Lines such as `--key-file <FILE>  What it is`.
        for line in help.lines().map(str::trim_start).filter(|line| line.starts_with("--")) {
            let option = line.split_whitespace().next().unwrap_or_default();
            if ["key", "password", "secret", "token", "user"].iter().any(|word| option.contains(word)) {
                assert!(option.ends_with("-file") && line.contains("<FILE>"), "{command:?}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "send has its key from a file");
}
