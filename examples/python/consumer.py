"""Keeps one row for each recorded file in SQLite."""

import argparse
import json
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

TABLE = """CREATE TABLE IF NOT EXISTS recordings (
    event_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, stream_id TEXT NOT NULL, file_id TEXT NOT NULL,
    file_format TEXT, content_started_at TEXT, file_size_bytes TEXT, video_url TEXT)"""


def store(database, message):
    """Keeps the recording of a message, if it tells of one that is not there yet."""
    event = json.loads(message.value())
    if event["kind"] != "recording.completed":
        return
    if any(name == "conflict" for name, _ in message.headers() or []):
        print("another version of", event["event_id"], file=sys.stderr)
        return
    size = event["file_size_bytes"]
    row = (
        event["event_id"],
        event["app_id"],
        event["stream_id"],
        event["record_file_id"] or event["file_id"],
        event["file_format"],
        event["content_started_at"],
        None if size is None else str(size),  # It may exceed SQLite's integers.
        event["video_url"],
    )
    database.execute("INSERT INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


# The broker that keeps the group's offsets has only just become the one that does: a moment later it answers.
SETTLING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)


def ends(consumer, topic):
    """Where each partition ends now."""
    found = consumer.list_topics(topic, timeout=10).topics[topic]
    if found.error:
        raise KafkaException(found.error)
    partitions = found.partitions
    places = {partition: TopicPartition(topic, partition) for partition in partitions}
    return {partition: consumer.get_watermark_offsets(place)[1] for partition, place in places.items()}


def is_at_end(consumer, topic, end):
    """Whether everything up to `end` was read; what was committed before counts too."""
    places = [TopicPartition(topic, partition) for partition in end]
    position = {place.partition: place.offset for place in consumer.position(places)}
    try:
        committed = {place.partition: place.offset for place in consumer.committed(places, timeout=10)}
    except KafkaException as error:
        if error.args[0].code() in SETTLING:
            return False
        raise
    return all(max(position[partition], committed[partition], 0) >= end[partition] for partition in end)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", default="recordings")
    parser.add_argument("--database", required=True)
    parser.add_argument("--group", default="recordings-python")
    parser.add_argument("--until-end", action="store_true")
    arguments = parser.parse_args()

    database = sqlite3.connect(arguments.database)
    database.execute(TABLE)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.brokers,
            "group.id": arguments.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([arguments.topic])
    end = ends(consumer, arguments.topic) if arguments.until_end else None
    try:
        while end is None or not is_at_end(consumer, arguments.topic, end):
            messages = consumer.consume(num_messages=500, timeout=1)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
            # One transaction for the batch, and the offsets only after it.
            with database:
                for message in messages:
                    store(database, message)
            if messages:
                consumer.commit(asynchronous=False)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
