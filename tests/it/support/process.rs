//! Child processes that cannot outlive the tests.
//!
//! A static is never dropped, and a test process may be killed. So every child runs under a shell of its own that
//! reads commands from a pipe: when the test process is gone, however it went, the pipe ends, and the shell kills
//! the child and removes its folder. Signals go to the child itself, by its own id, which stays its own until the
//! shell reaps it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// $1: the child's log, $2: its folder, the rest: its command line. The trap keeps the shell alive for its work when
/// the kernel hangs up on a group that was orphaned while a member of it was stopped.
const SUPERVISOR: &str = r#"
trap : HUP
log=$1 folder=$2 child=
shift 2
while read -r word; do
    case $word in
        start) "$@" </dev/null >>"$log" 2>&1 & child=$!; echo "$child" ;;
        reap) wait "$child"; echo "$?"; child= ;;
    esac
done
[ -z "$child" ] || { kill -KILL "$child"; wait "$child"; }
rm -rf "$folder"
rmdir "${folder%/*}"
"#;

/// A command line under supervision, running or not.
pub(crate) struct Supervised {
    shell: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Option<Pid>,
    log: PathBuf,
}

impl Supervised {
    /// Prepares `command` (program and arguments) without running it. `folder` belongs to it from now on and is
    /// removed at the end, as is the folder around it if it is the last one in there; its output goes to `log` in it.
    pub(crate) fn new(folder: &Path, command: &[String]) -> Self {
        let log = folder.join("log");
        fs::write(&log, "").unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .args([&log, folder])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let words = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        Self { shell, words, answers, child: None, log }
    }

    /// Starts the child.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "already started");
        let answer = self.ask("start");
        self.child = Some(Pid::from_raw(answer.parse().unwrap()).unwrap());
    }

    /// Whether it was started and has not been reaped.
    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// The process id of the child.
    pub(crate) fn id(&self) -> i32 {
        self.child.expect("a started child").as_raw_nonzero().get()
    }

    /// Sends `signal` to the child itself.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.child.expect("a started child"), signal).unwrap();
    }

    /// Whether the child has ended by itself, and waits to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(child) = self.child else { return true };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero())).unwrap_or_default();
        // The state follows the name, which is in parentheses and may itself hold any character.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    /// Waits until the child has ended, and gives its exit code (128 + number for a signal).
    pub(crate) fn reap(&mut self, patience: Duration) -> i32 {
        wait_for("a process to end", patience, || self.log_tail(), || self.has_ended().then_some(()));
        self.child = None;
        self.ask("reap").parse().unwrap()
    }

    /// SIGKILL, and reaps it.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.reap(Duration::from_secs(20));
    }

    /// Everything it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines it has written.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- end of {}\n{}\n---", self.log.display(), lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.words.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The end of the pipe is the order to kill, to clean up and to leave.
        drop(self.words.take());
        drop(self.shell.wait());
    }
}
