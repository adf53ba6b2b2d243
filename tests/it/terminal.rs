//! What people see on a terminal, and what scripts get instead.
//!
//! Promise: at 80 columns no line of help, and none that a command puts together from words, is longer; colours go to a
//! terminal alone, and to none that asks for none; scripts get whole lines, or one JSON object; and a shell completes what
//! the program really has. Lines to be copied (`curl` with a body) are not broken.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::command::{run, run_arguments};
use crate::support::spool::write;

const PROGRAM: &str = env!("CARGO_BIN_EXE_recording-bridge");
const COLUMNS: usize = 80;

/// What a terminal of 80 columns is sent when `line` runs in it, to its end. `variables` are set, and no other that matters.
/// When it has been sent `awaited`, Return is pressed.
fn on_a_terminal(line: &str, variables: &[(&str, &str)], awaited: &str) -> String {
    let session = format!("stty cols {COLUMNS} rows 24; {line}");
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60", "script", "--quiet", "--return", "--command", &session, "/dev/null"]);
    for name in ["NO_COLOR", "COLUMNS", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").env("SHELL", "/bin/sh").envs(variables.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("script, of util-linux: {error}"));
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut sent, mut pressed) = (Vec::new(), awaited.is_empty());
    let mut piece = [0; 4096];
    loop {
        let length = screen.read(&mut piece).unwrap();
        sent.extend_from_slice(&piece[..length]);
        if !pressed && String::from_utf8_lossy(&sent).contains(awaited) {
            keys.write_all(b"\n").unwrap();
            pressed = true;
        }
        if length == 0 {
            break;
        }
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&sent).into_owned()
}

/// The lines that stay to be seen, without colours.
fn lines(sent: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = sent;
    while let Some((before, sequence)) = rest.split_once('\x1b') {
        text.push_str(before);
        let end = sequence.find(|letter: char| letter.is_ascii_alphabetic()).expect("a control sequence ends");
        rest = &sequence[end + 1..];
    }
    text.push_str(rest);
    // What a bar wrote is written over.
    text.split('\n').map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap().to_owned()).collect()
}

fn assert_narrow(what: &str, lines: &[String]) {
    for line in lines {
        let to_be_copied = line.contains("-d '{");
        assert!(to_be_copied || line.chars().count() <= COLUMNS, "{what}: {} columns: {line}", line.chars().count());
    }
}

/// Every command with its subcommands, as words, from what the program says of itself.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![vec![]];
    let mut next = 0;
    while let Some(command) = found.get(next).cloned() {
        for name in subcommands(&help(&command)) {
            found.push(command.iter().cloned().chain([name]).collect());
        }
        next += 1;
    }
    found
}

