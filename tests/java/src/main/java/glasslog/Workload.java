package glasslog;

import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * The Java client of the cluster tests; tests/README.md states the contract all clients share.
 *
 * <pre>
 * produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE   one "partition offset sequence" per ack
 * consume BOOTSTRAP TOPIC                            one "partition offset key client sequence"
 * group   BOOTSTRAP TOPIC GROUP MEMBER               a member, see {@link Group}
 * admin   BOOTSTRAP PREFIX GROUP                     see {@link AdminStory}
 * version
 * </pre>
 */
public final class Workload {
    private static final int KEYS = 16;
    private static final int DELIVERY_MS = 120_000;

    private Workload() {}

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(
                new BufferedOutputStream(System.out, 1 << 16), false, StandardCharsets.UTF_8);
        switch (args[0]) {
            case "produce" -> produce(out, args[1], args[2], args[3], Integer.parseInt(args[4]),
                    args[5].split(","), Integer.parseInt(args[6]));
            case "consume" -> consume(out, args[1], args[2]);
            case "group" -> Group.run(out, args[1], args[2], args[3], args[4]);
            case "admin" -> AdminStory.run(out, args[1], args[2], args[3]);
            case "version" -> out.println("kafka-clients " + AppInfoParser.getVersion());
            default -> throw new IllegalArgumentException("unknown verb " + args[0]);
        }
        out.flush();
    }

    private static void produce(PrintStream out, String bootstrap, String topic, String client,
            int count, String[] codecs, int rate) throws Exception {
        AtomicInteger acked = new AtomicInteger();
        AtomicReference<Exception> failure = new AtomicReference<>();
        long start = System.nanoTime();
        int sequence = 0;
        for (int pass = 0; pass < codecs.length; pass++) {
            int end = (int) ((long) count * (pass + 1) / codecs.length);
            try (var producer = new KafkaProducer<String, String>(producing(bootstrap, codecs[pass]))) {
                for (; sequence < end; sequence++) {
                    pace(start, sequence, rate);
                    int number = sequence;
                    producer.send(record(topic, client, number), (at, error) -> {
                        if (error != null) {
                            failure.compareAndSet(null, error);
                            return;
                        }
                        out.println(at.partition() + "\t" + at.offset() + "\t" + number);
                        acked.incrementAndGet();
                    });
                }
                producer.flush();
            }
        }
        if (failure.get() != null) {
            out.flush();
            throw failure.get();
        }
        System.err.println("acked " + acked.get());
    }

    private static Properties producing(String bootstrap, String codec) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        p.put("delivery.timeout.ms", String.valueOf(DELIVERY_MS));
        p.put("request.timeout.ms", "10000");
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        return p;
    }

    private static ProducerRecord<String, String> record(String topic, String client, int number) {
        String key = client + "-" + number % KEYS;
        return new ProducerRecord<>(topic, key, client + " " + number + " " + "glass".repeat(30));
    }

    /** Sleeps until record {@code number} is due at {@code rate} records a second. */
    private static void pace(long start, int number, int rate) throws InterruptedException {
        long due = start + (long) number * 1_000_000_000L / rate;
        long left = due - System.nanoTime();
        if (left > 1_000_000) {
            Thread.sleep(left / 1_000_000);
        }
    }

    private static void consume(PrintStream out, String bootstrap, String topic) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("enable.auto.commit", "false");
        p.put("check.crcs", "true");
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        try (var consumer = new KafkaConsumer<String, String>(p)) {
            List<TopicPartition> all = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(topic)) {
                all.add(new TopicPartition(topic, info.partition()));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = new HashMap<>(consumer.endOffsets(all));
            ends.values().removeIf(end -> end == 0);
            long quiet = System.nanoTime();
            while (!ends.isEmpty()) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(500))) {
                    print(out, r);
                    quiet = System.nanoTime();
                }
                ends.entrySet().removeIf(e -> consumer.position(e.getKey()) >= e.getValue());
                if (System.nanoTime() - quiet > 60_000_000_000L) {
                    throw new IllegalStateException("no record for 60 s; still to read: " + ends);
                }
            }
        }
    }

    static void print(PrintStream out, ConsumerRecord<String, String> r) {
        String[] value = r.value().split(" ", 3);
        out.println(r.partition() + "\t" + r.offset() + "\t" + r.key() + "\t" + value[0] + "\t" + value[1]);
    }
}
