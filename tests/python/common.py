"""What the Python clients share: the records of the contract, its lines, its pace, and the admin
story as a list of named steps. Nothing in here speaks Kafka."""

import os
import threading
import time

KEYS = 16
DELIVERY_MS = 120_000
QUIET_S = 60
SESSION_MS = 10_000
COMMIT_EVERY_S = 0.2
# Other brokers learn of an administrator's change a moment later.
SETTLE_S = 20


class Unsupported(Exception):
    """The client has no call for it."""


def key(client, number):
    return f"{client}-{number % KEYS}".encode()


def value(client, number):
    return f"{client} {number} {'glass' * 30}".encode()


def due(start, number, rate):
    """Seconds until record `number` is to be sent."""
    return start + number / rate - time.monotonic()


def shares(count, codecs):
    """Each codec with the numbers that are sent with it."""
    codecs = codecs.split(",")
    for at, codec in enumerate(codecs):
        numbers = range(count * at // len(codecs), count * (at + 1) // len(codecs))
        yield (None if codec == "none" else codec), numbers


def record(partition, offset, key, value):
    client, number, _ = value.split(b" ", 2)
    print(f"{partition}\t{offset}\t{key.decode()}\t{client.decode()}\t{number.decode()}")


def event(kind, text):
    """A line of a group member; flushed, because somebody watches."""
    print(f"{kind}\t{time.time_ns() // 1_000_000}\t{text}", flush=True)


def numbers(partitions):
    return ",".join(str(p) for p in sorted(partitions))


def offsets(pairs):
    return ",".join(f"{p}:{o}" for p, o in sorted(pairs))


def until_closed():
    """Set when standard input ends."""
    closed = threading.Event()

    def watch():
        # Not through sys.stdin: its lock would be held while the interpreter ends.
        while os.read(0, 64):
            pass
        closed.set()

    threading.Thread(target=watch, daemon=True).start()
    return closed


def eventually(what, check):
    """Waits until `check` holds; what it answered last if it never does. A topic that another
    broker does not know yet is no answer."""
    start = time.monotonic()
    while True:
        try:
            found = check()
        except Exception as error:  # noqa: BLE001 - shown if it is the last word
            found = error
        if found is True:
            return
        if time.monotonic() - start > SETTLE_S:
            raise AssertionError(f"{what}: {found!r}")
        time.sleep(0.1)


def story(steps):
    """Runs the admin steps in order, one line each; a step that fails does not stop the rest."""
    for name, step in steps:
        try:
            step()
            print(f"{name}\tok", flush=True)
        except Unsupported:
            print(f"{name}\tunsupported-by-client", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"{name}\tERROR {text}", flush=True)


def unsupported():
    raise Unsupported
