'use strict';
// kafkajs's admin client through the steps that all clients take, one line for each.

const { ConfigResourceTypes } = require('kafkajs');

// Other brokers learn of an administrator's change a moment later.
const SETTLE_MS = 20_000;

async function eventually(what, check) {
  const start = Date.now();
  for (;;) {
    // A topic that another broker does not know yet is no answer.
    const found = await check().catch((error) => `${error}`);
    if (found === true) return;
    if (Date.now() - start > SETTLE_MS) throw new Error(`${what}: ${JSON.stringify(found)}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

async function run(connect, bootstrap, prefix, groupId) {
  const kafka = connect(bootstrap, 'admin');
  const admin = kafka.admin();
  await admin.connect();
  const topic = `${prefix}-topic`;
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic };

  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions;
  const described = (count) =>
    eventually('described', async () => {
      const found = await partitions();
      const complete = found.every((p) => p.replicas.length === 3 && p.leader >= 0);
      return (found.length === count && complete) || found;
    });
  const config = (name, value) =>
    eventually(name, async () => {
      const found = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
      const entry = found.resources[0].configEntries.find((one) => one.configName === name);
      return entry?.configValue === value || found;
    });
  const groups = async () => (await admin.listGroups()).groups.map((one) => one.groupId);

  const steps = {
    'create-topic': async () => {
      const configEntries = [{ name: 'retention.ms', value: '7200000' }];
      const topics = [{ topic, numPartitions: 2, replicationFactor: 3, configEntries }];
      if (!(await admin.createTopics({ topics, waitForLeaders: false }))) throw new Error('not created');
    },
    'list-topics': () => eventually('listed', async () => (await admin.listTopics()).includes(topic)),
    'describe-topic': () => described(2),
    'describe-configs': () => config('retention.ms', '7200000'),
    'alter-configs': async () => {
      const configEntries = [{ name: 'retention.ms', value: '3600000' }];
      await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
      await config('retention.ms', '3600000');
    },
    'create-partitions': async () => {
      await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
      await described(4);
    },
    'delete-records': async () => {
      const producer = kafka.producer();
      await producer.connect();
      const messages = Array.from({ length: 5 }, () => ({ value: 'glass', partition: 0 }));
      await producer.send({ topic, messages });
      await producer.disconnect();
      await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] });
      await eventually('start', async () => {
        const found = await admin.fetchTopicOffsets(topic);
        return found.find((one) => one.partition === 0).low === '3' || found;
      });
    },
    'describe-cluster': () =>
      eventually('brokers', async () => (await admin.describeCluster()).brokers.length === 3),
    'list-groups': async () => {
      const found = await groups();
      if (!found.includes(groupId)) throw new Error(`not among ${found}`);
    },
    'describe-group': async () => {
      const found = (await admin.describeGroups([groupId])).groups[0];
      if (found.state !== 'Empty') throw new Error(JSON.stringify(found));
    },
    'group-offsets': async () => {
      const found = (await admin.fetchOffsets({ groupId })).flatMap((one) => one.partitions);
      if (found.length === 0 || found.some((one) => Number(one.offset) < 0)) throw new Error(JSON.stringify(found));
    },
    'delete-group': async () => {
      await admin.deleteGroups([groupId]);
      await eventually('deleted', async () => !(await groups()).includes(groupId));
    },
    'delete-topic': async () => {
      await admin.deleteTopics({ topics: [topic] });
      await eventually('deleted', async () => !(await admin.listTopics()).includes(topic));
    },
  };
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`${name}\tok`);
    } catch (error) {
      console.log(`${name}\tERROR ${`${error}`.split(/\s+/).join(' ')}`);
    }
  }
  await admin.disconnect();
}

module.exports = { run };
