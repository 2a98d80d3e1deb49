"""The Python client of the cluster tests; tests/README.md states the contract all clients share.

    workload.py create  BOOTSTRAP TOPIC PARTITIONS REPLICATION
    workload.py produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE   one "partition offset sequence" per ack
    workload.py consume BOOTSTRAP TOPIC                            one "partition offset key client sequence"
"""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

KEYS = 16
DELIVERY_MS = 120_000


def create(bootstrap, topic, partitions, replication):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    admin.create_topics([NewTopic(topic, int(partitions), int(replication))])
    admin.close()


def produce(bootstrap, topic, client, count, codecs, rate):
    count, rate, codecs = int(count), int(rate), codecs.split(",")
    failures = []
    acked = 0
    start = time.monotonic()
    sequence = 0

    for number, codec in enumerate(codecs):
        producer = KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks="all",
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
            delivery_timeout_ms=DELIVERY_MS,
            request_timeout_ms=10_000,
        )
        sent = []
        for sequence in range(sequence, count * (number + 1) // len(codecs)):
            left = start + sequence / rate - time.monotonic()
            if left > 0.001:
                time.sleep(left)
            key = f"{client}-{sequence % KEYS}".encode()
            value = f"{client} {sequence} {'glass' * 30}".encode()
            sent.append((sequence, producer.send(topic, key=key, value=value)))
        sequence += 1
        producer.flush()
        for done, future in sent:
            try:
                at = future.get(timeout=DELIVERY_MS / 1000)
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
                client, number, _ = r.value.split(b" ", 2)
                fields = (str(r.partition), str(r.offset), r.key.decode(), client.decode(), number.decode())
                print("\t".join(fields))
        ends = {p: end for p, end in ends.items() if consumer.position(p) < end}
        if time.monotonic() - quiet > 60:
            sys.exit(f"no record for 60 s; still to read: {ends}")
    consumer.close()


if __name__ == "__main__":
    {"create": create, "produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
