//! `check`: every fault of a configuration file at once, and with `--online` what Kafka has to say.

use std::path::PathBuf;

use serde_json::json;

use super::spool::written;
use super::terminal::{Screen, Tone};
use super::{CommandError, online};
use crate::callback::read_key;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, SpoolConfig};
use crate::event::Timestamp;
use crate::http::tls::{self, Pair, Standing};
use crate::kafka::{LibrdkafkaProducers, Producers as _};
use crate::spool::{Directory, Storage as _};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Also ask the brokers: are they there, does the topic exist, how many partitions and replicas has it, does it
    /// keep what acks=all promises, does it take messages of our size.
    #[arg(long)]
    online: bool,
    /// Print one JSON object instead of lines: `faults`, and `findings` with `verdict` and `sentence` each.
    #[arg(long)]
    json: bool,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    sentence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Fault,
}

impl Findings {
    pub(super) fn good(&mut self, sentence: impl Into<String>) {
        self.0.push(Finding { verdict: Verdict::Ok, sentence: sentence.into() });
    }

    pub(super) fn warning(&mut self, sentence: impl Into<String>) {
        self.0.push(Finding { verdict: Verdict::Warning, sentence: sentence.into() });
    }

    pub(super) fn fault(&mut self, sentence: impl Into<String>) {
        self.0.push(Finding { verdict: Verdict::Fault, sentence: sentence.into() });
    }

    fn faults(&self) -> usize {
        self.0.iter().filter(|finding| finding.verdict == Verdict::Fault).count()
    }

    /// One line each.
    fn lines(&self, screen: Screen) -> String {
        let line = |Finding { verdict, sentence }: &Finding| {
            let (mark, tone) = match verdict {
                Verdict::Ok => ("ok", Tone::Good),
                Verdict::Warning => ("warning", Tone::Doubtful),
                Verdict::Fault => ("FAULT", Tone::Bad),
            };
            screen.marked(mark, Some(tone), 8, sentence) + "\n"
        };
        self.0.iter().map(line).collect()
    }

    fn as_json(&self) -> String {
        let findings = self.0.iter().map(|Finding { verdict, sentence }| {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Fault => "fault",
            };
            json!({ "verdict": verdict, "sentence": sentence })
        });
        format!("{}\n", json!({ "faults": self.faults(), "findings": findings.collect::<Vec<_>>() }))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut findings = Findings::default();
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        // As compilers write it: whoever reads it wants to jump to the line.
        Err(faults) if !arguments.json => {
            return Err(CommandError::Usage(format!("the configuration is faulty:\n{faults}")));
        }
        Err(faults) => {
            faults.to_string().lines().for_each(|fault| findings.fault(fault));
            return conclude(arguments, &findings, findings.faults());
        }
    };
    findings.good(format!("{} has no fault", arguments.config.display()));
    for warning in config.warnings() {
        findings.warning(warning);
    }
    look_at_keys(&config, &mut findings);
    if let Some(files) = &config.http.tls {
        look_at_certificate(files, &mut findings);
    }
    let producer = LibrdkafkaProducers::new(&config.kafka).and_then(|producers| producers.check());
    match &producer {
        Ok(()) => findings.good("the settings of the producer are usable"),
        Err(error) => findings.fault(error.to_string()),
    }
    let offline_faults = findings.faults();
    look_at_spool(&config.spool, &mut findings);
    // With settings that make no client nobody can be asked; that is said already.
    if arguments.online && producer.is_ok() {
        online::look(&config.kafka, config.http.body_bytes_max, &mut findings);
    }
    conclude(arguments, &findings, offline_faults)
}

/// Of the faults, so many are of the file and those that it names.
fn conclude(arguments: &Arguments, findings: &Findings, usage_faults: usize) -> Result<(), CommandError> {
    let text = if arguments.json { findings.as_json() } else { findings.lines(Screen::out()) };
    written(std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()))?;
    let sentence = format!("{} fault(s)", findings.faults());
    match findings.faults() {
        0 => Ok(()),
        _ if usage_faults > 0 => Err(CommandError::Usage(sentence)),
        _ => Err(CommandError::Failed(sentence)),
    }
}

/// Whether this user may write there; the bridge may be another one.
fn look_at_spool(config: &SpoolConfig, findings: &mut Findings) {
    if !config.enabled {
        return;
    }
    let directory = Directory::at(&config.directory);
    let shown = config.directory.display();
    match directory.try_access() {
        Err(error) => {
            return findings.fault(format!(
                "spool.directory {shown}: {error}: the user of the bridge has to be able to write there; give it the \
                 directory, or name another"
            ));
        }
        Ok(false) => findings.good(format!("spool.directory {shown} can be made by this user")),
        Ok(true) => findings.good(format!("spool.directory {shown} can be written by this user")),
    }
    if let Some(free) = directory.free_bytes().ok().filter(|free| *free < config.disk_free_min) {
        findings.warning(format!(
            "spool.directory {shown}: {} MiB are free, less than spool.disk_free_min: it takes no events",
            free >> 20
        ));
    }
}

/// Names and lengths, never the keys themselves.
fn look_at_keys(config: &Config, findings: &mut Findings) {
    for named in &config.callback.keys {
        let file = named.file.display();
        match read_key(named, config.callback.key_length_min) {
            Ok(key) => {
                let bound = |count: usize, what: &str| match count {
                    0 => format!("every {what}"),
                    count => format!("{count} {what}(s)"),
                };
                let accounts = bound(named.app_ids.len(), "account");
                let domains = bound(named.push_domains.len(), "push domain");
                findings.good(format!(
                    "key {}: {} characters in {file}, good for {accounts} and {domains}",
                    named.name,
                    key.length()
                ));
            }
            Err(error) => findings.fault(format!("key {} ({file}): {error}", named.name)),
        }
    }
}

/// What the senders will see. One that is not valid now is a fault here, although the bridge starts with it: the
/// provider may not look, but whoever asks wants to know before it does.
fn look_at_certificate(files: &tls::Config, findings: &mut Findings) {
    let file = files.certificate_file.display();
    let pair = match Pair::read(files) {
        Ok(pair) => pair,
        Err(error) => return findings.fault(format!("http.tls: {error}")),
    };
    let validity = pair.validity();
    let names = if pair.names().is_empty() { "no name".to_owned() } else { pair.names().join(", ") };
    findings.good(format!("http.tls: the key fits the certificate in {file}, which is for {names}"));
    match pair.standing(Timestamp::from(SystemClock.wall())) {
        Standing::Valid => findings.good(format!("{file}: valid {validity}")),
        Standing::EndsSoon => findings.warning(format!("{file}: ends in less than 14 days: valid {validity}")),
        Standing::NotYetValid => findings.fault(format!("{file}: not valid yet: valid {validity}")),
        Standing::Expired => findings.fault(format!("{file}: has expired: valid {validity}")),
    }
    for doubt in pair.doubts() {
        findings.warning(format!("{file}: {doubt}"));
    }
}
