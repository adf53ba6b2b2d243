import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

/**
 * Moves every partition of a topic to the next brokers, and its leadership to the first of them, again and again.
 *
 * <p>Usage: java -cp 'jars/*' Move.java --brokers HOST:PORT[,...] --topic NAME --rounds N --pause MILLISECONDS
 */
public final class Move {
    public static void main(String[] arguments) throws Exception {
        String topic = argument(arguments, "--topic");
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", argument(arguments, "--brokers")))) {
            List<Integer> brokers =
                    admin.describeCluster().nodes().get().stream().map(Node::id).sorted().toList();
            int rounds = Integer.parseInt(argument(arguments, "--rounds"));
            for (int round = 0; round < rounds; round++) {
                Map<TopicPartition, Integer> before = leaders(admin, topic);
                move(admin, topic, brokers);
                Map<TopicPartition, Integer> after = leaders(admin, topic);
                long moved = after.entrySet().stream()
                        .filter(leader -> !leader.getValue().equals(before.get(leader.getKey())))
                        .count();
                System.out.println(moved + " of " + after.size() + " leaders moved");
                if (moved == 0) {
                    throw new IllegalStateException("no leader has moved");
                }
                Thread.sleep(Long.parseLong(argument(arguments, "--pause")));
            }
        }
    }

    private static void move(Admin admin, String topic, List<Integer> brokers) throws Exception {
        Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new HashMap<>();
        Map<TopicPartition, Integer> wanted = new HashMap<>();
        for (TopicPartitionInfo info : partitions(admin, topic)) {
            TopicPartition partition = new TopicPartition(topic, info.partition());
            // Behind the present leader, which need not be the first replica after brokers have died.
            int first = info.leader() == null ? 0 : brokers.indexOf(info.leader().id()) + 1;
            List<Integer> replicas = new ArrayList<>();
            for (int at = 0; at < info.replicas().size(); at++) {
                replicas.add(brokers.get((first + at) % brokers.size()));
            }
            wanted.put(partition, replicas.get(0));
            moves.put(partition, Optional.of(new NewPartitionReassignment(replicas)));
        }
        admin.alterPartitionReassignments(moves).all().get();
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (!admin.listPartitionReassignments(moves.keySet()).reassignments().get().isEmpty()) {
            pauseBefore(deadline, "the partitions do not move");
        }
        // The first replica may have to come into sync before it can be elected.
        while (!leaders(admin, topic).equals(wanted)) {
            // A partition whose first replica leads already is an error of its own, which is none.
            admin.electLeaders(ElectionType.PREFERRED, wanted.keySet()).partitions().get();
            pauseBefore(deadline, "the leaders do not move");
        }
    }

    private static void pauseBefore(long deadline, String otherwise) throws InterruptedException {
        if (System.nanoTime() > deadline) {
            throw new IllegalStateException(otherwise);
        }
        Thread.sleep(50);
    }

    private static Map<TopicPartition, Integer> leaders(Admin admin, String topic) throws Exception {
        return partitions(admin, topic).stream()
                .collect(Collectors.toMap(
                        partition -> new TopicPartition(topic, partition.partition()),
                        partition -> partition.leader() == null ? -1 : partition.leader().id()));
    }

    private static List<TopicPartitionInfo> partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(Collections.singleton(topic)).allTopicNames().get().get(topic).partitions();
    }

    private static String argument(String[] arguments, String name) {
        int at = List.of(arguments).indexOf(name);
        if (at < 0 || at + 1 == arguments.length) {
            throw new IllegalArgumentException("missing " + name);
        }
        return arguments[at + 1];
    }
}