fn help(command: &[String]) -> String {
    let output =
        Command::new(PROGRAM).args(command).arg("--help").env("COLUMNS", "80").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn subcommands(help: &str) -> Vec<String> {
    let section = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

#[test]
fn help_fits_into_eighty_columns() {
    let commands = commands();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        let lines: Vec<String> = help(&command).lines().map(str::to_owned).collect();
        assert_narrow(&format!("{command:?} --help"), &lines);
        // And it is broken at the width of the terminal, and not at some other.
        assert!(command.is_empty() || lines.iter().any(|line| line.chars().count() > 40), "{command:?}");
    }
}

/// A spool with damage, beside a configuration that is sound, and a callback.
fn desk() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    drop(write(&folder.path().join("spool"), 20));
    let segment = folder.path().join("spool/0000000000000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let callback = r#"{"event_type":100,"appid":1,"stream_id":"s","file_id":"f","stream_param":"a=b"}"#;
    fs::write(folder.path().join("callback.json"), callback).unwrap();
    let config = "callback: {keys: [{name: live, file: key}]}\nspool: {directory: spool}\n\
                  kafka: {brokers: [\"127.0.0.1:1\"], topic: recordings}\n";
    fs::write(folder.path().join("key"), "0123456789abcdef").unwrap();
    fs::write(folder.path().join("bridge.yaml"), config).unwrap();
    let unwritable = config.replace("directory: spool", "directory: key");
    fs::write(folder.path().join("unwritable.yaml"), unwritable).unwrap();
    fs::write(folder.path().join("faulty.yaml"), config.replace("topic", "topik")).unwrap();
    let here = format!("cd {};", folder.path().display());
    (folder, here)
}

#[test]
fn what_commands_say_fits_into_eighty_columns() {
    let (_folder, here) = desk();
    for (arguments, said) in [
        ("check --config bridge.yaml", "push domain"),
        ("check --online --config bridge.yaml", "no broker answers"),
        ("check --config faulty.yaml", "kafka.topik"),
        ("spool list --dir spool", "not seen in use"),
        ("spool verify --dir spool", "damaged place(s)"),
        ("spool show --dir nowhere", "there is no directory"),
        ("explain --file callback.json --config bridge.yaml", "member stream_id = \"s\""),
        ("replay --config bridge.yaml --from callback.json --dry-run", "left out"),
        ("send http://127.0.0.1:1/ --key-file key", "no answer"),
    ] {
        let sent = on_a_terminal(&format!("{here} {PROGRAM} {arguments}"), &[], "");
        let lines = lines(&sent);
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert!(words.join(" ").contains(said), "{arguments}: {sent}");
        assert_narrow(arguments, &lines);
    }
    let listed = on_a_terminal(&format!("{here} {PROGRAM} spool list --dir spool"), &[], "");
    assert!(listed.contains("\nFRAMES     19\r"), "what is too wide for a table is a list: {listed}");
    let free = "--listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --events 12";
    let demo = format!("{PROGRAM} demo {free} & read -r line; kill -INT $!; wait $!; echo \"demo ended with $?\"");
    let sent = on_a_terminal(&demo, &[], "Ctrl-C ends the demo");
    let lines = lines(&sent);
    assert!(lines.iter().any(|line| line == "demo ended with 0"), "{sent}");
    assert_eq!(lines.iter().filter(|line| line.contains(" ms  ")).count(), 12, "{sent}");
    assert_narrow("demo", &lines);
}

#[test]
fn colours_and_moving_lines_go_to_a_terminal_that_has_them_and_nowhere_else() {
    let (folder, here) = desk();
    for (arguments, coloured) in [
        ("check --config unwritable.yaml", "\x1b[1;31mFAULT\x1b[0m"),
        ("spool verify --dir spool", "\x1b[1;31mDAMAGED\x1b[0m"),
        ("explain --file callback.json --config bridge.yaml", "\x1b[1;31manswer\x1b[0m"),
        ("tail --help", "\x1b[1m"),
    ] {
        let line = format!("{here} {PROGRAM} {arguments}");
        let sent = on_a_terminal(&line, &[], "");
        assert!(sent.contains(coloured), "{arguments}: {sent:?}");
        let sent = on_a_terminal(&line, &[("NO_COLOR", "1")], "");
        let styled = sent.split("\x1b[").skip(1).any(|rest| {
            let end = rest.find(|letter: char| letter.is_ascii_alphabetic()).unwrap();
            rest[end..].starts_with('m')
        });
        assert!(!styled, "NO_COLOR: {arguments}: {sent:?}");
        let sent = on_a_terminal(&line, &[("TERM", "dumb"), ("CI", "true")], "");
        assert!(!sent.contains('\x1b'), "TERM=dumb: {arguments}: {sent:?}");
        let output = Command::new("sh").args(["-c", &line]).env("TERM", "xterm").output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "no terminal: {arguments}");
    }
    let asking = format!("{here} {PROGRAM} tail --config bridge.yaml");
    for (term, moves) in [("xterm", true), ("dumb", false)] {
        let sent = on_a_terminal(&asking, &[("TERM", term)], "");
        assert!(sent.contains("no broker answers"), "{sent}");
        assert_eq!((sent.contains("asking the brokers"), sent.contains('\x1b')), (moves, moves), "{term}: {sent:?}");
    }
    // No terminal: whole lines, whatever their length.
    let checked = run("check", &folder.path().join("bridge.yaml"), &[]);
    assert!(checked.has("ok", "good for every account and every push domain"), "{checked:?}");
    assert!(checked.stdout.lines().any(|line| line.chars().count() > COLUMNS), "{checked:?}");
}

