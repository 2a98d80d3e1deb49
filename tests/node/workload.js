'use strict';
// kafkajs as a client of the cluster tests; tests/README.md states the contract.
//
//   workload.js version
//   workload.js produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE
//   workload.js consume BOOTSTRAP TOPIC          in a group of its own: this client knows no other way
//   workload.js group   BOOTSTRAP TOPIC GROUP MEMBER
//   workload.js admin   BOOTSTRAP PREFIX GROUP

const { Kafka, logLevel } = require('kafkajs');
const codecs = require('./codecs');
const admin = require('./admin');

const KEYS = 16;
const QUIET_MS = 60_000;
const SESSION_MS = 10_000;
const TICK_MS = 20;
const CONNECT_ATTEMPTS = 50;
const CONNECT_PAUSE_MS = 200;

codecs.install();

function connect(bootstrap, clientId) {
  return new Kafka({
    clientId,
    brokers: bootstrap.split(','),
    logLevel: logLevel.WARN,
    logCreator: () => ({ label, log }) => console.error(label, log.message, log.error ?? ''),
    requestTimeout: 10_000,
    retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 60 },
  });
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function produce(bootstrap, topic, client, countText, codecNames, rateText) {
  const [count, rate, names] = [Number(countText), Number(rateText), codecNames.split(',')];
  const kafka = connect(bootstrap, client);
  const partitions = await partitionsOf(kafka, topic);
  const start = Date.now();
  let sequence = 0;
  for (let pass = 0; pass < names.length; pass++) {
    const end = Math.floor((count * (pass + 1)) / names.length);
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: true });
    await connected(producer);
    while (sequence < end) {
      const due = Math.min(end, Math.floor(((Date.now() - start) * rate) / 1000) + 1);
      const messages = [];
      for (; sequence < due; sequence++) {
        messages.push(message(client, sequence, partitions));
      }
      await sendAll(producer, { topic, acks: -1, compression: codecs.types[names[pass]] }, messages);
      await sleep(TICK_MS);
    }
    await producer.disconnect();
  }
  console.error(`acked ${count}`);
}

// kafkajs retries a send whose connection breaks, but not the InitProducerId of an idempotent
// producer's connect: a broker that dies in this moment is the program's to live with.
async function connected(producer) {
  for (let attempts = 1; ; attempts++) {
    try {
      return await producer.connect();
    } catch (error) {
      if (!error.retriable || attempts === CONNECT_ATTEMPTS) throw error;
      console.error('connect', error.message);
      await sleep(CONNECT_PAUSE_MS);
    }
  }
}

// A retry of kafkajs asks only the brokers that have not answered: a partition whose leadership
// moved to one that has is left out, without an error. What has no offset was not sent.
async function sendAll(producer, how, messages) {
  for (let left = messages; left.length > 0; ) {
    const places = await producer.send({ ...how, messages: left });
    left = acknowledge(left, places);
  }
}

async function partitionsOf(kafka, topic) {
  const client = kafka.admin();
  await client.connect();
  const { topics } = await client.fetchTopicMetadata({ topics: [topic] });
  await client.disconnect();
  return topics[0].partitions.length;
}

// The program chooses the partition: the client tells one base offset for each, and nothing about
// where a single message went.
function message(client, number, partitions) {
  const key = number % KEYS;
  return {
    key: `${client}-${key}`,
    value: `${client} ${number} ${'glass'.repeat(30)}`,
    partition: key % partitions,
    number,
  };
}

// Prints what was acknowledged; the rest is the answer.
function acknowledge(messages, places) {
  const next = new Map(places.map((place) => [place.partition, BigInt(place.baseOffset)]));
  const left = messages.filter((message) => !next.has(message.partition));
  for (const sent of messages.filter((message) => next.has(message.partition))) {
    const offset = next.get(sent.partition);
    process.stdout.write(`${sent.partition}\t${offset}\t${sent.number}\n`);
    next.set(sent.partition, offset + 1n);
  }
  return left;
}

function print(partition, message) {
  const [client, number] = message.value.toString().split(' ', 2);
  process.stdout.write(`${partition}\t${message.offset}\t${message.key}\t${client}\t${number}\n`);
}

function event(kind, text) {
  process.stdout.write(`${kind}\t${Date.now()}\t${text}\n`);
}

async function consume(bootstrap, topic) {
  const kafka = connect(bootstrap, 'reader');
  const client = kafka.admin();
  await client.connect();
  const ends = new Map();
  for (const { partition, high } of await client.fetchTopicOffsets(topic)) {
    if (BigInt(high) > 0n) ends.set(partition, BigInt(high));
  }
  await client.disconnect();
  const consumer = kafka.consumer({ groupId: `reader-${topic}-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  let heard = Date.now();
  // kafkajs joins its group again when a leader moves, and goes on from what was committed: for
  // a reader that commits nothing that is the beginning. It keeps its own place instead.
  const next = new Map();
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      heard = Date.now();
      const end = ends.get(batch.partition);
      for (const one of batch.messages) {
        const offset = BigInt(one.offset);
        if (end === undefined || offset >= end || offset < (next.get(batch.partition) ?? 0n)) continue;
        print(batch.partition, one);
        next.set(batch.partition, offset + 1n);
      }
      if (end !== undefined && BigInt(batch.lastOffset()) + 1n >= end) ends.delete(batch.partition);
    },
  });
  while (ends.size > 0) {
    if (Date.now() - heard > QUIET_MS) throw new Error(`no record for 60 s; still to read: ${[...ends]}`);
    await sleep(50);
  }
  await consumer.disconnect();
}

async function group(bootstrap, topic, groupId, member) {
  const consumer = connect(bootstrap, member).consumer({
    groupId,
    sessionTimeout: SESSION_MS,
    heartbeatInterval: 1_000,
    rebalanceTimeout: 30_000,
    maxWaitTimeInMs: 500,
  });
  const events = consumer.events;
  consumer.on(events.GROUP_JOIN, ({ payload }) => {
    // Whatever it held before: each assignment is the whole of it.
    event('revoked', 'all');
    event('assigned', payload.memberAssignment[topic] ?? '');
  });
  consumer.on(events.REBALANCING, () => event('revoked', 'all'));
  consumer.on(events.CRASH, ({ payload }) => event(payload.restart ? 'note' : 'error', `${payload.error}`));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: true,
    eachBatch: async ({ batch, heartbeat }) => {
      for (const one of batch.messages) print(batch.partition, one);
      const offset = (BigInt(batch.lastOffset()) + 1n).toString();
      try {
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset }]);
        event('committed', `${batch.partition}:${offset}`);
        await heartbeat();
      } catch (error) {
        // The client decides what it means: it joins again, or hands over this batch again.
        event('note', error.message);
        event('rewound', `${batch.partition}:${batch.messages[0].offset}`);
        throw error;
      }
    },
  });
  process.stdin.resume();
  await new Promise((closed) => process.stdin.on('close', closed).on('end', closed));
  await consumer.disconnect();
  event('left', '');
}

function version() {
  console.log(`kafkajs ${require('kafkajs/package.json').version}`);
}

const verbs = { version, produce, consume, group, admin: (...rest) => admin.run(connect, ...rest) };
const [verb, ...rest] = process.argv.slice(2);
Promise.resolve(verbs[verb](...rest)).then(
  () => process.exit(process.exitCode ?? 0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
