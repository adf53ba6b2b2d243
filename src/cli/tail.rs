//! `tail`: print events from the topic as they come.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::serve::read_config;
use super::{CommandError, contact, logging};
use crate::config::{Level, LogConfig, LogFormat};
use crate::kafka::{Config, Contents, settings};

const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file; its brokers, topic, TLS and SASL are used. Or give --brokers and --topic.
    #[arg(long, value_name = "FILE", required_unless_present = "brokers")]
    config: Option<PathBuf>,
    /// Brokers as host:port, separated by commas; without encryption.
    #[arg(long, conflicts_with = "config", requires = "topic", value_delimiter = ',')]
    brokers: Vec<String>,
    /// Topic to read.
    #[arg(long)]
    topic: Option<String>,
    /// Begin with the oldest event instead of the next one.
    #[arg(long)]
    from_beginning: bool,
    /// Stop after so many events.
    #[arg(long)]
    count: Option<u64>,
    /// Print partition, offset, key and headers too.
    #[arg(long)]
    with_metadata: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let _logs = logging::start(LogConfig { level: Level::Warn, format: LogFormat::Text });
    let mut config = match &arguments.config {
        Some(path) => read_config(path)?.kafka,
        None => Config::new(arguments.brokers.clone(), String::new()),
    };
    if let Some(topic) = &arguments.topic {
        config.topic.clone_from(topic);
    }
    let consumer = start(&config, arguments.from_beginning)?;
    let pretty = std::io::stdout().is_terminal();
    let mut printed = 0;
    while arguments.count.is_none_or(|count| printed < count) {
        match consumer.poll(POLL) {
            None => {}
            Some(Err(error)) => tracing::warn!(%error, "the consumer"),
            Some(Ok(message)) => {
                if print(&message, arguments.with_metadata, pretty).is_err() {
                    // Nobody reads any more, as with `| head`.
                    return Ok(());
                }
                printed += 1;
            }
        }
    }
    Ok(())
}

/// A consumer of every partition of the topic, outside any group.
pub(super) fn start(config: &Config, from_beginning: bool) -> Result<BaseConsumer, CommandError> {
    let contents = Contents::read(config).map_err(|error| CommandError::Usage(error.to_string()))?;
    let mut client = settings::connection(config, &contents);
    // A group is asked for by the client library even where none is used.
    client.set("group.id", "recording-bridge-tail").set("enable.auto.commit", "false");
    client.set("fetch.wait.max.ms", "100");
    let consumer: BaseConsumer =
        client.create().map_err(|error| CommandError::failed("the consumer cannot be made", error))?;
    let metadata = contact::metadata(config).map_err(CommandError::Failed)?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|topic| topic.name() == config.topic && topic.error().is_none())
        .flat_map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
        .collect();
    if partitions.is_empty() {
        return Err(CommandError::Failed(format!("there is no topic {}", config.topic)));
    }
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        let offset = if from_beginning { Offset::Beginning } else { Offset::End };
        assignment
            .add_partition_offset(&config.topic, partition, offset)
            .map_err(|error| CommandError::failed("the partitions cannot be read", error))?;
    }
    consumer.assign(&assignment).map_err(|error| CommandError::failed("the partitions cannot be read", error))?;
    Ok(consumer)
}

fn print(message: &BorrowedMessage<'_>, with_metadata: bool, pretty: bool) -> std::io::Result<()> {
    let value = message.payload().unwrap_or_default();
    let event = serde_json::from_slice::<Box<serde_json::value::RawValue>>(value);
    let mut out = std::io::stdout().lock();
    if let (Ok(event), false, false) = (&event, with_metadata, pretty) {
        // The bytes themselves: members keep their order and numbers their digits.
        writeln!(out, "{event}")?;
    } else {
        let read: Value = serde_json::from_slice(value).unwrap_or_else(|_| String::from_utf8_lossy(value).into());
        match (event, with_metadata) {
            (_, false) => writeln!(out, "{read:#}")?,
            (Ok(event), true) if !pretty => {
                // The bytes themselves, at the place that is left for them.
                let place = with_place(message, &Value::Null).to_string();
                let (before, behind) = place.split_once("\"event\":null").unwrap_or((&place, ""));
                writeln!(out, "{before}\"event\":{event}{behind}")?;
            }
            (_, true) if pretty => writeln!(out, "{:#}", with_place(message, &read))?,
            (_, true) => writeln!(out, "{}", with_place(message, &read))?,
        }
    }
    out.flush()
}

fn with_place(message: &BorrowedMessage<'_>, event: &Value) -> Value {
    let headers: BTreeMap<String, String> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key.to_owned(), text(header.value)))
        .collect();
    json!({
        "partition": message.partition(),
        "offset": message.offset(),
        "key": text(message.key()),
        "headers": headers,
        "event": event,
    })
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}
