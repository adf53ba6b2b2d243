//! `replay`: put dead letters into the topic of events after they were mended, or events of a dump again.
//!
//! A letter holds no signature, so what is rebuilt of one is believed because it stands among the letters: whoever may
//! run this with the bridge's credentials may write to the topic anyway. Every message is marked as replayed, and has the
//! identity that it had or would have had, so that consumers drop what they have already.

mod publish;
mod rebuilt;
mod record;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;

use super::serve::read_config;
use super::{CommandError, logging, tail, terminal};
use crate::callback::Redaction;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Level, LogConfig, LogFormat};
use crate::event::Timestamp;
use crate::message::Message;
use publish::Publisher;
use rebuilt::{Rebuilt, Rules};
use record::Record;

/// How often a line tells how far it is, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(500);
/// How long brokers may take to say where a topic ends.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file: its Kafka, topic, masking and published kinds are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What to replay: a file of JSON lines, as `tail` and `spool show` print them, or the name of a topic, which is read
    /// up to its present end. A file of that name goes first.
    #[arg(long, value_name = "FILE|TOPIC")]
    from: String,
    /// Only dead letters with this reason, such as `member_missing`; may be given several times.
    #[arg(long)]
    reason: Vec<String>,
    /// Only what was received at this time or later, such as 2026-03-05T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only what was received before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Only events of this stream; may be given several times.
    #[arg(long)]
    stream: Vec<String>,
    /// Publish nothing, and print what would be published.
    #[arg(long)]
    dry_run: bool,
    /// Messages a second, at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Give up when nothing was read or acknowledged for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    give_up_after: u64,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "must be a time in UTC, such as 2026-03-05T08:00:00Z".to_owned())
}

/// What was done with the records.
#[derive(Default)]
struct Tally {
    read: u64,
    filtered: u64,
    unfit: u64,
    fit: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let _logs = logging::start(LogConfig { level: Level::Warn, format: LogFormat::Text });
    let config = read_config(&arguments.config)?;
    let mut replay = Replay::start(arguments, &config)?;
    let file = Path::new(&arguments.from);
    let read = if file.exists() { replay.of_file(file) } else { replay.of_topic(&config) };
    replay.conclude(read)
}

/// A replay under way.
struct Replay<'a> {
    arguments: &'a Arguments,
    rules: Rules,
    /// None if nothing is to be published.
    publisher: Option<Publisher>,
    tally: Tally,
    bar: ProgressBar,
    next_line: Instant,
}

impl<'a> Replay<'a> {
    fn start(arguments: &'a Arguments, config: &Config) -> Result<Self, CommandError> {
        let patience = Duration::from_secs(arguments.give_up_after);
        let publisher = (!arguments.dry_run)
            .then(|| Publisher::start(&config.kafka, arguments.rate, patience))
            .transpose()
            .map_err(CommandError::Failed)?;
        let rules = Rules {
            redaction: Redaction::new(&config.callback.masked_names),
            published: config.callback.published_kinds,
            now: Timestamp::from(SystemClock.wall()),
        };
        let bar = terminal::spinner();
        let next_line = SystemClock.monotonic() + LINE_INTERVAL;
        Ok(Self { arguments, rules, publisher, tally: Tally::default(), bar, next_line })
    }

    fn of_file(&mut self, path: &Path) -> Result<(), CommandError> {
        let fault = |error: std::io::Error| CommandError::failed(&path.display().to_string(), error);
        for (number, line) in BufReader::new(File::open(path).map_err(fault)?).lines().enumerate() {
            let line = line.map_err(fault)?;
            if line.trim().is_empty() {
                continue;
            }
            let place = format!("line {}", number + 1);
            match Record::of_line(&line) {
                Some(record) => self.take(&place, record)?,
                None => self.unfit(&place, "it is no JSON object"),
            }
        }
        Ok(())
    }

