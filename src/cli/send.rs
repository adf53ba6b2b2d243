//! `send`: sign and post sample callbacks, to try a deployment without the provider.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Map, Value};
use ureq::Agent;
use ureq::tls::{PemItem, TlsConfig, parse_pem};

use super::edition::{Edition, signed};
use super::terminal::Screen;
use super::{CommandError, terminal};
use crate::callback::{Key, KeyConfig, read_key};
use crate::clock::{Clock as _, SystemClock};
use crate::event::Timestamp;

/// Connections that wait for answers at the same time, at most.
const SENDERS_MAX: usize = 64;
/// Beyond this, single lines are of no use to anybody.
const LINES_MAX: u64 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to post, as given to the provider, such as `http://localhost:8080/callbacks/recording`.
    #[arg(value_parser = parse_url)]
    url: String,
    /// File that holds the callback key and nothing else.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Certificates of the authorities to trust (PEM), instead of the public ones.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Body to send instead of a sample: a JSON object; `t` and `sign` are put in.
    #[arg(long, value_name = "BODY.json", conflicts_with = "edition")]
    file: Option<PathBuf>,
    /// Edition of the sample, by the year of the provider's documentation.
    #[arg(long, value_enum, default_value = "2026")]
    edition: Edition,
    /// Stream of the sample; with --count, a number is added.
    #[arg(long, default_value = "sample")]
    stream: String,
    /// How many callbacks to send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Callbacks per second; without it, one after another.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Time to wait for an answer, in seconds. The provider waits 20.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// What came of the sending.
#[derive(Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    failed: u64,
    times: Vec<Duration>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let named =
        KeyConfig { name: "send".into(), file: arguments.key_file.clone(), app_ids: vec![], push_domains: vec![] };
    let key = read_key(&named, 1)
        .map_err(|error| CommandError::Usage(format!("{}: {error}", arguments.key_file.display())))?;
    let body = arguments.file.as_ref().map(read_body).transpose()?;
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        // The provider counts a redirect as a failure; and the signed body is for nobody else.
        .max_redirects(0)
        .timeout_global(Some(Duration::from_secs(arguments.timeout)))
        .tls_config(arguments.ca_file.as_deref().map(trusting).transpose()?.unwrap_or_default())
        .build()
        .into();
    let progress = progress(arguments.count);
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    let started = SystemClock.monotonic();
    let senders = if arguments.rate.is_none() { 1 } else { arguments.count.min(SENDERS_MAX as u64) };
    thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.count {
                        return;
                    }
                    wait_for_turn(started, number, arguments.rate);
                    let result = post(&agent, arguments, body.as_ref(), &key, number);
                    record(&tally, result, arguments.count, &progress);
                }
            });
        }
    });
    progress.finish_and_clear();
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    conclude(tally, SystemClock.monotonic().saturating_duration_since(started))
}

fn parse_url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(text.to_owned())
    } else {
        Err("the URL must begin with http:// or https://".to_owned())
    }
}

/// TLS that trusts the authorities in `file`, and no others.
fn trusting(file: &Path) -> Result<TlsConfig, CommandError> {
    let fault = |error: String| CommandError::Usage(format!("{}: {error}", file.display()));
    let text = fs::read(file).map_err(|error| fault(error.to_string()))?;
    let items = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let certificates = items.collect::<Result<Vec<_>, _>>().map_err(|error| fault(error.to_string()))?;
    if certificates.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    Ok(TlsConfig::builder().root_certs(certificates.into()).build())
}

fn read_body(file: &PathBuf) -> Result<Map<String, Value>, CommandError> {
    let fault = |error: String| CommandError::Usage(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fault(format!("not a JSON object: {error}")))
}

fn progress(count: u64) -> ProgressBar {
    if count <= LINES_MAX {
        return ProgressBar::hidden();
    }
    terminal::bar(count, "{bar:30} {pos}/{len} {per_sec} {eta} left")
}

/// Callback `number` has its own moment, so a slow answer does not slow the ones after it.
fn wait_for_turn(started: Instant, number: u64, rate: Option<u32>) {
    let Some(rate) = rate else { return };
    let turn = started + Duration::from_nanos(number.saturating_mul(1_000_000_000 / u64::from(rate)));
    thread::sleep(turn.saturating_duration_since(SystemClock.monotonic()));
}

fn post(
    agent: &Agent,
    arguments: &Arguments,
    body: Option<&Map<String, Value>>,
    key: &Key,
    number: u64,
) -> Result<(u16, String, Duration), String> {
    let now = Timestamp::from(SystemClock.wall());
    let stream =
        if arguments.count == 1 { arguments.stream.clone() } else { format!("{}-{}", arguments.stream, number % 100) };
    let members = body.cloned().unwrap_or_else(|| arguments.edition.sample(&stream, number, now));
    let text = signed(members, key, now);
    let started = SystemClock.monotonic();
    let mut answer = agent
        .post(&arguments.url)
        .header("content-type", "application/json")
        .send(text.as_bytes())
        .map_err(|error| error.to_string())?;
    let answer_text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    let taken = SystemClock.monotonic().saturating_duration_since(started);
    Ok((answer.status().as_u16(), answer_text, taken))
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn record(tally: &Mutex<Tally>, result: Result<(u16, String, Duration), String>, count: u64, progress: &ProgressBar) {
    progress.inc(1);
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let line = match result {
        Ok((status, body, taken)) => {
            if status == 200 {
                tally.accepted += 1;
            } else {
                tally.refused += 1;
            }
            tally.times.push(taken);
            format!("{status} {:.1} ms {}", taken.as_secs_f64() * 1000.0, body.trim())
        }
        Err(error) => {
            tally.failed += 1;
            format!("no answer: {error}")
        }
    };
    if count <= LINES_MAX {
        println!("{line}");
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn conclude(mut tally: Tally, taken: Duration) -> Result<(), CommandError> {
    let Tally { accepted, refused, failed, .. } = tally;
    let total = accepted + refused + failed;
    if total > 1 {
        tally.times.sort_unstable();
        let quantile = |share: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a place in a list of answers"
            )]
            let place = ((tally.times.len().saturating_sub(1)) as f64 * share) as usize;
            tally.times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        let sentence = format!(
            "{total} sent in {:.1} s: {accepted} accepted, {refused} refused, {failed} without an answer; \
             p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
            taken.as_secs_f64(),
            quantile(0.5),
            quantile(0.99),
            quantile(1.0)
        );
        println!("{}", Screen::out().broken(&sentence, 0));
    }
    if accepted == total {
        Ok(())
    } else {
        Err(CommandError::Failed(format!("{} of {total} callbacks were not accepted", total - accepted)))
    }
}
