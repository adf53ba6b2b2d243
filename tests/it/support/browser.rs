//! A real browser: Debian's Chromium, driven by `tests/browser/driver.mjs`, with what `tests/run --fetch-browser` keeps
//! in `tests/.cache`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// For what happens on the page by itself. A browser that starts on a busy machine takes many seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// It ends with the test, since its commands end then.
pub(crate) struct Browser {
    driver: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a page has done.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Errors and warnings on its console, dialogs, and what nobody has caught.
    pub(crate) errors: Vec<String>,
    /// Addresses that it has asked for.
    pub(crate) requests: Vec<String>,
}

impl Browser {
    /// Starts it, without a page.
    pub(crate) fn start() -> Self {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
        let fetched = Command::new(run).arg("--fetch-browser").stderr(Stdio::inherit()).output().unwrap();
        assert!(fetched.status.success(), "the browser is not there: see above");
        let paths = String::from_utf8(fetched.stdout).unwrap();
        let (folder, browser) = paths.trim_end().split_once('\n').unwrap();
        let mut driver = Command::new("node")
            .arg(Path::new(folder).join("driver.mjs"))
            .env("BROWSER", browser)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = driver.stdin.take();
        let answers = BufReader::new(driver.stdout.take().unwrap());
        Self { driver, commands, answers }
    }

    /// One command of the driver; what it comes to.
    #[track_caller]
    fn command(&mut self, command: &Value) -> Value {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the driver has ended: {command}"));
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["value"].take()
    }

    /// A new page of this width, in the `light` or the `dark` scheme.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str, width: u32, scheme: &str) {
        self.command(&json!({ "open": url, "width": width, "scheme": scheme }));
    }

    /// What an expression comes to on the page.
    #[track_caller]
    pub(crate) fn run(&mut self, expression: &str) -> Value {
        self.command(&json!({ "run": expression }))
    }

    /// Waits until an expression is true on the page.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(expression) != true {
            let is_late = Instant::now() > deadline;
            assert!(!is_late, "never came true: {expression}\n{}", self.run("document.body.innerText"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        self.command(&json!({ "fill": [selector, text] }));
    }

    #[track_caller]
    pub(crate) fn choose(&mut self, selector: &str, value: &str) {
        self.command(&json!({ "choose": [selector, value] }));
    }

    #[track_caller]
    pub(crate) fn press(&mut self, key: &str) {
        self.command(&json!({ "press": key }));
    }

    /// Writes what is visible to a file, as PNG.
    #[track_caller]
    pub(crate) fn picture(&mut self, file: &Path) {
        self.command(&json!({ "picture": file }));
    }

    /// What the present page has done so far.
    #[track_caller]
    pub(crate) fn seen(&mut self) -> Seen {
        let mut seen = self.command(&json!({ "seen": null }));
        let mut list = |name: &str| serde_json::from_value(seen[name].take()).unwrap();
        Seen { errors: list("errors"), requests: list("requests") }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.commands.take());
        drop(self.driver.wait());
    }
}
