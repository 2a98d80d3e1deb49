"""kafka-python as a client of the cluster tests; tests/README.md states the contract.

    kafka_python.py version
    kafka_python.py produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE
    kafka_python.py consume BOOTSTRAP TOPIC
    kafka_python.py group   BOOTSTRAP TOPIC GROUP MEMBER
    kafka_python.py admin   BOOTSTRAP PREFIX GROUP
"""

import sys
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import CommitFailedError, KafkaError
from kafka.structs import OffsetAndMetadata

import common


def version():
    print(f"kafka-python {kafka.__version__}")


def produce(bootstrap, topic, client, count, codecs, rate):
    count, rate = int(count), int(rate)
    failures = []
    acked = 0
    start = time.monotonic()
    for codec, numbers in common.shares(count, codecs):
        producer = KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks="all",
            enable_idempotence=True,
            compression_type=codec,
            linger_ms=5,
            delivery_timeout_ms=common.DELIVERY_MS,
            request_timeout_ms=10_000,
        )
        sent = []
        for number in numbers:
            left = common.due(start, number, rate)
            if left > 0.001:
                time.sleep(left)
            future = producer.send(topic, key=common.key(client, number), value=common.value(client, number))
            sent.append((number, future))
        producer.flush()
        for done, future in sent:
            try:
                at = future.get(timeout=common.DELIVERY_MS / 1000)
            except Exception as error:  # noqa: BLE001 - any failure is the test's finding
                failures.append(error)
                continue
            print(f"{at.partition}\t{at.offset}\t{done}")
            acked += 1
        producer.close()

    print(f"acked {acked}", file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} records failed, the first with: {failures[0]!r}")


def consume(bootstrap, topic):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        check_crcs=True,
    )
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = {p: end for p, end in consumer.end_offsets(partitions).items() if end > 0}
    quiet = time.monotonic()
    while ends:
        for records in consumer.poll(timeout_ms=500).values():
            quiet = time.monotonic()
            for r in records:
                common.record(r.partition, r.offset, r.key, r.value)
        ends = {p: end for p, end in ends.items() if consumer.position(p) < end}
        if time.monotonic() - quiet > common.QUIET_S:
            sys.exit(f"no record for {common.QUIET_S} s; still to read: {ends}")
    consumer.close()


class Member(ConsumerRebalanceListener):
    """Holds what was printed and is not committed yet. The client calls it on the thread that also
    does its input and output, so it must not commit: the next owner prints again what was not."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.printed = {}
        self.committed_at = time.monotonic()

    def on_partitions_assigned(self, assigned):
        common.event("assigned", common.numbers(tp.partition for tp in assigned))

    def on_partitions_revoked(self, revoked):
        self.printed = {tp: o for tp, o in self.printed.items() if tp not in revoked}
        common.event("revoked", common.numbers(tp.partition for tp in revoked))

    def on_partitions_lost(self, lost):
        self.printed = {tp: o for tp, o in self.printed.items() if tp not in lost}
        common.event("lost", common.numbers(tp.partition for tp in lost))

    def commit(self):
        self.committed_at = time.monotonic()
        if not self.printed:
            return
        try:
            self.consumer.commit({tp: OffsetAndMetadata(o, "", -1) for tp, o in self.printed.items()})
        except CommitFailedError as error:
            # The group went on without this member: what it printed is printed again elsewhere.
            common.event("note", f"commit: {error!r}"[:200])
            return
        except KafkaError as error:
            if not error.retriable:
                raise
            common.event("note", f"commit: {error!r}"[:200])
            return
        common.event("committed", common.offsets((tp.partition, o) for tp, o in self.printed.items()))
        self.printed.clear()


def group(bootstrap, topic, name, member):
    closed = common.until_closed()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        client_id=member,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=common.SESSION_MS,
        heartbeat_interval_ms=1000,
        check_crcs=True,
    )
    listener = Member(consumer)
    consumer.subscribe([topic], listener=listener)
    while not closed.is_set():
        for tp, records in consumer.poll(timeout_ms=200, max_records=500).items():
            for r in records:
                common.record(r.partition, r.offset, r.key, r.value)
            listener.printed[tp] = records[-1].offset + 1
        if time.monotonic() - listener.committed_at > common.COMMIT_EVERY_S:
            listener.commit()
    listener.commit()
    consumer.close()
    common.event("left", "")


def admin(bootstrap, prefix, group):
    client = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    topic = f"{prefix}-topic"
    resource = lambda configs=None: ConfigResource(ConfigResourceType.TOPIC, topic, configs)  # noqa: E731

    def create():
        client.create_topics([NewTopic(topic, 2, 3, topic_configs={"retention.ms": "7200000"})])

    def listed():
        common.eventually("listed", lambda: topic in client.list_topics() or "not there")

    def described(count):
        def check():
            found = client.describe_topics([topic])[0]["partitions"]
            complete = all(len(p["replica_nodes"]) == 3 and p["leader_id"] >= 0 for p in found)
            return (len(found) == count and complete) or found

        common.eventually("described", check)

    def config(name, value):
        def check():
            found = client.describe_configs([resource()], config_filter="all")
            text = repr(found)
            entries = found["topic"][topic] if isinstance(found, dict) else found[0]
            return entries[name]["value"] == value or text[:300]

        common.eventually(name, check)

    def alter():
        client.alter_configs([resource({"retention.ms": "3600000"})])
        config("retention.ms", "3600000")

    def grow():
        client.create_partitions({topic: NewPartitions(4)})
        described(4)

    def delete_records():
        partition = TopicPartition(topic, 0)
        producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))
        for _ in range(5):
            producer.send(topic, value=b"glass", partition=0).get(timeout=30)
        producer.close()
        client.delete_records({partition: 3})
        consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","))
        try:
            common.eventually("start", lambda: consumer.beginning_offsets([partition])[partition] == 3)
        finally:
            consumer.close()

    def cluster():
        common.eventually("brokers", lambda: len(client.describe_cluster()["brokers"]) == 3)

    def groups():
        found = client.list_groups()
        assert group in repr(found), found

    def describe_group():
        found = client.describe_groups([group])
        assert "Empty" in repr(found), found

    def group_offsets():
        found = client.list_group_offsets({group: None})[group]
        assert found and all(o.offset >= 0 for o in found.values()), found

    def delete_group():
        client.delete_groups([group])
        common.eventually("deleted", lambda: group not in repr(client.list_groups()) or "still there")

    def delete():
        client.delete_topics([topic])
        common.eventually("deleted", lambda: topic not in client.list_topics() or "still there")

    common.story([
        ("create-topic", create),
        ("list-topics", listed),
        ("describe-topic", lambda: described(2)),
        ("describe-configs", lambda: config("retention.ms", "7200000")),
        ("alter-configs", alter),
        ("create-partitions", grow),
        ("delete-records", delete_records),
        ("describe-cluster", cluster),
        ("list-groups", groups),
        ("describe-group", describe_group),
        ("group-offsets", group_offsets),
        ("delete-group", delete_group),
        ("delete-topic", delete),
    ])
    client.close()


if __name__ == "__main__":
    verbs = {"version": version, "produce": produce, "consume": consume, "group": group, "admin": admin}
    verbs[sys.argv[1]](*sys.argv[2:])
