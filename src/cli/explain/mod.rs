//! `explain`: what the bridge does with a captured callback, step by step, and why.
//!
//! It walks the same path as the intake, by the same functions, and goes on where the intake would stop, so that one look
//! shows everything. Neither signature nor key is ever printed, and what events mask is masked here.

mod partition;
mod sources;

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::CommandError;
use super::serve::{read_config, read_keys};
use super::spool::written;
use super::terminal::{Screen, Tone};
use crate::callback::{
    self, AuthenticCallback, Inauthentic, KeyConfig, Keyring, Normalised, Redaction, Rejection, Unusable,
    UnusableReason, Window, authenticate, read_key,
};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::event::Timestamp;
use crate::http::other;
use crate::message::Message;
use crate::refusal::Refusal;

/// Seconds from signing to expiry.
const LIFE_SECONDS: i64 = 600;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The callback's body: one JSON object.
    #[arg(long, value_name = "REQUEST.json")]
    file: PathBuf,
    /// File that holds a callback key and nothing else; may be given several times. Such a key is good for every account and
    /// push domain. Without it, the keys of the configuration are tried, with what they are bound to.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    key_file: Vec<PathBuf>,
    /// Configuration file: its window, masking, published kinds and keys are used. Without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// When it was received, such as 2026-03-05T08:00:00Z; without it, now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    partitions: u32,
    /// Print one JSON object instead of lines: `answer`, `refused`, `advice`, and the steps.
    #[arg(long)]
    json: bool,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "must be a time in UTC, such as 2026-03-05T08:00:00Z".to_owned())
}

/// What is told, and what the bridge would answer.
#[derive(Default)]
struct Account {
    /// Each with its name.
    steps: Vec<(&'static str, String)>,
    /// Why the callback is refused, from the first step that does.
    refused: Option<Refusal>,
}

impl Account {
    fn step(&mut self, name: &'static str, sentence: impl Into<String>) {
        self.steps.push((name, sentence.into()));
    }

