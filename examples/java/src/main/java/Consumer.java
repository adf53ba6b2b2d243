import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Keeps one row for each recorded file in SQLite. */
public final class Consumer {
    private static final String TABLE =
            "CREATE TABLE IF NOT EXISTS recordings ("
                    + "event_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, stream_id TEXT NOT NULL, file_id TEXT NOT NULL, "
                    + "file_format TEXT, content_started_at TEXT, file_size_bytes TEXT, video_url TEXT)";
    private static final String INSERT =
            "INSERT INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = options(arguments);
        String topic = options.getOrDefault("topic", "recordings");
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("brokers"));
        properties.put("group.id", options.getOrDefault("group", "recordings-java"));
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        try (Connection database = DriverManager.getConnection("jdbc:sqlite:" + options.get("database"));
                KafkaConsumer<String, byte[]> consumer =
                        new KafkaConsumer<>(properties, new StringDeserializer(), new ByteArrayDeserializer())) {
            database.createStatement().execute(TABLE);
            database.setAutoCommit(false);
            consumer.subscribe(List.of(topic));
            Map<TopicPartition, Long> end = options.containsKey("until-end") ? ends(consumer, topic) : null;
            while (end == null || !isAtEnd(consumer, end)) {
                ConsumerRecords<String, byte[]> records = consumer.poll(Duration.ofSeconds(1));
                try (PreparedStatement insert = database.prepareStatement(INSERT)) {
                    for (ConsumerRecord<String, byte[]> record : records) {
                        store(insert, record);
                    }
                }
                // One transaction for the batch, and the offsets only after it.
                database.commit();
                consumer.commitSync();
            }
        }
    }

    /** Keeps the recording of a record, if it tells of one that is not there yet. */
    private static void store(PreparedStatement insert, ConsumerRecord<String, byte[]> record) throws Exception {
        JsonNode event = JSON.readTree(record.value());
        if (!event.path("kind").asText().equals("recording.completed")) {
            return;
        }
        if (record.headers().lastHeader("conflict") != null) {
            System.err.println("another version of " + event.get("event_id").asText());
            return;
        }
        String file = text(event, "record_file_id");
        // The size may exceed SQLite's integers, so it is kept in its digits.
        String[] row = {
            text(event, "event_id"), text(event, "app_id"), text(event, "stream_id"),
            file != null ? file : text(event, "file_id"), text(event, "file_format"),
            text(event, "content_started_at"), text(event, "file_size_bytes"), text(event, "video_url")
        };
        set(insert, row);
        insert.executeUpdate();
    }

    private static void set(PreparedStatement insert, String[] row) throws SQLException {
        for (int column = 0; column < row.length; column++) {
            insert.setString(column + 1, row[column]);
        }
    }

    private static String text(JsonNode event, String member) {
        JsonNode value = event.path(member);
        return value.isNull() || value.isMissingNode() ? null : value.asText();
    }

    /** Where each partition ends now. */
    private static Map<TopicPartition, Long> ends(KafkaConsumer<?, ?> consumer, String topic) {
        List<TopicPartition> partitions =
                consumer.partitionsFor(topic).stream()
                        .map(partition -> new TopicPartition(topic, partition.partition()))
                        .collect(Collectors.toList());
        return consumer.endOffsets(partitions);
    }

    private static boolean isAtEnd(KafkaConsumer<?, ?> consumer, Map<TopicPartition, Long> end) {
        Set<TopicPartition> assigned = consumer.assignment();
        return end.entrySet().stream()
                .allMatch(
                        place ->
                                assigned.contains(place.getKey())
                                        && consumer.position(place.getKey()) >= place.getValue());
    }

    private static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new java.util.HashMap<>();
        for (int place = 0; place < arguments.length; place++) {
            String name = arguments[place].replaceFirst("^--", "");
            options.put(name, name.equals("until-end") ? "" : arguments[++place]);
        }
        return options;
    }
}
