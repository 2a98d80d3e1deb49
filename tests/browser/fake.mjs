// A document as /debug/cluster gives it, of three brokers in trouble: one in a deadlock, one gone.
// Shapes are those of real pages; names and errors are hostile, as clients may choose them.

export const MARKUP = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=2</script>";
export const TOPIC = `t${MARKUP}`;

const NOW = Date.now();

function link(waiter, lock, waits_at, holder, mode, taken_at) {
  return { waiter, lock, waited_ms: 4210, waits_at, holder, mode, taken_at, held_ms: 4231 };
}

const DEADLOCK = {
  id: 1, began_ms: NOW - 4250, ended_ms: null, cause: "deadlock", tier: "raft",
  stalled: { loop: "shard/0", phase: "publish", input: "tick", age_ms: 4212, group: null, io: null },
  thread: "shard-0 (4711)",
  chain: [
    link("shard-0 (4711)", "test_inner", "crates/node/src/planted.rs:63:22",
      "kafka-2 (4730)", "shared", "crates/node/src/planted.rs:81:29"),
    link("kafka-2 (4730)", "test_outer", "crates/node/src/planted.rs:83:14",
      "shard-0 (4711)", "exclusive", "crates/node/src/planted.rs:61:25"),
  ],
  root: null, root_thread: "shard-0 (4711)", root_state: "S futex_do_wait",
  says: "deadlock: shard/0 in publish for 4.2 s; shard-0 (4711) waits for test_inner[shared] at crates/node/src/planted.rs:63:22; it is held by kafka-2 (4730)",
};

const SYNC = {
  id: 2, began_ms: NOW - 95_000, ended_ms: NOW - 92_400, cause: "fsync_inflight", tier: "disk",
  stalled: { loop: "journal/0", phase: "sync", input: "write", age_ms: 2600, group: 7, io: ["sync", 81_920, 2590] },
  thread: "journal-0 (4712)", chain: [],
  root: { loop: "journal/0", phase: "sync", input: "write", age_ms: 2600, group: 7, io: ["sync", 81_920, 2590] },
  root_thread: "journal-0 (4712)", root_state: "D folio_wait_bit_common",
  says: "fsync_inflight: journal/0 in sync for 2.6 s; sync of 81920 bytes in flight for 2.6 s",
};

const STAGES = ["parse", "queue", "propose", "journal_append", "fsync", "replicate", "commit", "apply", "ack"];
const stages = (...ms) => STAGES.map((stage, n) => ({ stage, ms: ms[n] }));
const fall = (ms, of, all) => ({ ms, of, stages: all });

const REQUESTS = {
  says: "", window_seconds: 50,
  produce: { count: 48_211, p50: fall(2.31, 9000, stages(0.05, 0.1, 0.02, 0.2, 0.9, 0.8, 0.1, 0.04, 0.1)),
    p99: fall(41.2, 480, stages(0.1, 2.1, 0.1, 0.3, 30.1, 7.9, 0.2, 0.1, 0.3)) },
  fetch: { count: 1203, p50: null, p99: null },
  slowest: [{ api: "produce", version: 9, topic: TOPIC, partition: 0, client: `c${MARKUP}`, connection: 51234,
    correlation: 17, trace_id: null, error: null, at_ms: NOW - 21_000, total_ms: 998.4,
    stages: stages(0.06, 0.17, 0.02, 0.2, 0.64, 993.8, 0.1, 0.1, 0.3), group: 7, index: 40_211,
    replicate: [{ broker: 2, ms: 994.6 }, { broker: 3, ms: null }] }],
};

function postmortem(id, broker, ago, more) {
  return { id, broker, at_ms: NOW - ago, what: "election", group: 7, name: `${TOPIC}-0`, kind: "partition",
    reason: "death_evidence", outcome: "won", term_before: 1, term: 2, ms_since_leader: 524, ms: 3, rounds: 1,
    ballots: [{ replica: 3, broker: 3, answer: "silent" }, { replica: 1, broker: 1, answer: "granted" }], shard: 0,
    loop: { over_ms: 2000, ticks: 41, ticks_late: 0, late_ms_max: 0, late_by: null, last_tick_ms: 3, busy_ms: {}, longest_step: null },
    says: `${TOPIC}-0: election won in term 2`, ...more };
}

function loop(name, phase, age_ms, more) {
  return { loop: name, index: 0, thread: 4711, phase, input: "tick", age_ms, group: null, io: null,
    waits_for_lock: null, says: "", ...more };
}

function page(broker, more) {
  const peers = [1, 2, 3].filter((id) => id !== broker).map((id) => ({ broker: id, address: `10.0.0.${id}:9192`,
    admin: `10.0.0.${id}:9292`, connected: id !== 3, dead: id === 3,
    last_error: id === 3 ? `connection refused ${MARKUP}` : null, queued_bytes: 0 }));
  return { broker, cluster: "5d0Wq3pXSvyQyP1Zc7zN0A", at_ms: NOW, uptime_ms: 4_510_000, version: "0.1.0", ready: true,
    state: "ready", waiting_for: [], summary: { groups: 214, leads: 107, serving: 107, troubled: 0 }, peers,
    journal_full: null, quarantined: [], transfers: [], offers: [], troubled: [], hottest: [],
    loops: [loop("shard", "idle", 3), loop("journal", "idle", 2), loop("peer_read", "idle", 1)], stalls: [],
    elections: { broker, under_way: [], elections: [] }, requests: REQUESTS, crash: { ending: null, last: null },
    invariants: [], ...more };
}