#[test]
fn a_script_gets_one_json_object_that_says_what_the_lines_say() {
    let (folder, _) = desk();
    let config = |name: &str| folder.path().join(name);
    let object = |text: &str| -> Value { serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")) };
    let said = |found: &Value, verdict: &str, words: &str| {
        let mut findings = found["findings"].as_array().unwrap().iter();
        findings.any(|one| one["verdict"] == verdict && one["sentence"].as_str().unwrap().contains(words))
    };
    let checked = run("check", &config("bridge.yaml"), &["--json"]);
    let found = object(&checked.stdout);
    assert!(checked.code == Some(0) && found["faults"] == 0, "{checked:?}");
    assert!(said(&found, "ok", "key live: 16 characters"), "{checked:?}");
    let checked = run("check", &config("bridge.yaml"), &["--json", "--online"]);
    assert!(checked.code == Some(1) && said(&object(&checked.stdout), "fault", "no broker answers"), "{checked:?}");
    let checked = run("check", &config("faulty.yaml"), &["--json"]);
    let found = object(&checked.stdout);
    assert!(checked.code == Some(64) && found["faults"] == 2, "{checked:?}");
    assert!(said(&found, "fault", "faulty.yaml:3: kafka.topik"), "{checked:?}");

    let spool = config("spool");
    let verified = run_arguments(&["spool", "verify", "--json", "--dir", spool.to_str().unwrap()]);
    let found = object(&verified.stdout);
    assert_eq!((verified.code, &found["damaged"]), (Some(1), &Value::from(1)), "{verified:?}");
    let place = &found["spools"][0]["files"][0]["damaged"][0];
    assert!(place["lost"] == "sequence 2 is missing" && place["bytes"] == 557, "{verified:?}");
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let verified = run_arguments(&["spool", "verify", "--json", "--dir", empty]);
    assert!(verified.code == Some(0) && object(&verified.stdout)["spools"] == Value::Array(vec![]), "{verified:?}");
    let verified = run_arguments(&["spool", "verify", "--dir", empty]);
    assert!(verified.code == Some(0) && verified.has("note", "nothing was there to be read"), "{verified:?}");

    let callback = config("callback.json");
    let explained = run("explain", &config("bridge.yaml"), &["--json", "--file", callback.to_str().unwrap()]);
    let found = object(&explained.stdout);
    assert!(explained.code == Some(1) && found["refused"] == "signature_missing", "{explained:?}");
    assert!(found["advice"].as_str().unwrap().contains("set the callback key"), "{explained:?}");
    assert!(found["steps"].as_array().unwrap().iter().any(|step| step["step"] == "partition"), "{explained:?}");
}

/// What bash makes of `words` when Tab is pressed behind the last one.
fn completed(script: &Path, words: &[&str]) -> BTreeSet<String> {
    let ask = r#"
        source "$1" && shift
        function=$(complete -p recording-bridge | sed 's/.* -F \([^ ]*\) .*/\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "$function" recording-bridge "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", ask, "bash"]).arg(script).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_what_the_program_has() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("recording-bridge.bash");
    fs::write(&script, run_arguments(&["completions", "bash"]).stdout).unwrap();
    let syntax = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(syntax.status.success(), "{}", String::from_utf8_lossy(&syntax.stderr));
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(completed(&script, &["recording-bridge", "sp"]), set(&["spool"]));
    assert_eq!(completed(&script, &["recording-bridge", "spool", "ver"]), set(&["verify"]));
    assert_eq!(completed(&script, &["recording-bridge", "check", "--on"]), set(&["--online"]));
    for command in commands().iter().filter(|command| !command.is_empty()) {
        let words: Vec<&str> = ["recording-bridge"].into_iter().chain(command.iter().map(String::as_str)).collect();
        assert!(completed(&script, &words).contains(command.last().unwrap()), "{command:?}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let made = run_arguments(&["completions", shell]);
        assert!(made.code == Some(0) && made.stdout.contains("recording-bridge"), "{shell}: {made:?}");
    }
    assert_eq!(run_arguments(&["completions", "teletype"]).code, Some(64));
}

#[test]
fn the_readme_names_every_command_and_every_json_and_no_other() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## Commands\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let first_words = |row: &&str| {
        let cell = row.split(" | ").next().unwrap();
        let quoted = cell.split('`').skip(1).step_by(2);
        let names = quoted.filter(|text| !text.starts_with("--"));
        names.map(|text| text.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let named: BTreeSet<String> = rows.iter().flat_map(first_words).collect();
    let there: BTreeSet<String> = commands().iter().filter_map(|command| command.first().cloned()).collect();
    assert_eq!(named, there, "left: README, right: the program");
    let with_json: BTreeSet<String> = commands()
        .iter()
        .filter(|command| help(command).contains("--json"))
        .map(|command| format!("`{}`", command.join(" ")))
        .collect();
    let sentence = section.lines().find(|line| line.contains("`--json`")).expect("the README tells of --json");
    for command in &with_json {
        assert!(sentence.contains(command.as_str()), "{command} is not in: {sentence}");
    }
    assert_eq!(sentence.matches('`').count() / 2, with_json.len() + 1, "{sentence}");
}