    /// Reads the topic from its beginning to where it ends now.
    fn of_topic(&mut self, config: &Config) -> Result<(), CommandError> {
        let topic = &self.arguments.from;
        let source = crate::kafka::Config { topic: topic.clone(), ..config.kafka.clone() };
        let consumer = tail::start(&source, true)?;
        let fault = |error| CommandError::failed("the end of the topic is not known", error);
        let (mut left, mut heard) = (Vec::new(), SystemClock.monotonic());
        let patience = Duration::from_secs(self.arguments.give_up_after);
        for place in consumer.assignment().map_err(fault)?.elements() {
            let (begin, end) = consumer.fetch_watermarks(topic, place.partition(), PATIENCE).map_err(fault)?;
            if end > begin {
                left.push((place.partition(), end));
            }
        }
        while !left.is_empty() {
            if let Some(message) = consumer.poll(POLL) {
                let message = message.map_err(|error| CommandError::failed("the topic cannot be read", error))?;
                let (partition, offset) = (message.partition(), message.offset());
                if left.iter().any(|(open, end)| *open == partition && offset < *end) {
                    self.take(&format!("{topic} [{partition}] {offset}"), Record::of_message(&message))?;
                }
                // To publish it may have taken long.
                heard = SystemClock.monotonic();
            }
            // Marks of transactions take offsets as well, so that the last one may never come.
            left.retain(|(partition, end)| position(&consumer, topic, *partition).is_none_or(|at| at < *end));
            if SystemClock.monotonic().saturating_duration_since(heard) >= patience {
                let silent: Vec<String> = left.iter().map(|(partition, _)| partition.to_string()).collect();
                let (silent, seconds) = (silent.join(", "), patience.as_secs());
                return Err(CommandError::Failed(format!(
                    "nothing could be read of topic {topic} for {seconds} s; partitions that are not at their end: {silent}"
                )));
            }
        }
        Ok(())
    }

    fn take(&mut self, place: &str, record: Record) -> Result<(), CommandError> {
        self.tally.read += 1;
        self.tell();
        match self.rules.rebuild(record) {
            Ok(rebuilt) if self.is_asked_for(&rebuilt) => self.replay(&rebuilt.message),
            Ok(_) => {
                self.tally.filtered += 1;
                Ok(())
            }
            Err(unfit) => {
                self.unfit(place, &unfit.to_string());
                Ok(())
            }
        }
    }

    fn is_asked_for(&self, rebuilt: &Rebuilt) -> bool {
        let arguments = self.arguments;
        let any = |wished: &[String], is: Option<&str>| {
            wished.is_empty() || is.is_some_and(|is| wished.iter().any(|wished| wished == is))
        };
        any(&arguments.reason, rebuilt.reason.as_deref())
            && any(&arguments.stream, std::str::from_utf8(rebuilt.message.key()).ok())
            && arguments.since.is_none_or(|since| rebuilt.received_at >= since)
            && arguments.until.is_none_or(|until| rebuilt.received_at < until)
    }

    fn replay(&mut self, message: &Message) -> Result<(), CommandError> {
        self.tally.fit += 1;
        match &mut self.publisher {
            Some(publisher) => publisher.send(message).map_err(CommandError::Failed),
            // Beside a moving line, which would stay in front of it.
            None => super::spool::written(self.bar.suspend(|| print(message))),
        }
    }

    fn unfit(&mut self, place: &str, why: &str) {
        self.tally.unfit += 1;
        self.bar.suspend(|| super::spool::say(&format!("{place}: left out: {why}")));
    }

    fn tell(&mut self) {
        let (acknowledged, read) = (self.publisher.as_ref().map_or(0, Publisher::acknowledged), self.tally.read);
        self.bar.set_message(format!("{read} read, {acknowledged} published"));
        let now = SystemClock.monotonic();
        if self.bar.is_hidden() && now >= self.next_line {
            self.next_line = now + LINE_INTERVAL;
            super::spool::say(&format!("{read} read, {acknowledged} published"));
        }
    }

    #[expect(clippy::print_stdout, reason = "the result of the command")]
    fn conclude(self, read: Result<(), CommandError>) -> Result<(), CommandError> {
        let Tally { read: total, filtered, unfit, fit } = self.tally;
        let (published, ended) = match self.publisher {
            Some(publisher) => publisher.finish(),
            None => (0, Ok(())),
        };
        self.bar.finish_and_clear();
        let done =
            if self.arguments.dry_run { format!("{fit} would be published") } else { format!("{published} published") };
        println!("{total} read, {filtered} not asked for, {unfit} left out, {done}");
        read?;
        ended.map_err(CommandError::Failed)?;
        if unfit > 0 {
            return Err(CommandError::Failed(format!("{unfit} records were left out")));
        }
        Ok(())
    }
}

/// Where the consumer goes on; nothing before the first record.
fn position(consumer: &BaseConsumer, topic: &str, partition: i32) -> Option<i64> {
    let positions = consumer.position().ok()?;
    positions.find_partition(topic, partition)?.offset().to_raw().filter(|offset| *offset >= 0)
}

/// A message that would be published, without what is in it: a line may go where events may not.
fn print(message: &Message) -> std::io::Result<()> {
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name == name);
        header.map(|header| String::from_utf8_lossy(&header.value).into_owned()).unwrap_or_default()
    };
    let key = String::from_utf8_lossy(message.key()).into_owned();
    writeln!(std::io::stdout(), "would publish {} {} {key}", header("ce_type"), header("ce_id"))
}