const GROUP = { group: 7, high_watermark: 40_100, name: `${TOPIC}-0`, replica: 2, role: "follower", term: 2, leader: 1,
  serving: false, commit: 40_210, applied: 40_190, last_index: 40_211, acked: 0, durable: 40_211, isr: 0, replicas: 3,
  min_insync_replicas: 2, partition: true, peer_lag: 0, next_offset: 40_120, log_start: 0, suspect: false,
  held: `apply panicked: a planted panic at entry 40191 ${MARKUP}`, pending: 0, queued: 0, lease_remaining_ms: null,
  voters: [1, 2, 3], outgoing: [], learners: [], target: [1, 2, 3] };

export const CLUSTER = {
  at_ms: NOW, asked: 1,
  brokers: [
    { broker: 1, admin: "127.0.0.1:9292", answered: true, silence: null, error: null, took_ms: 2, clock_ahead_ms: 0, page: page(1, {
      hottest: [{ name: `${TOPIC}-0`, group: 7, records_per_s: 812 }, { name: "orders-0", group: 8, records_per_s: 90.4 }],
      elections: { broker: 1,
        under_way: [{ group: 9, name: "orders-1", term: 4, reason: "timeout", ms: 1210, rounds: 3, ballots: [[3, "silent"], [2, "log_behind"]] }],
        elections: [postmortem(1, 1, 61_000), postmortem(2, 1, 20_000, { outcome: "lost", group: 8 }),
          postmortem(3, 1, 9_000, { what: "leadership_lost", outcome: null, reason: "higher_term" })] },
    }) },
    { broker: 2, admin: "127.0.0.1:9293", answered: true, error: null, took_ms: 4, page: page(2, {
      unled: { count: 7, names: [`${TOPIC}-0`, "orders-1"] }, ready: false, state: "waiting", waiting_for: [`a leader of ${TOPIC}-0`],
      summary: { groups: 214, leads: 107, serving: 90, troubled: 1 }, troubled: [GROUP],
      quarantined: [{ group: 12, why: `its checkpoint does not parse ${MARKUP}` }],
      transfers: [{ group: 8, name: "orders-0", from_broker: 1, index: 90, stage: "files", bytes: 5_000_000, total: 9_000_000,
        resumed: 0, since_ms: 8000, failures: 1, last_error: MARKUP }],
      loops: [loop("shard", "publish", 4212, { waits_for_lock: { site: "crates/node/src/planted.rs:63:22", waited_ms: 4210 } }),
        loop("journal", "idle", 4100)],
      stalls: [DEADLOCK, SYNC],
      elections: { broker: 2, under_way: [], elections: [postmortem(1, 2, 30_000)] },
      crash: { ending: null, last: { reason: "panic", why: `thread shard-0 ${MARKUP}`, at_ms: NOW - 3_600_000 } },
      invariants: [{ invariant: "follower_forgot", count: 1 }],
    }) },
    { broker: 3, admin: "127.0.0.1:9294", answered: false, error: `connection refused ${MARKUP}`, took_ms: 1, page: null },
  ],
  verdicts: [
    { severity: "critical", broker: 2, kind: "stall", title: "Broker 2: shard/0 stands still in a deadlock",
      evidence: ["shard-0 waits for test_inner at crates/node/src/planted.rs:63:22, held by kafka-2", MARKUP],
      next: "Kill this broker; its partitions have leaders elsewhere." },
    { severity: "critical", broker: 3, kind: "no_answer", title: `Broker 3 does not answer ${MARKUP}`,
      evidence: ["connection refused"], next: `Look at its log ${MARKUP}` },
    { severity: "warning", broker: null, kind: "fewer_replicas", title: "107 partitions have fewer replicas than they should", evidence: [], next: "" },
    { severity: "info", broker: 1, kind: "recent_election", title: "One election in the last minute", evidence: [], next: "" },
  ],
};

/** The same cluster with nothing wrong. */
export const CALM = { ...CLUSTER, verdicts: [],
  brokers: [1, 2, 3].map((broker) => ({ broker, admin: `127.0.0.1:929${broker + 1}`, answered: true, error: null, took_ms: 1,
    page: page(broker, { peers: [1, 2, 3].filter((id) => id !== broker).map((id) => ({ broker: id, address: "", admin: "",
      connected: true, dead: false, last_error: null, queued_bytes: 0 })) }) })) };

export const WHY = { partition: `${TOPIC}-0`, well: false,
  says: `${TOPIC}-0 does not move because broker 2 does not apply`,
  steps: [
    { ok: true, broker: 1, text: "leads in term 2 and serves" },
    { ok: false, broker: 2, text: `does not apply: held at entry 40191 ${MARKUP}` },
    { ok: true, broker: null, text: "readers end at 40120" },
  ],
  replicas: [
    { ...GROUP, broker: 1, replica: 1, role: "leader", serving: true, held: null, applied: 40_210, quorum_durable: 40_210, high_watermark: 40_120 },
    { ...GROUP, broker: 2 },
  ] };
