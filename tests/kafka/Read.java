import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints every record that a topic holds at the start, one line of JSON each, read by the Java client: nothing that
 * the bridge or its Kafka library does can hide a fault from it. `java_partition` is where the Java producer would
 * have put the key.
 *
 * <p>Usage: java -cp 'jars/*' Read.java --brokers HOST:PORT[,...] --topic NAME
 */
public final class Read {
    /** Without a record for this long, brokers that do not answer are to blame. */
    private static final Duration SILENCE_MAX = Duration.ofSeconds(60);

    public static void main(String[] arguments) {
        String topic = argument(arguments, "--topic");
        Properties properties = new Properties();
        properties.put("bootstrap.servers", argument(arguments, "--brokers"));
        properties.put("allow.auto.create.topics", "false");
        properties.put("fetch.max.wait.ms", "50");
        properties.put("max.poll.records", "10000");
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false, StandardCharsets.UTF_8);
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic, SILENCE_MAX).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition()))
                    .toList();
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions, SILENCE_MAX);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long heardAt = System.nanoTime();
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    heardAt = System.nanoTime();
                    if (record.offset() < ends.get(new TopicPartition(topic, record.partition()))) {
                        out.println(line(record, partitions.size()));
                    }
                }
                if (System.nanoTime() - heardAt > SILENCE_MAX.toNanos()) {
                    throw new IllegalStateException("the brokers gave no record for " + SILENCE_MAX);
                }
            }
        }
        out.flush();
    }

    private static String argument(String[] arguments, String name) {
        int at = List.of(arguments).indexOf(name);
        if (at < 0 || at + 1 == arguments.length) {
            throw new IllegalArgumentException("usage: Read.java --brokers HOST:PORT[,...] --topic NAME");
        }
        return arguments[at + 1];
    }

    private static String line(ConsumerRecord<byte[], byte[]> record, int partitions) {
        StringBuilder line = new StringBuilder(1024);
        line.append("{\"partition\":").append(record.partition());
        line.append(",\"offset\":").append(record.offset());
        line.append(",\"key\":");
        text(line, record.key());
        line.append(",\"java_partition\":");
        line.append(record.key() == null ? "null" : BuiltInPartitioner.partitionForKey(record.key(), partitions));
        line.append(",\"timestamp\":").append(record.timestamp());
        line.append(",\"headers\":[");
        String separator = "";
        for (Header header : record.headers()) {
            line.append(separator).append('[');
            text(line, header.key().getBytes(StandardCharsets.UTF_8));
            line.append(',');
            text(line, header.value());
            line.append(']');
            separator = ",";
        }
        line.append("],\"value\":");
        text(line, record.value());
        return line.append('}').toString();
    }

    /** `bytes` as a JSON string. */
    private static void text(StringBuilder line, byte[] bytes) {
        if (bytes == null) {
            line.append("null");
            return;
        }
        line.append('"');
        String text = new String(bytes, StandardCharsets.UTF_8);
        for (int at = 0; at < text.length(); at++) {
            char letter = text.charAt(at);
            if (letter == '"' || letter == '\\') {
                line.append('\\').append(letter);
            } else if (letter < 0x20) {
                line.append(String.format("\\u%04x", (int) letter));
            } else {
                line.append(letter);
            }
        }
        line.append('"');
    }
}
