//! The documents beside the manifests: an operator copies their commands at night, so what they name exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::overlay::{Overlay, list, name};
use super::root;
use super::workload::SECRETS;
use crate::support::command::run_arguments;

fn documents() -> Vec<(PathBuf, String)> {
    let runbooks = fs::read_dir(root().join("deploy/runbooks")).unwrap().map(|entry| entry.unwrap().path());
    // Those of alerts are tried by the tests of monitoring.
    let paths = runbooks.filter(|path| path.is_file()).chain([root().join("deploy/README.md")]);
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The commands of a document: lines of its blocks of shell, continued ones joined.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What a command gives to the program itself, up to where the shell takes over again.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let given = match command.split_once(" -- /usr/local/bin/recording-bridge ") {
        Some((_, given)) => given,
        None => command.trim_start().strip_prefix("recording-bridge ")?,
    };
    Some(given.split(' ').take_while(|word| !["|", ">", "&&", "&", ";"].contains(word)).collect())
}

/// Words that begin like something of ours, without what a shell adds.
fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let words = text.split(|letter: char| !inner(letter)).map(|word| word.trim_end_matches(['.', '-']));
    words.filter(|word| word.starts_with(start)).collect()
}

/// Every name that a command may use: of objects, of pods and claims, of what the project calls itself.
fn known_names() -> BTreeSet<String> {
    let overlay = Overlay::named("drain-orphan");
    let mut names: BTreeSet<String> = overlay.all().iter().map(|object| name(object).to_owned()).collect();
    names.extend(SECRETS.iter().map(|(secret, _)| (*secret).to_owned()));
    let ingress = overlay.of_kind("Ingress").next().unwrap();
    names.extend(list(&ingress["spec"]["tls"]).iter().map(|tls| tls["secretName"].as_str().unwrap().to_owned()));
    // Of the ConfigMap nobody names the digest.
    names.insert("recording-bridge".to_owned());
    names.extend((0..3).map(|number| format!("recording-bridge-{number}")));
    names
}

fn faults(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let known = known_names();
    for command in commands(text) {
        if let Some(arguments) = arguments(&command) {
            let ended = run_arguments(&[&arguments[..], &["--help"]].concat());
            if ended.code != Some(0) {
                faults.push(format!("the program does not know: {command}\n{}", ended.stderr));
            }
        }
        for part in command.split(['/', '.']) {
            let unknown = words(part, "recording-bridge").into_iter().find(|word| !known.contains(*word));
            faults.extend(unknown.map(|word| format!("there is no {word}: {command}")));
        }
    }
    let metrics = fs::read_to_string(root().join("README.md")).unwrap();
    for metric in words(text, "recording_bridge_") {
        // A pattern in parentheses ends where they begin.
        if !metric.ends_with('_') && !metrics.contains(&format!("\n| `{metric}` |")) {
            faults.push(format!("there is no metric {metric}"));
        }
    }
    for file in words(text, "deploy/").into_iter().chain(words(text, ".ci/")).chain(words(text, "tests/")) {
        if !root().join(file).exists() {
            faults.push(format!("there is no {file}"));
        }
    }
    for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if !path.parent().unwrap().join(target).exists() {
            faults.push(format!("a link leads to {target}, which is not there"));
        }
    }
    faults
}

#[test]
fn what_runbooks_name_exists() {
    for (path, text) in documents() {
        let faults = faults(&path, &text);
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
    }
    let path = root().join("deploy/runbooks/install.md");
    let text = fs::read_to_string(&path).unwrap();
    for (right, wrong, said) in [
        ("check --config", "check --confg", "does not know"),
        ("statefulset/recording-bridge ", "statefulset/recording-bridges ", "there is no recording-bridges"),
        ("exec recording-bridge-0 ", "exec recording-bridge-bridge-0 ", "there is no recording-bridge-bridge-0"),
        ("recording_bridge_callbacks_total", "recording_bridge_callback_total", "there is no metric"),
        ("-k deploy/overlays/production", "-k deploy/production", "there is no deploy/production"),
        ("(rotate-a-callback-key.md)", "(rotate.md)", "a link leads to rotate.md"),
    ] {
        assert!(text.contains(right), "{right}");
        let faults = faults(&path, &text.replace(right, wrong));
        assert!(faults.iter().any(|fault| fault.contains(said)), "{wrong}: {faults:#?}");
    }
}

#[test]
fn every_runbook_is_in_the_list_and_every_secret_is_made_by_one() {
    let readme = fs::read_to_string(root().join("deploy/README.md")).unwrap();
    for (path, text) in documents() {
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(file == "README.md" || readme.contains(&format!("](runbooks/{file})")), "{file} is not in the list");
        assert!(text.starts_with("# "), "{file} has no heading");
    }
    let install = fs::read_to_string(root().join("deploy/runbooks/install.md")).unwrap();
    for (secret, members) in SECRETS {
        let making = format!(" create secret generic {secret} ");
        let line = install.lines().find(|line| line.contains(&making)).unwrap_or_else(|| panic!("no {making}"));
        for member in members {
            assert!(line.contains(&format!("--from-file={member}=")), "{member} of {secret}");
        }
    }
}
