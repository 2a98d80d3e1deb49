"""aiokafka as a client of the cluster tests; tests/README.md states the contract. Its admin client
can create, describe and delete topics, read and alter configurations and look at groups.

    aio.py version
    aio.py produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE
    aio.py consume BOOTSTRAP TOPIC
    aio.py group   BOOTSTRAP TOPIC GROUP MEMBER
    aio.py admin   BOOTSTRAP PREFIX GROUP
"""

import asyncio
import sys
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, KafkaError

import common


async def version():
    print(f"aiokafka {aiokafka.__version__}")


async def produce(bootstrap, topic, client, count, codecs, rate):
    count, rate = int(count), int(rate)
    failures = []
    acked = 0

    async def acknowledged(number, future):
        nonlocal acked
        try:
            at = await future
        except Exception as error:  # noqa: BLE001 - any failure is the test's finding
            failures.append(error)
            return
        print(f"{at.partition}\t{at.offset}\t{number}")
        acked += 1

    start = time.monotonic()
    for codec, numbers in common.shares(count, codecs):
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type=codec,
            linger_ms=5,
            # What is not delivered in this time is given up; each try has this long, too.
            request_timeout_ms=common.DELIVERY_MS,
        )
        await producer.start()
        waiting = []
        for number in numbers:
            left = common.due(start, number, rate)
            if left > 0.001:
                await asyncio.sleep(left)
            future = await producer.send(topic, key=common.key(client, number), value=common.value(client, number))
            waiting.append(asyncio.create_task(acknowledged(number, future)))
        await producer.flush()
        await asyncio.gather(*waiting)
        await producer.stop()
    print(f"acked {acked}", file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} records failed, the first with: {failures[0]!r}")


async def consume(bootstrap, topic):
    # Not its default, `latest`: the reset that `assign` starts may come back after the seek below.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, check_crcs=True
    )
    await consumer.start()
    partitions = [TopicPartition(topic, p) for p in sorted(await partitions_of(bootstrap, topic))]
    consumer.assign(partitions)
    ends = {p: end for p, end in (await consumer.end_offsets(partitions)).items() if end > 0}
    await consumer.seek_to_beginning(*partitions)
    quiet = time.monotonic()
    while ends:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            quiet = time.monotonic()
            for r in records:
                common.record(r.partition, r.offset, r.key, r.value)
        for p, end in list(ends.items()):
            if await consumer.position(p) >= end:
                del ends[p]
        if time.monotonic() - quiet > common.QUIET_S:
            sys.exit(f"no record for {common.QUIET_S} s; still to read: {ends}")
    await consumer.stop()


async def partitions_of(bootstrap, topic):
    # A consumer knows partitions of the topics it has already; a producer asks.
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    partitions = await producer.partitions_for(topic)
    await producer.stop()
    return partitions


class Member(ConsumerRebalanceListener):
    """Holds what was printed and is not committed yet; commits before it gives partitions up."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.printed = {}
        self.committed_at = time.monotonic()

    async def on_partitions_assigned(self, assigned):
        common.event("assigned", common.numbers(tp.partition for tp in assigned))

    async def on_partitions_revoked(self, revoked):
        await self.commit()
        self.printed.clear()
        common.event("revoked", common.numbers(tp.partition for tp in revoked))

    async def commit(self):
        self.committed_at = time.monotonic()
        taken = dict(self.printed)
        if not taken:
            return
        try:
            await self.consumer.commit(taken)
        except (CommitFailedError, KafkaError) as error:
            if not isinstance(error, CommitFailedError) and not error.retriable:
                raise
            # Tried again with the next commit, unless the partitions are gone by then.
            common.event("note", f"commit: {error!r}"[:200])
            return
        self.printed = {tp: o for tp, o in self.printed.items() if taken.get(tp) != o}
        common.event("committed", common.offsets((tp.partition, o) for tp, o in taken.items()))


async def group(bootstrap, topic, name, member):
    closed = common.until_closed()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=member,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=common.SESSION_MS,
        heartbeat_interval_ms=1000,
        max_poll_records=500,
    )
    listener = Member(consumer)
    consumer.subscribe([topic], listener=listener)
    await consumer.start()
    while not closed.is_set():
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            for r in records:
                common.record(r.partition, r.offset, r.key, r.value)
            listener.printed[tp] = records[-1].offset + 1
        if time.monotonic() - listener.committed_at > common.COMMIT_EVERY_S:
            await listener.commit()
    await listener.commit()
    await consumer.stop()
    common.event("left", "")


def admin(bootstrap, prefix, group):
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, loop=loop)
    run(client.start())
    topic = f"{prefix}-topic"

    def answered(response, field="topic_errors"):
        for entry in getattr(response, field):
            assert entry[1] == 0, entry

    def create():
        answered(run(client.create_topics([NewTopic(topic, 2, 3, topic_configs={"retention.ms": "7200000"})])))

    def listed():
        common.eventually("listed", lambda: topic in run(client.list_topics()) or "not there")

    def described(count):
        def check():
            found = run(client.describe_topics([topic]))[0].get("partitions", [])
            complete = all(len(p["replicas"]) == 3 and p["leader"] >= 0 for p in found)
            return (len(found) == count and complete) or found

        common.eventually("described", check)

    def config(name, value):
        def check():
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            entries = run(client.describe_configs([resource]))[0].resources[0][4]
            return any(e[0] == name and e[1] == value for e in entries) or entries

        common.eventually(name, check)

    def alter():
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "3600000"})
        for response in run(client.alter_configs([resource])):
            assert response.resources[0][0] == 0, response
        config("retention.ms", "3600000")

    def grow():
        answered(run(client.create_partitions({topic: NewPartitions(4)})))
        described(4)

    def delete_records():
        partition = TopicPartition(topic, 0)
        run(fill(bootstrap, topic))
        run(client.delete_records({partition: RecordsToDelete(before_offset=3)}))
        common.eventually("start", lambda: run(beginning(bootstrap, partition)) == 3)

    def cluster():
        common.eventually("brokers", lambda: len(run(client.describe_cluster())["brokers"]) == 3)

    def groups():
        assert any(found[0] == group for found in run(client.list_consumer_groups())), "not listed"

    def describe_group():
        found = run(client.describe_consumer_groups([group]))
        assert "Empty" in repr(found), found

    def group_offsets():
        found = run(client.list_consumer_group_offsets(group))
        assert found and all(o.offset >= 0 for o in found.values()), found

    def delete():
        answered(run(client.delete_topics([topic])), "topic_error_codes")
        common.eventually("deleted", lambda: topic not in run(client.list_topics()) or "still there")

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
        ("delete-group", common.unsupported),
        ("delete-topic", delete),
    ])
    run(client.close())


async def fill(bootstrap, topic):
    # Records are deleted below the high watermark only, which acks=1 need not have reached.
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    for _ in range(5):
        await producer.send_and_wait(topic, b"glass", partition=0)
    await producer.stop()


async def beginning(bootstrap, partition):
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return (await consumer.beginning_offsets([partition]))[partition]
    finally:
        await consumer.stop()


if __name__ == "__main__":
    verbs = {"version": version, "produce": produce, "consume": consume, "group": group}
    if sys.argv[1] == "admin":
        admin(*sys.argv[2:])
    else:
        asyncio.run(verbs[sys.argv[1]](*sys.argv[2:]))
