//! Promise: what watches the bridge is true. Every alert fires when it should, is silent when it should be, and has a
//! runbook; rules, dashboard and runbooks name nothing that does not exist; and Prometheus itself, watching a real
//! bridge through an outage, says so (`motion`).

mod motion;
mod names;
mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use recording_bridge::kafka::Failure;
use recording_bridge::metrics::{Metrics, Outcome};
use recording_bridge::refusal::Refusal;
use serde_json::Value;

use crate::support::command::run_arguments;
use names::{Known, all_named};

const RUNBOOKS: &str = "deploy/runbooks/alerts";
const RULES: &str = "deploy/monitoring/recording-bridge.rules.yaml";

fn path(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(inside)
}

fn text(inside: &str) -> String {
    fs::read_to_string(path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
}

/// Files in a folder with an ending, by their names without it.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let found = fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().path());
    let found = found.filter(|path| path.extension().is_some_and(|found| found == ending));
    found.map(|path| (path.file_stem().unwrap().display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// Rules by the member that names them, `alert` or `record`. Two alerts may have one name, and differ in severity.
fn rules(member: &str) -> Vec<(String, Value)> {
    let rules: Value = serde_saphyr::from_str(&text(RULES)).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.filter_map(|rule| Some((rule[member].as_str()?.to_owned(), rule.clone()))).collect()
}

/// Every series that the bridge can have, as far as it is known beforehand.
fn page() -> String {
    let metrics = Metrics::new(&["live"], &Failure::ALL.map(Failure::label), "0");
    metrics.tls.in_use(0);
    metrics.tls.files_usable(true);
    metrics.spool.identify("00");
    // The histogram has an outcome once there was one.
    for outcome in
        [Outcome::Duplicate, Outcome::DeadLettered(Refusal::MemberMissing), Outcome::Refused(Refusal::NotJson)]
    {
        metrics.resolved(outcome, 0.0);
    }
    metrics.resolved(Outcome::Ignored(recording_bridge::callback::Kind::Unknown), 0.0);
    metrics.resolved(Outcome::PassedOn(recording_bridge::callback::Kind::Unknown), 0.0);
    String::from_utf8(metrics.render()).unwrap()
}

fn known() -> Known {
    Known::new(&page(), rules("record").into_iter().map(|(name, _)| name))
}

/// What a command says, if it succeeds.
fn succeed(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what is needed"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn every_alert_fires_when_it_should_and_stays_silent_when_it_should_not() {
    succeed(Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(path(RULES)));
    let folder = path("deploy/monitoring/tests");
    let cases = files("deploy/monitoring/tests", "yaml");
    succeed(
        Command::new("promtool")
            .args(["test", "rules"])
            .args(cases.keys().map(|name| folder.join(format!("{name}.yaml")))),
    );
    // Each check lists everything that fires, so whatever is not listed is seen to be silent.
    for (alert, rule) in rules("alert") {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        let fires = format!("{{alertname=\"{alert}\", severity=\"{severity}\"");
        assert!(cases.values().any(|cases| cases.contains(&fires)), "nothing shows that {alert} ({severity}) fires");
    }
}

#[test]
fn every_alert_says_what_is_at_risk_and_has_a_runbook_and_the_reverse() {
    let alerts = rules("alert");
    let pages = files(RUNBOOKS, "md");
    let names: BTreeSet<&String> = alerts.iter().map(|(alert, _)| alert).collect();
    assert_eq!(names, pages.keys().collect(), "left: alerts, right: runbooks");
    for (alert, rule) in &alerts {
        let annotation =
            |name: &str| rule["annotations"][name].as_str().unwrap_or_else(|| panic!("{alert}: no {name}"));
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{alert}");
        assert!(!annotation("summary").is_empty());
        let said = annotation("description");
        assert!(
            ["At risk", "Nothing", "The promise", "None of them", "Received is not", "The clocks agree", "A producer"]
                .iter()
                .any(|beginning| said.starts_with(beginning)),
            "{alert} does not begin with what is at risk: {said}"
        );
        assert!(annotation("runbook_url").ends_with(&format!("/{RUNBOOKS}/{alert}.md")), "{alert}");
    }
    for (page, text) in &pages {
        let parts: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(parts, ["## What users notice", "## Confirm", "## Mend", "## Verify", "## Do not"], "{page}");
        assert!(text.starts_with(&format!("# {page}\n")), "{page}");
        for target in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            assert!(path(RUNBOOKS).join(target).exists(), "{page}: a link leads to {target}, which is not there");
        }
    }
}

/// The expressions of the dashboard, with what Grafana puts in for the choices made there.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("deploy/monitoring/dashboard.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            let expression = expression.replace("$job", ".+").replace("$instance", ".+");
            found.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[test]
fn rules_dashboard_and_runbooks_name_only_what_exists() {
    let known = known();
    let runbooks = files(RUNBOOKS, "md");
    let texts = panels().into_iter().chain([(RULES.to_owned(), text(RULES))]).chain(runbooks.clone());
    let mut faults: Vec<String> = texts
        .flat_map(|(place, text)| known.faults(&text).into_iter().map(move |fault| format!("{place}: {fault}")))
        .collect();
    for (page, text) in runbooks {
        // A column under the name of a label has its values.
        for table in text.split("\n\n").filter(|part| part.starts_with("| ")) {
            let label = table.split('|').nth(1).unwrap().trim();
            for cell in table.lines().skip(2).map(|row| row.split('|').nth(1).unwrap()) {
                for value in cell.split('`').skip(1).step_by(2) {
                    if known.has_label(label) && !known.has_value(label, value) {
                        faults.push(format!("{page}: nothing has {label}=\"{value}\""));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let shown: BTreeSet<String> = panels()
        .iter()
        .flat_map(|(_, expression)| {
            all_named(expression).into_iter().map(|named| named.metric.to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let is_shown = |name: &&str| {
        shown.contains(*name)
            || ["_sum", "_count", ""]
                .iter()
                .any(|part| name.strip_suffix(part).is_some_and(|name| shown.contains(&format!("{name}_bucket"))))
    };
    let known = known();
    let hidden: Vec<&str> =
        known.metrics().filter(|name| name.starts_with("recording_bridge_") && !is_shown(name)).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn the_dashboard_is_what_its_script_makes_and_prometheus_can_read_it() {
    let made = succeed(&mut Command::new(path("deploy/monitoring/make-dashboard")));
    let kept = text("deploy/monitoring/dashboard.json");
    assert!(made == kept, "run: deploy/monitoring/make-dashboard > deploy/monitoring/dashboard.json");
    let rules: Vec<Value> = panels()
        .iter()
        .enumerate()
        .map(|(at, (_, expression))| serde_json::json!({"record": format!("panel:{at}"), "expr": expression}))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("panels.yaml");
    fs::write(&file, serde_json::json!({"groups": [{"name": "panels", "rules": rules}]}).to_string()).unwrap();
    succeed(Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(&file));
}

/// The patterns that runbooks look for in a page of metrics find something there, every alternative of them.
#[test]
fn what_runbooks_look_for_in_metrics_is_there() {
    let page = page();
    let mut looked = 0;
    for (runbook, text) in files(RUNBOOKS, "md") {
        for line in text.lines().filter(|line| line.contains("/metrics | grep ")) {
            let searched = line.split("/metrics | grep ").nth(1).unwrap().trim_start_matches("-E ");
            let pattern =
                if let Some(quoted) = searched.strip_prefix('\'') { quoted.split('\'') } else { searched.split(' ') };
            for pattern in alternatives(pattern.into_iter().next().unwrap()) {
                assert!(grep(&pattern, &page), "{runbook}: nothing matches {pattern}");
                looked += 1;
            }
        }
    }
    assert!(looked > 60, "{looked}");
}

/// The program knows every command of ours that a runbook gives, with its options.
#[test]
fn the_program_knows_the_commands_of_the_runbooks() {
    let mut tried = BTreeSet::new();
    for (runbook, text) in files(RUNBOOKS, "md") {
        // In blocks and in prose; an exec in a pod names the whole path.
        for quoted in text.replace("/usr/local/bin/", "").split('`').flat_map(str::lines) {
            let Some(given) =
                quoted.split("-- recording-bridge ").nth(1).or(quoted.trim().strip_prefix("recording-bridge "))
            else {
                continue;
            };
            let arguments: Vec<&str> = given.split(' ').take_while(|word| !["|", "&", ";"].contains(word)).collect();
            let ended = run_arguments(&[&arguments[..], &["--help"]].concat());
            assert_eq!(ended.code, Some(0), "{runbook}: {quoted}\n{}", ended.stderr);
            tried.insert(arguments.join(" "));
        }
    }
    assert!(tried.len() >= 10, "{tried:#?}");
}

/// A pattern once for each alternative of its outermost `|`, and for each of a group with the other groups as they are.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut depth = 0;
    let outer: Vec<&str> = pattern
        .split(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            letter == '|' && depth == 0
        })
        .collect();
    if outer.len() > 1 {
        return outer.into_iter().flat_map(alternatives).collect();
    }
    let groups: Vec<(usize, usize)> = pattern
        .match_indices('(')
        .map(|(open, _)| (open, open + pattern[open..].find(')').expect("a closed group")))
        .collect();
    if groups.is_empty() {
        return vec![pattern.to_owned()];
    }
    let chosen = |(open, close): (usize, usize)| {
        let each = pattern[open + 1..close].split('|');
        each.map(move |one| format!("{}{one}{}", &pattern[..open], &pattern[close + 1..]))
    };
    groups.into_iter().flat_map(chosen).collect()
}

fn grep(pattern: &str, page: &str) -> bool {
    let mut grep =
        Command::new("grep").args(["-E", pattern]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = grep.stdin.take().unwrap();
    let page = page.to_owned();
    let writer = std::thread::spawn(move || drop(input.write_all(page.as_bytes())));
    let found = grep.wait_with_output().unwrap().status.success();
    writer.join().unwrap();
    found
}

#[test]
fn our_faults_in_the_rules_are_the_refusals_that_get_a_503() {
    let ours: BTreeSet<&str> =
        Refusal::ALL.into_iter().filter(|refusal| refusal.status() == 503).map(Refusal::label).collect();
    let rules = text(RULES);
    let lists: Vec<BTreeSet<&str>> = rules
        .match_indices("ack_deadline|")
        .map(|(at, _)| rules[at..].split(['"', '\'']).next().unwrap().split('|').collect())
        .collect();
    assert!(lists.len() >= 4, "{lists:?}");
    for list in lists {
        let missing: Vec<_> = ours.difference(&list).copied().collect();
        // A process that stops refuses what another one takes, and callbacks of other kinds have an alert of their own.
        let excepted = ["shutting_down", "other_events_full", "other_events_unhealthy"];
        assert!(
            list.is_subset(&ours) && missing.iter().all(|reason| excepted.contains(reason)),
            "{list:?} lacks {missing:?}"
        );
    }
}

/// The operator takes the same rules, wrapped in an object of its own.
#[test]
fn the_operator_gets_the_same_rules() {
    let file = "deploy/components/prometheus-operator/rules.yaml";
    let rules = text(RULES);
    let at = rules.find("\ngroups:").unwrap();
    let indented: String = rules[at..]
        .lines()
        .skip(1)
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
        .collect();
    let kept = text(file);
    let head = kept.split("spec:\n").next().unwrap();
    let made = format!("{head}spec:\n{indented}");
    if std::env::var_os("RECORDING_BRIDGE_BLESS").is_some() {
        fs::write(path(file), &made).unwrap();
    }
    assert!(made == kept, "{file} is not {RULES}: run this test with RECORDING_BRIDGE_BLESS=1");
    let wrapped: Value = serde_saphyr::from_str(&kept).unwrap();
    let plain: Value = serde_saphyr::from_str(&rules).unwrap();
    assert_eq!(wrapped["spec"]["groups"], plain["groups"]);
}
