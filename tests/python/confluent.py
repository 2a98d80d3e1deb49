"""confluent-kafka (librdkafka's Python face) as a client of the cluster tests; tests/README.md
states the contract. Its groups use the cooperative assignor, so partitions move one by one.

    confluent.py version
    confluent.py produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE
    confluent.py consume BOOTSTRAP TOPIC
    confluent.py group   BOOTSTRAP TOPIC GROUP MEMBER
    confluent.py admin   BOOTSTRAP PREFIX GROUP
"""

import sys
import time

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import admin as ckadmin

import common

CALL_S = 20


def version():
    print(f"confluent-kafka {ck.__version__} (librdkafka {ck.libversion()[0]})")


def produce(bootstrap, topic, client, count, codecs, rate):
    count, rate = int(count), int(rate)
    failures = []
    acked = 0

    def delivered(number):
        def report(error, message):
            nonlocal acked
            if error is not None:
                failures.append(error)
                return
            print(f"{message.partition()}\t{message.offset()}\t{number}")
            acked += 1

        return report

    start = time.monotonic()
    for codec, numbers in common.shares(count, codecs):
        producer = Producer({
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": codec or "none",
            "linger.ms": 5,
            "message.timeout.ms": common.DELIVERY_MS,
            "request.timeout.ms": 10_000,
        })
        for number in numbers:
            while (left := common.due(start, number, rate)) > 0.001:
                producer.poll(left)
            producer.produce(
                topic,
                key=common.key(client, number),
                value=common.value(client, number),
                on_delivery=delivered(number),
            )
        producer.flush()
    print(f"acked {acked}", file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} records failed, the first with: {failures[0]!r}")


def consumer(bootstrap, **more):
    config = {
        "bootstrap.servers": bootstrap,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "check.crcs": True,
    }
    return Consumer(config | {name.replace("_", "."): value for name, value in more.items()})


def consume(bootstrap, topic):
    # It wants a group's name to assign; it is never contacted.
    reader = consumer(bootstrap, group_id="unused")
    partitions = reader.list_topics(topic, CALL_S).topics[topic].partitions
    ends = {}
    for p in partitions:
        _, end = reader.get_watermark_offsets(TopicPartition(topic, p), CALL_S)
        if end > 0:
            ends[p] = end
    reader.assign([TopicPartition(topic, p, ck.OFFSET_BEGINNING) for p in partitions])
    quiet = time.monotonic()
    while ends:
        for message in reader.consume(500, 0.5):
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            quiet = time.monotonic()
            common.record(message.partition(), message.offset(), message.key(), message.value())
            if message.offset() + 1 >= ends.get(message.partition(), 1 << 62):
                del ends[message.partition()]
        if time.monotonic() - quiet > common.QUIET_S:
            sys.exit(f"no record for {common.QUIET_S} s; still to read: {ends}")
    reader.close()


def group(bootstrap, topic, name, member):
    closed = common.until_closed()
    reader = consumer(
        bootstrap,
        group_id=name,
        client_id=member,
        session_timeout_ms=common.SESSION_MS,
        heartbeat_interval_ms=1000,
        partition_assignment_strategy="cooperative-sticky",
    )
    printed = {}

    def commit():
        taken = [TopicPartition(topic, p, o) for p, o in printed.items()]
        if not taken:
            return
        try:
            done = reader.commit(offsets=taken, asynchronous=False)
        except KafkaException as error:
            # Tried again with the next commit, unless the partition is gone by then.
            common.event("note", f"commit: {error}")
            return
        for tp in done:
            if tp.error:
                common.event("note", f"commit of {tp.partition}: {tp.error}")
            else:
                printed.pop(tp.partition, None)
        common.event("committed", common.offsets((tp.partition, tp.offset) for tp in done if not tp.error))

    def forget(partitions):
        for tp in partitions:
            printed.pop(tp.partition, None)

    def assigned(_, partitions):
        common.event("assigned", common.numbers(tp.partition for tp in partitions))

    def revoked(_, partitions):
        commit()
        forget(partitions)
        common.event("revoked", common.numbers(tp.partition for tp in partitions))

    def lost(_, partitions):
        forget(partitions)
        common.event("lost", common.numbers(tp.partition for tp in partitions))

    reader.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    committed_at = time.monotonic()
    while not closed.is_set():
        for message in reader.consume(100, 0.1):
            if message.error():
                common.event("error" if message.error().fatal() else "note", str(message.error()))
                continue
            common.record(message.partition(), message.offset(), message.key(), message.value())
            printed[message.partition()] = message.offset() + 1
        if time.monotonic() - committed_at > common.COMMIT_EVERY_S:
            commit()
            committed_at = time.monotonic()
    commit()
    reader.close()
    common.event("left", "")


