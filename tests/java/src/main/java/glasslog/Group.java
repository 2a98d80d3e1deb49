package glasslog;

import java.io.IOException;
import java.io.PrintStream;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of a group: prints what it reads, commits what it printed, says what it is given and
 * what is taken away, and leaves when its standard input ends.
 */
final class Group implements ConsumerRebalanceListener {
    private static final long COMMIT_EVERY_NS = 200_000_000L;

    private final PrintStream out;
    private final KafkaConsumer<String, String> consumer;
    private final Map<TopicPartition, OffsetAndMetadata> printed = new HashMap<>();
    private long committedAt = System.nanoTime();
    private volatile boolean closed;

    private Group(PrintStream out, KafkaConsumer<String, String> consumer) {
        this.out = out;
        this.consumer = consumer;
    }

    static void run(PrintStream out, String bootstrap, String topic, String group, String member) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("group.id", group);
        p.put("client.id", member);
        if (member.startsWith("static-")) {
            p.put("group.instance.id", member);
        }
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("session.timeout.ms", "10000");
        p.put("heartbeat.interval.ms", "1000");
        p.put("check.crcs", "true");
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        try (var consumer = new KafkaConsumer<String, String>(p)) {
            Group self = new Group(out, consumer);
            self.watchInput();
            consumer.subscribe(List.of(topic), self);
            self.read();
        }
        event(out, "left", "");
    }

    private void watchInput() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException error) {
                System.err.println(error);
            }
            closed = true;
        });
        watch.setDaemon(true);
        watch.start();
    }

    private void read() {
        while (!closed) {
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200))) {
                Workload.print(out, r);
                printed.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
            }
            if (System.nanoTime() - committedAt > COMMIT_EVERY_NS) {
                commit();
            }
        }
        commit();
    }

    private void commit() {
        committedAt = System.nanoTime();
        if (printed.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(printed);
        } catch (CommitFailedException | RetriableException error) {
            // Tried again with the next commit, unless the partitions are gone by then.
            event(out, "note", "commit: " + error);
            return;
        }
        String text = printed.entrySet().stream()
                .map(e -> e.getKey().partition() + ":" + e.getValue().offset())
                .collect(Collectors.joining(","));
        event(out, "committed", text);
        printed.clear();
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        event(out, "assigned", numbers(assigned));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        commit();
        printed.keySet().removeAll(revoked);
        event(out, "revoked", numbers(revoked));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> lost) {
        printed.keySet().removeAll(lost);
        event(out, "lost", numbers(lost));
    }

    private static String numbers(Collection<TopicPartition> partitions) {
        Map<Integer, String> sorted = new TreeMap<>();
        partitions.forEach(tp -> sorted.put(tp.partition(), String.valueOf(tp.partition())));
        return String.join(",", sorted.values());
    }

    /** A line of a group member; flushed, because somebody watches. */
    private static void event(PrintStream out, String kind, String text) {
        out.println(kind + "\t" + System.currentTimeMillis() + "\t" + text.replaceAll("\\s+", " "));
        out.flush();
    }
}
