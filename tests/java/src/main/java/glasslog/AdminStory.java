package glasslog;

import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringSerializer;

/** The admin client through the steps that all clients take, one line for each. */
final class AdminStory {
    /** Other brokers learn of an administrator's change a moment later. */
    private static final long SETTLE_NS = 20_000_000_000L;

    private interface Step {
        void run() throws Exception;
    }

    private final String bootstrap;
    private final Admin admin;
    private final String topic;
    private final String group;
    private final ConfigResource resource;

    private AdminStory(String bootstrap, Admin admin, String prefix, String group) {
        this.bootstrap = bootstrap;
        this.admin = admin;
        this.topic = prefix + "-topic";
        this.group = group;
        this.resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    static void run(PrintStream out, String bootstrap, String prefix, String group) {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", (Object) bootstrap))) {
            new AdminStory(bootstrap, admin, prefix, group).steps().forEach((name, step) -> {
                try {
                    step.run();
                    out.println(name + "\tok");
                } catch (Exception error) {
                    out.println(name + "\tERROR " + String.valueOf(error).replaceAll("\\s+", " "));
                }
                out.flush();
            });
        }
    }

    private Map<String, Step> steps() {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("create-topic", () -> {
            NewTopic wanted = new NewTopic(topic, 2, (short) 3).configs(Map.of("retention.ms", "7200000"));
            admin.createTopics(List.of(wanted)).all().get();
        });
        steps.put("list-topics", () -> eventually(() -> admin.listTopics().names().get().contains(topic)));
        steps.put("describe-topic", () -> described(2));
        steps.put("describe-configs", () -> config("retention.ms", "7200000"));
        steps.put("alter-configs", () -> {
            var op = new AlterConfigOp(new ConfigEntry("retention.ms", "3600000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get();
            config("retention.ms", "3600000");
        });
        steps.put("create-partitions", () -> {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            described(4);
        });
        steps.put("delete-records", this::deleteRecords);
        steps.put("describe-cluster", () -> eventually(() -> admin.describeCluster().nodes().get().size() == 3));
        steps.put("list-groups", () -> require(listed(), "not listed"));
        steps.put("describe-group", () -> {
            var found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            require(found.groupState() == GroupState.EMPTY, String.valueOf(found));
        });
        steps.put("group-offsets", () -> {
            var found = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            require(!found.isEmpty(), "none");
        });
        steps.put("delete-group", () -> {
            admin.deleteConsumerGroups(List.of(group)).all().get();
            eventually(() -> !listed());
        });
        steps.put("delete-topic", () -> {
            admin.deleteTopics(List.of(topic)).all().get();
            eventually(() -> !admin.listTopics().names().get().contains(topic));
        });
        return steps;
    }

    private boolean listed() throws Exception {
        return admin.listGroups().all().get().stream().anyMatch(found -> found.groupId().equals(group));
    }

    private void described(int count) throws Exception {
        eventually(() -> {
            TopicDescription found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            return found.partitions().size() == count
                    && found.partitions().stream().allMatch(p -> p.replicas().size() == 3 && p.leader() != null);
        });
    }

    private void config(String name, String value) throws Exception {
        eventually(() -> {
            var found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            return found.get(name) != null && value.equals(found.get(name).value());
        });
    }

    private void deleteRecords() throws Exception {
        String text = StringSerializer.class.getName();
        Map<String, Object> config = Map.of(
                "bootstrap.servers", bootstrap, "key.serializer", text, "value.serializer", text);
        try (var producer = new KafkaProducer<String, String>(config)) {
            for (int number = 0; number < 5; number++) {
                producer.send(new ProducerRecord<>(topic, 0, null, "glass")).get();
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(3))).all().get();
        eventually(() -> admin.listOffsets(Map.of(partition, OffsetSpec.earliest()))
                .partitionResult(partition).get().offset() == 3);
    }

    private static void require(boolean holds, String text) {
        if (!holds) {
            throw new IllegalStateException(text);
        }
    }

    /** Waits until it holds; a topic that another broker does not know yet is no answer. */
    private static void eventually(Callable<Boolean> check) throws Exception {
        long start = System.nanoTime();
        while (true) {
            Exception last = null;
            try {
                if (check.call()) {
                    return;
                }
            } catch (java.util.concurrent.ExecutionException error) {
                last = error;
            }
            if (System.nanoTime() - start > SETTLE_NS) {
                throw last != null ? last : new IllegalStateException("not within 20 s");
            }
            Thread.sleep(100);
        }
    }
}