def admin(bootstrap, prefix, group):
    client = ckadmin.AdminClient({"bootstrap.servers": bootstrap})
    topic = f"{prefix}-topic"
    resource = lambda **more: ckadmin.ConfigResource(ckadmin.ResourceType.TOPIC, topic, **more)  # noqa: E731

    def one(futures):
        (future,) = futures.values()
        return future.result(CALL_S)

    def topics():
        return client.list_topics(timeout=CALL_S).topics

    def create():
        one(client.create_topics([ckadmin.NewTopic(topic, 2, 3, config={"retention.ms": "7200000"})]))

    def listed():
        common.eventually("listed", lambda: topic in topics() or "not there")

    def described(count):
        def check():
            found = one(client.describe_topics(ck.TopicCollection([topic]))).partitions
            complete = all(len(p.replicas) == 3 and p.leader is not None for p in found)
            return (len(found) == count and complete) or repr(found)

        common.eventually("described", check)

    def config(name, value):
        def check():
            found = one(client.describe_configs([resource()]))[name].value
            return found == value or found

        common.eventually(name, check)

    def alter():
        entry = ckadmin.ConfigEntry(
            "retention.ms", "3600000", incremental_operation=ckadmin.AlterConfigOpType.SET)
        one(client.incremental_alter_configs([resource(incremental_configs=[entry])]))
        config("retention.ms", "3600000")

    def grow():
        one(client.create_partitions([ckadmin.NewPartitions(topic, 4)]))
        described(4)

    def delete_records():
        producer = Producer({"bootstrap.servers": bootstrap})
        for _ in range(5):
            producer.produce(topic, b"glass", partition=0)
        assert producer.flush(CALL_S) == 0, "not delivered"
        one(client.delete_records([TopicPartition(topic, 0, 3)]))
        reader = consumer(bootstrap, group_id="unused")
        partition = TopicPartition(topic, 0)
        common.eventually("start", lambda: reader.get_watermark_offsets(partition, CALL_S)[0] == 3)
        reader.close()

    def cluster():
        common.eventually("brokers", lambda: len(client.describe_cluster().result(CALL_S).nodes) == 3)

    def groups():
        found = client.list_consumer_groups().result(CALL_S)
        assert any(entry.group_id == group for entry in found.valid), found.valid

    def describe_group():
        found = one(client.describe_consumer_groups([group]))
        assert found.state == ck.ConsumerGroupState.EMPTY, found.state

    def group_offsets():
        found = one(client.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group)]))
        assert found.topic_partitions and all(tp.offset >= 0 for tp in found.topic_partitions), found

    def delete_group():
        one(client.delete_consumer_groups([group]))
        still = lambda: [g for g in client.list_consumer_groups().result(CALL_S).valid if g.group_id == group]  # noqa: E731
        common.eventually("deleted", lambda: still() == [] or "still there")

    def delete():
        one(client.delete_topics([topic]))
        common.eventually("deleted", lambda: topic not in topics() or "still there")

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


if __name__ == "__main__":
    verbs = {"version": version, "produce": produce, "consume": consume, "group": group, "admin": admin}
    verbs[sys.argv[1]](*sys.argv[2:])
