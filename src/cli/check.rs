//! `check`: every fault of a configuration file at once, and with `--online` what Kafka has to say.

use std::path::PathBuf;

use super::serve::read_config;
use super::{CommandError, online};
use crate::callback::read_key;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::event::Timestamp;
use crate::http::tls::{self, Pair, Standing};
use crate::kafka::{LibrdkafkaProducers, Producers as _};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Also ask the brokers: are they there, does the topic exist, how many partitions and replicas has it, does it
    /// keep what acks=all promises, does it take messages of our size.
    #[arg(long)]
    online: bool,
}

/// What was looked at, one line each.
#[derive(Debug, Default)]
pub(super) struct Findings {
    lines: Vec<String>,
    faults: usize,
}

impl Findings {
    pub(super) fn good(&mut self, sentence: impl AsRef<str>) {
        self.lines.push(format!("ok       {}", sentence.as_ref()));
    }

    pub(super) fn warning(&mut self, sentence: impl AsRef<str>) {
        self.lines.push(format!("warning  {}", sentence.as_ref()));
    }

    pub(super) fn fault(&mut self, sentence: impl AsRef<str>) {
        self.faults += 1;
        self.lines.push(format!("FAULT    {}", sentence.as_ref()));
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let config = read_config(&arguments.config)?;
    let mut findings = Findings::default();
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
    let offline_faults = findings.faults;
    // With settings that make no client nobody can be asked; that is said already.
    if arguments.online && producer.is_ok() {
        online::look(&config.kafka, config.http.body_bytes_max, &mut findings);
    }
    for line in &findings.lines {
        println!("{line}");
    }
    let sentence = format!("{} fault(s)", findings.faults);
    match findings.faults {
        0 => Ok(()),
        _ if offline_faults > 0 => Err(CommandError::Usage(sentence)),
        _ => Err(CommandError::Failed(sentence)),
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
