// Consumer keeps one row for each recorded file in SQLite.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	_ "modernc.org/sqlite"
)

const table = `CREATE TABLE IF NOT EXISTS recordings (
	event_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, stream_id TEXT NOT NULL, file_id TEXT NOT NULL,
	file_format TEXT, content_started_at TEXT, file_size_bytes TEXT, video_url TEXT)`

const insert = `INSERT INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// recording is what is wanted of an event; members that are not named here are passed over.
type recording struct {
	Kind             string  `json:"kind"`
	EventID          string  `json:"event_id"`
	AppID            string  `json:"app_id"`
	StreamID         string  `json:"stream_id"`
	FileID           *string `json:"file_id"`
	RecordFileID     *string `json:"record_file_id"`
	FileFormat       *string `json:"file_format"`
	ContentStartedAt *string `json:"content_started_at"`
	// It may exceed SQLite's integers, so it is kept in its digits.
	FileSizeBytes *json.Number `json:"file_size_bytes"`
	VideoURL      *string      `json:"video_url"`
}

// store keeps the recording of a record, if it tells of one that is not there yet.
func store(ctx context.Context, tx *sql.Tx, record *kgo.Record) error {
	var event recording
	if err := json.Unmarshal(record.Value, &event); err != nil {
		return fmt.Errorf("partition %d, offset %d: %w", record.Partition, record.Offset, err)
	}
	if event.Kind != "recording.completed" {
		return nil
	}
	for _, header := range record.Headers {
		if header.Key == "conflict" {
			log.Printf("another version of %s", event.EventID)
			return nil
		}
	}
	file := event.RecordFileID
	if file == nil {
		file = event.FileID
	}
	var size *string
	if event.FileSizeBytes != nil {
		digits := event.FileSizeBytes.String()
		size = &digits
	}
	_, err := tx.ExecContext(ctx, insert, event.EventID, event.AppID, event.StreamID, file, event.FileFormat,
		event.ContentStartedAt, size, event.VideoURL)
	return err
}

// keep stores a batch in one transaction.
func keep(ctx context.Context, database *sql.DB, records []*kgo.Record) error {
	tx, err := database.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // Of no effect after the commit.
	for _, record := range records {
		if err := store(ctx, tx, record); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// rest is where each partition ends now, without those of which everything was committed before.
func rest(ctx context.Context, client *kgo.Client, group, topic string) (map[int32]int64, error) {
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		before, _ := committed.Lookup(topic, end.Partition)
		if end.Offset > before.At {
			left[end.Partition] = end.Offset
		}
	})
	return left, ends.Error()
}

func run(ctx context.Context) error {
	brokers := flag.String("brokers", "", "host:port, separated by commas")
	topic := flag.String("topic", "recordings", "topic to read")
	path := flag.String("database", "", "SQLite file")
	group := flag.String("group", "recordings-go", "consumer group")
	untilEnd := flag.Bool("until-end", false, "stop at the present end of the topic")
	flag.Parse()

	database, err := sql.Open("sqlite", *path)
	if err != nil {
		return err
	}
	defer database.Close()
	if _, err := database.ExecContext(ctx, table); err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*brokers, ",")...),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	left, err := rest(ctx, client, *group, *topic)
	if err != nil {
		return err
	}
	for !*untilEnd || len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		if err := keep(ctx, database, fetches.Records()); err != nil {
			return err
		}
		// The offsets only after the rows.
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
