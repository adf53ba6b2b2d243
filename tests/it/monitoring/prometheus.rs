//! Debian's Prometheus, with the real rules at a faster pace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::kafka::free_ports;
use crate::support::process::Supervised;
use crate::support::wait_for;

/// By how much every duration in the rules is shorter here.
pub(super) const FASTER: u64 = 30;

/// A Prometheus that runs. Dropping it kills it.
pub(super) struct Prometheus {
    process: Supervised,
    address: SocketAddr,
    started: f64,
}

impl Prometheus {
    /// Watches these bridges, each under a job of its own, once a second.
    pub(super) fn watch(rules: &str, bridges: &[(&str, &Bridge)]) -> Self {
        let folder = tempfile::Builder::new().prefix("recording-bridge-tests-").tempdir().unwrap().keep();
        let home = folder.join("prometheus");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("rules.yaml"), faster(rules)).unwrap();
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
            rule_files: [rules.yaml]\nscrape_configs:\n"
            .to_owned();
        for (job, bridge) in bridges {
            writeln!(config, "  - {{job_name: {job}, static_configs: [{{targets: ['{}']}}]}}", bridge.admin()).unwrap();
        }
        fs::write(home.join("prometheus.yaml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
        let command = [
            "prometheus".to_owned(),
            format!("--config.file={}", home.join("prometheus.yaml").display()),
            format!("--storage.tsdb.path={}", home.join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let mut process = Supervised::new(&home, &command);
        process.start();
        let started = seconds_now();
        let this = Self { process, address, started };
        wait_for(
            "Prometheus",
            Duration::from_secs(60),
            || this.evidence(),
            || {
                assert!(!this.process.has_ended(), "{}\ntests/run installs prometheus", this.evidence());
                this.get("/-/ready").is_some_and(|answer| answer.contains("Ready")).then_some(())
            },
        );
        this
    }

    pub(super) fn evidence(&self) -> String {
        self.process.log_tail()
    }

    /// The body of a 200. By HTTP/1.0, so that it ends with the connection.
    fn get(&self, path: &str) -> Option<String> {
        let mut connection = TcpStream::connect(self.address).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
    }

    fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Value {
        let mut url = format!("/api/v1/{path}?");
        for (name, value) in parameters {
            write!(url, "{name}=").unwrap();
            for byte in value.bytes() {
                write!(url, "%{byte:02x}").unwrap();
            }
            url.push('&');
        }
        let answer =
            self.get(&url).unwrap_or_else(|| panic!("no answer to {path} {parameters:?}\n{}", self.evidence()));
        serde_json::from_str::<Value>(&answer).unwrap()["data"].clone()
    }

    /// What an expression comes to now: the number of series.
    pub(super) fn count(&self, expression: &str) -> usize {
        self.ask("query", &[("query", expression.to_owned())])["result"].as_array().unwrap().len()
    }

    /// Every value that an expression has had since the start, by series: labels, and when it was what.
    pub(super) fn history(&self, expression: &str) -> Vec<(Value, Vec<(f64, f64)>)> {
        let range = [
            ("query", expression.to_owned()),
            ("start", format!("{:.0}", self.started)),
            ("end", format!("{:.0}", seconds_now())),
            ("step", "1".to_owned()),
        ];
        let answer = self.ask("query_range", &range);
        let sample = |sample: &Value| (sample[0].as_f64().unwrap(), sample[1].as_str().unwrap().parse().unwrap());
        let series = |series: &Value| {
            (series["metric"].clone(), series["values"].as_array().unwrap().iter().map(sample).collect())
        };
        answer["result"].as_array().unwrap().iter().map(series).collect()
    }

    /// Alerts that have fired since the start, of a job or of none, and when each did first.
    pub(super) fn fired(&self, job: &str) -> BTreeMap<String, f64> {
        let expression = format!("ALERTS{{alertstate=\"firing\", job=~\"{job}|\"}}");
        let mut fired = BTreeMap::new();
        for (labels, samples) in self.history(&expression) {
            let name = labels["alertname"].as_str().unwrap().to_owned();
            let first = fired.entry(name).or_insert(f64::MAX);
            *first = f64::min(*first, samples[0].0);
        }
        fired
    }

    /// The alerts of a job that are firing now, with their texts.
    pub(super) fn firing(&self, job: &str) -> BTreeMap<String, Value> {
        let answer = self.ask("alerts", &[]);
        let alerts = answer["alerts"].as_array().unwrap().iter();
        let ours = alerts.filter(|alert| alert["state"] == "firing" && alert["labels"]["job"] == job);
        ours.map(|alert| (alert["labels"]["alertname"].as_str().unwrap().to_owned(), alert["annotations"].clone()))
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as f64 / 1000.0
}

/// The rules with each duration (in `[…]`, behind `offset` and behind `for:`) [`FASTER`] times shorter, and nothing else.
pub(super) fn faster(rules: &str) -> String {
    let mut made = String::new();
    let mut rest = rules;
    let next = |rest: &str| {
        let starts = ["[", "offset ", "for: "].into_iter().filter_map(|start| Some(rest.find(start)? + start.len()));
        starts.min()
    };
    while let Some(at) = next(rest) {
        let (before, after) = rest.split_at(at);
        let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let unit = match after[digits..].chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => 0,
        };
        made.push_str(before);
        rest = after;
        if let (Ok(number), 1..) = (after[..digits].parse::<u64>(), unit) {
            write!(made, "{}ms", number * unit * 1000 / FASTER).unwrap();
            rest = &after[digits + 1..];
        }
    }
    made + rest
}

#[test]
fn faster_rules_differ_in_their_durations_alone() {
    let rules = "expr: a{x=\"[y]\"}[90s] > 2 * 3600 and b[1w] offset 1d\nfor: 2m\nlabels: {severity: critical}\n";
    let expected = "expr: a{x=\"[y]\"}[3000ms] > 2 * 3600 and b[20160000ms] offset 2880000ms\nfor: 4000ms\nlabels: {severity: critical}\n";
    assert_eq!(faster(rules), expected);
}
