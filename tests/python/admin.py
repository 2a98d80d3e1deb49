"""The admin surface through kafka-python's KafkaAdminClient, against a running cluster.

    admin.py BOOTSTRAP

Prints one line per thing that works; ends with 1 at the first that does not.
"""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import InvalidPartitionsError, KafkaError

TOPIC = "administered"
PATIENCE_SECONDS = 30


def eventually(what, check):
    """What a change leads to may take a moment to be seen at another broker."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            found = check()
        except KafkaError as error:
            found = error
        if found is True:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: {found!r}")
        time.sleep(0.1)


def refused(error, ask):
    try:
        ask()
    except error as refusal:
        return str(refusal)
    raise AssertionError(f"not refused with {error.__name__}")


def topics(admin):
    admin.create_topics({TOPIC: {"num_partitions": 3, "replication_factor": 3}})
    admin.create_partitions({TOPIC: 5})
    shrink = lambda: admin.create_partitions({TOPIC: 4})
    assert "cannot shrink" in refused(InvalidPartitionsError, shrink)
    grown = lambda: len(admin.describe_topics([TOPIC])[0]["partitions"]) == 5
    eventually("five partitions", grown)
    return "a topic is created and grown, and does not shrink"


def altered(admin, kind, name, key, value):
    """What the broker says: "OK", or the error; this client does not raise it."""
    resource = ConfigResource(kind, name, configs={key: value})
    answers = admin.alter_configs([resource])
    return answers[kind.name.lower()][name]


def configs(admin):
    topic = lambda: [ConfigResource(ConfigResourceType.TOPIC, TOPIC)]
    alter = lambda key, value: altered(admin, ConfigResourceType.TOPIC, TOPIC, key, value)
    assert alter("retention.ms", "123456") == "OK"
    eventually("retention.ms", lambda: "123456" in str(admin.describe_configs(topic())))
    answer = alter("cleanup.policy", "compact")
    assert "compaction is not supported" in answer, answer
    # This client cannot name all brokers at once: each is told.
    for broker in admin.describe_cluster()["brokers"]:
        name = str(broker["broker_id"])
        answer = altered(admin, ConfigResourceType.BROKER, name, "log.retention.ms", "654321")
        assert answer == "OK", answer
    inherited = lambda: "654321" in str(
        admin.describe_configs(topic(), include_synonyms=True, config_filter="all"))
    eventually("log.retention.ms as a synonym", inherited)
    return "configs of a topic and of brokers are changed and described"


def records(admin, bootstrap):
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for number in range(20):
        producer.send(TOPIC, b"%d" % number, partition=0)
    producer.flush()
    producer.close()
    partition = TopicPartition(TOPIC, 0)
    told = admin.delete_records({partition: 12})
    assert "12" in str(told), told
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    assert consumer.beginning_offsets([partition])[partition] == 12
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    read = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(read) < 8 and time.monotonic() < deadline:
        for batch in consumer.poll(timeout_ms=500).values():
            read.extend(int(record.value) for record in batch)
    consumer.close()
    assert read == list(range(12, 20)), read
    return "records are deleted, and the rest is read"


def cluster(admin):
    described = admin.describe_cluster()
    assert len(described["brokers"]) == 3, described
    quorum = str(admin.describe_metadata_quorum())
    assert "current_voters" in quorum, quorum
    assert TOPIC in str(admin.describe_log_dirs())
    assert TOPIC in str(admin.list_config_resources())
    page = admin.describe_topic_partitions([TOPIC], response_partition_limit=2)
    assert page["next_cursor"]["partition_index"] == 2, page
    assert "active_producers" in str(admin.describe_producers([TopicPartition(TOPIC, 0)]))
    return "cluster, quorum, log directories, pages and producers are described"


def main(bootstrap):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    print(topics(admin), flush=True)
    print(configs(admin), flush=True)
    print(records(admin, bootstrap), flush=True)
    print(cluster(admin), flush=True)
    admin.delete_topics([TOPIC])
    eventually("the topic is gone", lambda: TOPIC not in admin.list_topics())
    print("the topic is deleted", flush=True)
    admin.close()


if __name__ == "__main__":
    main(sys.argv[1])
