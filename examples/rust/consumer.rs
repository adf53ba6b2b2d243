//! Keeps one row for each recorded file in `SQLite`.
#![expect(clippy::print_stderr, reason = "a consumer of its own has no log")]

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use clap::Parser;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rusqlite::{Connection, Transaction, params};
use serde::Deserialize;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS recordings (
    event_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, stream_id TEXT NOT NULL, file_id TEXT NOT NULL,
    file_format TEXT, content_started_at TEXT, file_size_bytes TEXT, video_url TEXT)";
const INSERT: &str = "INSERT INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
const BATCH_MAX: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);
const SETTLING: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::NotCoordinator,
    RDKafkaErrorCode::CoordinatorNotAvailable,
    RDKafkaErrorCode::CoordinatorLoadInProgress,
];

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    brokers: String,
    #[arg(long, default_value = "recordings")]
    topic: String,
    #[arg(long)]
    database: String,
    #[arg(long, default_value = "recordings-rust")]
    group: String,
    /// Stop at the present end of the topic.
    #[arg(long)]
    until_end: bool,
}

/// What is wanted of an event; members that are not named here are passed over.
#[derive(Deserialize)]
struct Recording {
    kind: String,
    event_id: String,
    app_id: String,
    stream_id: String,
    file_id: Option<String>,
    record_file_id: Option<String>,
    file_format: Option<String>,
    content_started_at: Option<String>,
    file_size_bytes: Option<u64>,
    video_url: Option<String>,
}

/// Keeps the recording of a message, if it tells of one that is not there yet.
fn store(rows: &Transaction<'_>, message: &BorrowedMessage<'_>) -> Result<(), Box<dyn Error>> {
    let event: Recording = serde_json::from_slice(message.payload().unwrap_or_default())?;
    if event.kind != "recording.completed" {
        return Ok(());
    }
    if message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == "conflict")) {
        eprintln!("another version of {}", event.event_id);
        return Ok(());
    }
    rows.execute(
        INSERT,
        params![
            event.event_id,
            event.app_id,
            event.stream_id,
            event.record_file_id.or(event.file_id),
            event.file_format,
            event.content_started_at,
            // It may exceed SQLite's integers, so it is kept in its digits.
            event.file_size_bytes.map(|size| size.to_string()),
            event.video_url,
        ],
    )?;
    Ok(())
}

/// What the group has committed. A broker that has only just become the one that keeps the group's offsets is asked again.
fn committed(consumer: &BaseConsumer, places: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    let mut answer = consumer.committed_offsets(places.clone(), PATIENCE);
    for _ in 0..100 {
        let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        if !code.is_some_and(|code| SETTLING.contains(&code)) {
            break;
        }
        std::thread::sleep(PATIENCE / 100);
        answer = consumer.committed_offsets(places.clone(), PATIENCE);
    }
    answer
}

/// Where each partition ends now, without those of which everything was committed before.
fn rest(consumer: &BaseConsumer, topic: &str) -> Result<HashMap<i32, i64>, Box<dyn Error>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut places = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        places.add_partition(topic, partition.id());
    }
    let mut rest = HashMap::new();
    for place in committed(consumer, &places)?.elements() {
        let (_, end) = consumer.fetch_watermarks(topic, place.partition(), PATIENCE)?;
        if end > place.offset().to_raw().unwrap_or(0).max(0) {
            rest.insert(place.partition(), end);
        }
    }
    Ok(rest)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut database = Connection::open(&arguments.database)?;
    database.execute(TABLE, [])?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("group.id", &arguments.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&arguments.topic])?;
    let mut left = rest(&consumer, &arguments.topic)?;
    while !arguments.until_end || !left.is_empty() {
        // What is there already becomes one transaction.
        let mut wait = Duration::from_secs(1);
        let rows = database.transaction()?;
        let mut count = 0;
        while count < BATCH_MAX {
            let Some(message) = consumer.poll(wait).transpose()? else { break };
            store(&rows, &message)?;
            if left.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                left.remove(&message.partition());
            }
            wait = Duration::ZERO;
            count += 1;
        }
        rows.commit()?;
        if count > 0 {
            // The offsets only after the rows.
            consumer.commit_consumer_state(CommitMode::Sync)?;
        }
    }
    Ok(())
}