    fn refuse(&mut self, reason: Refusal) {
        self.refused = self.refused.or(Some(reason));
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let fault = |error: std::io::Error| CommandError::Usage(format!("{}: {error}", arguments.file.display()));
    let body = fs::read(&arguments.file).map_err(fault)?;
    let config = arguments.config.as_ref().map(|path| read_config(path)).transpose()?;
    let other_events = config.as_ref().is_some_and(|config| config.kafka.other_events_topic.is_some());
    let keyring = keyring(arguments, config.as_ref())?;
    let config = config.map_or_else(|| callback::Config::new(Vec::new()), |config| config.callback);
    let now = arguments.at.unwrap_or_else(|| Timestamp::from(SystemClock.wall()));
    let mut account = Account::default();
    let there = Destination { partitions: arguments.partitions, other_events };
    let answer = explain(&mut account, &body, &keyring, &config, now, there);
    let text = if arguments.json { as_json(&account, &answer) } else { lines(account.steps, account.refused, answer) };
    written(std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()))?;
    match account.refused {
        None => Ok(()),
        Some(refusal) => Err(CommandError::Failed(format!("the callback would be refused: {}", refusal.label()))),
    }
}

fn lines(steps: Vec<(&'static str, String)>, refused: Option<Refusal>, answer: String) -> String {
    let screen = Screen::out();
    let line = |tone, (name, sentence): (&str, String)| screen.marked(name, tone, 10, &sentence) + "\n";
    let mut text: String = steps.into_iter().map(|step| line(None, step)).collect();
    let tone = if refused.is_none() { Tone::Good } else { Tone::Bad };
    text.push_str(&line(Some(tone), ("answer", answer)));
    if let Some(refusal) = refused {
        text.push_str(&line(None, ("advice", refusal.advice().to_owned())));
    }
    text
}

fn as_json(account: &Account, answer: &str) -> String {
    let steps = account.steps.iter().map(|(name, sentence)| json!({ "step": name, "sentence": sentence }));
    let (refused, advice) = account.refused.map(|refusal| (refusal.label(), refusal.advice())).unzip();
    let steps: Vec<Value> = steps.collect();
    format!("{}\n", json!({ "answer": answer, "refused": refused, "advice": advice, "steps": steps }))
}

/// Where messages go.
#[derive(Clone, Copy)]
struct Destination {
    partitions: u32,
    /// Whether there is a topic for kinds that are not published.
    other_events: bool,
}

/// The keys that are named one by one, or else those of the configuration.
fn keyring(arguments: &Arguments, config: Option<&Config>) -> Result<Keyring, CommandError> {
    if let (true, Some(config)) = (arguments.key_file.is_empty(), config) {
        return read_keys(config);
    }
    let keys = arguments.key_file.iter().map(|file| {
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let key = KeyConfig { name, file: file.clone(), app_ids: vec![], push_domains: vec![] };
        read_key(&key, 1).map_err(|error| CommandError::Usage(format!("{}: {error}", file.display())))
    });
    Ok(Keyring::new(keys.collect::<Result<_, _>>()?))
}

/// Tells of every step, and gives the answer.
fn explain(
    account: &mut Account,
    body: &[u8],
    keyring: &Keyring,
    config: &callback::Config,
    now: Timestamp,
    there: Destination,
) -> String {
    let callback = match AuthenticCallback::assumed_without_signature(body) {
        Ok(callback) => callback,
        Err(malformed) => {
            account.step(
                "body",
                format!("{} bytes, but {malformed:?}: no JSON object in UTF-8 with names of its own", body.len()),
            );
            account.refuse(Rejection::Malformed(malformed).into());
            return "400, sent again by the provider".to_owned();
        }
    };
    let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    account.step("body", format!("{} bytes, a JSON object of {} members", body.len(), members.len()));
    tell_signature(account, body, &members, keyring, config, now);
    let redaction = Redaction::new(&config.masked_names);
    let outcome = tell_event(account, &callback, &members, config, &redaction, now, there);
    match account.refused {
        Some(refusal) => {
            let reason = refusal.label();
            format!("403 ({reason}), sent again by the provider; the rest is what would come of it otherwise")
        }
        None => outcome,
    }
}

fn tell_signature(
    account: &mut Account,
    body: &[u8],
    members: &Map<String, Value>,
    keyring: &Keyring,
    config: &callback::Config,
    now: Timestamp,
) {
    let window = Window::new(config);
    let verdict = authenticate(body, keyring, window, now).map(|authentic| authentic.key_index());
    let key = |index: usize| keyring.keys().get(index).map_or("", callback::Key::name).to_owned();
    let sentence = match &verdict {
        Ok(index) | Err(Rejection::Untimely { key_index: index, .. }) => format!("made with the key {}", key(*index)),
        Err(Rejection::Inauthentic(inauthentic)) => unproven(*inauthentic).to_owned(),
        Err(Rejection::Malformed(malformed)) => format!("{malformed:?}"),
    };
    account.step("signature", sentence);
    if let Err(rejection) = verdict {
        account.refuse(rejection.into());
    }
    let Some(t) = members.get("t").and_then(Value::as_i64) else { return };
    let seconds = now.seconds().saturating_sub(t.saturating_sub(LIFE_SECONDS));
    let (grace, skew) = (config.expiry_grace.as_secs(), config.clock_skew.as_secs());
    let until = t.saturating_add_unsigned(grace);
    let place = if now.seconds() > until {
        "too late"
    } else if seconds < -i64::try_from(skew).unwrap_or(i64::MAX) {
        "too early"
    } else {
        "in time"
    };
    account.step(
        "window",
        format!(
            "signed {seconds} s before it was received ({now}); taken from {skew} s before that until {} s after it: {place}",
            LIFE_SECONDS.saturating_add_unsigned(grace)
        ),
    );
}

/// Why a signature shows nothing.
fn unproven(inauthentic: Inauthentic) -> &'static str {
    match inauthentic {
        Inauthentic::SignatureMissing => "t or sign is absent: is a key set in the provider's console?",
        Inauthentic::SignatureMalformed => "t is not an integer of ten digits, or sign is no text",
        Inauthentic::SignatureMismatch | Inauthentic::Expired | Inauthentic::TooFarAhead => {
            "sign is not the MD5 of a key and t: another key, or t was changed on the way"
        }
        Inauthentic::OutOfScope => "made with a key that is bound to other accounts or push domains than it names",
        Inauthentic::ScopeMemberMissing => {
            "made with a key that is bound to accounts or push domains, and it names none"
        }
    }
}

/// Tells of kind, event and message, and gives the answer to an authentic callback.
fn tell_event(
    account: &mut Account,
    callback: &AuthenticCallback<'_>,
    members: &Map<String, Value>,
    config: &callback::Config,
    redaction: &Redaction,
    now: Timestamp,
    there: Destination,
) -> String {
    if let Ok(kind) = callback.kind() {
        let published = kind.event_kind().filter(|_| config.published_kinds.holds(kind));
        let other = if there.other_events { "passed on to kafka.other_events_topic" } else { "counted, not published" };
        let fate = published.map_or(format!("acknowledged, {other}"), |kind| format!("becomes {kind}"));
        account.step(
            "kind",
            format!("event_type {}: {}, {fate}", members.get("event_type").unwrap_or(&Value::Null), kind.label()),
        );
    }
    let (message, dropped) = match callback.normalise(redaction, config.published_kinds) {
        Ok(Normalised::Recording { event, members_dropped }) => (Message::encode(&event, now), members_dropped),
        Ok(Normalised::Notice { notice, members_dropped }) => (Message::encode_notice(&notice, now), members_dropped),
        Ok(Normalised::Ignored(ignored)) if there.other_events => {
            let message = other::write(callback, &ignored, redaction, now);
            account.step("payload", String::from_utf8_lossy(message.payload()));
            tell_message(account, &message, there.partitions);
            return "200 when the callback is synced on disk, among the other events".to_owned();
        }
        Ok(Normalised::Ignored(ignored)) => return format!("200, counted as ignored ({})", ignored.kind().label()),
        Err(unusable) => return tell_letter(account, unusable, callback, redaction),
    };
    let event: Map<String, Value> = serde_json::from_slice(message.payload()).unwrap_or_default();
    let kind = event.get("kind").and_then(Value::as_str).unwrap_or_default();
    for (member, source) in sources::of(kind) {
        let value = event.get(*member).unwrap_or(&Value::Null);
        account.step("member", format!("{member} = {value} (from {source})"));
    }
    if dropped > 0 {
        account.step("member", format!("{dropped} unknown members are left behind: nested, too long, or too many"));
    }
    tell_message(account, &message, there.partitions);
    "200 when Kafka or the spool has the event".to_owned()
}

/// Tells of headers, key and partition.
fn tell_message(account: &mut Account, message: &Message, partitions: u32) {
    let key = message.key();
    for header in message.headers() {
        account.step("header", format!("{}: {}", header.name, String::from_utf8_lossy(&header.value)));
    }
    if key.is_empty() {
        return account.step("key", "none, so any partition");
    }
    account.step("key", String::from_utf8_lossy(key));
    let place = partition::of(key, partitions);
    account.step("partition", format!("{place} of {partitions} (murmur2 of the key)"));
}

fn tell_letter(
    account: &mut Account,
    unusable: Unusable,
    callback: &AuthenticCallback<'_>,
    redaction: &Redaction,
) -> String {
    let why = match unusable.reason {
        UnusableReason::Missing => "is absent, null or empty, and an event needs it",
        UnusableReason::Invalid => "has the wrong type or is out of range",
    };
    account.step("member", format!("{} {why}", unusable.member));
    account.step("letter", callback.remains(redaction).payload().get());
    "200 when the dead letter is synced on disk; 503 without a spool".to_owned()
}
