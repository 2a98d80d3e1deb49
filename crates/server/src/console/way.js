// A partition's way through the cluster: how far each replica's log is, step by step, and the
// causal steps as the cluster tells them.

import { h, s } from "./dom.js";
import { count, plural, words } from "./format.js";

/** The stages of an entry, in the order in which it goes through them. */
const LANES = [
  ["appended", (one) => one.last_index],
  ["durable", (one) => one.durable],
  ["quorum-durable", (one) => one.quorum_durable],
  ["committed", (one) => one.commit],
  ["applied", (one) => one.applied],
];

/** The part of the log that is drawn: where replicas differ, with some room before it. */
export function domain(replicas) {
  const all = replicas.flatMap((one) => LANES.map(([, of]) => of(one))).filter((n) => Number.isFinite(n));
  if (!all.length) return [0, 1];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = Math.max(4, Math.ceil((high - low) * 0.5));
  return [Math.max(0, low - room), Math.max(high, 1)];
}

function lane(name, value, [low, high], most) {
  const behind = most - value;
  const percent = high > low ? (100 * (value - low)) / (high - low) : 100;
  return h("div", { class: "fall-row way-row", key: name },
    h("span", null, name),
    s("svg", { class: "bar", width: "100%", height: 12, "aria-hidden": "true" },
      s("rect", { class: "track", x: 0, y: 5, width: "100%", height: 2 }),
      s("rect", { class: `lane-${name}`, x: 0, y: 1, height: 10, width: `${percent.toFixed(2)}%` })),
    h("span", { class: "number" }, count(value),
      behind > 0 ? h("b", { class: "warning" }, ` −${count(behind)}`) : ""));
}

function replica(one, range, most) {
  const lanes = LANES.map(([name, of]) => [name, of(one)]).filter(([, n]) => Number.isFinite(n));
  const told = lanes.map(([name, n]) => `${name} ${n}`).join(", ");
  const offsets = `records ${count(one.log_start)} to ${count(one.next_offset)}, readers end at the high watermark ${count(one.high_watermark)}`;
  const bad = [one.held ? `held: ${one.held}` : null, one.suspect ? "suspect" : null].filter(Boolean);
  return h("li", { key: one.broker, class: "replica" },
    h("p", null, h("b", null, `broker ${one.broker}`),
      h("span", { class: one.role === "leader" ? "tag strong" : "tag" }, words(one.role)),
      h("span", { class: "quiet" }, ` term ${count(one.term)}`,
        one.role === "leader" ? `, ${one.serving ? "serves" : "does not serve yet"}` : ""),
      bad.length ? h("b", { class: "warning" }, ` ! ${bad.join(", ")}`) : null),
    h("div", { class: "fall", role: "img", "aria-label": `Broker ${one.broker}: entries ${told}` },
      lanes.map(([name, n]) => lane(name, n, range, most[name]))),
    Number.isFinite(one.next_offset) ? h("p", { class: "quiet" }, offsets) : null);
}

function most(replicas) {
  const entries = LANES.map(([name, of]) =>
    [name, Math.max(...replicas.map(of).filter((n) => Number.isFinite(n)))]);
  return Object.fromEntries(entries);
}

/** Whether a step names its broker itself, or is about none. */
function hasName({ broker, text }) {
  return broker === null || broker === undefined || text.includes(`broker ${broker}`);
}

function steps(all) {
  return h("ol", { class: "steps" }, all.map((step) =>
    h("li", { class: step.ok ? "good" : "critical" },
      h("span", { class: "mark", "aria-hidden": "true" }, step.ok ? "✓" : "✕"),
      h("span", null, h("span", { class: "hidden" }, step.ok ? "in order: " : "not in order: "),
        hasName(step) ? null : h("b", null, `broker ${step.broker} `), step.text))));
}

/** What is shown of a partition; `answer`: of /debug/why, or {error}. */
export function way(name, answer) {
  if (!name) return [h("p", { class: "quiet" }, "Type a partition, or choose one from the lists above.")];
  if (!answer) return [h("p", { class: "quiet" }, `Asking about ${name} …`)];
  if (answer.error) {
    return [h("p", { class: "line critical", role: "alert" }, h("b", null, `${name}: `), answer.error)];
  }
  const replicas = answer.replicas ?? [];
  const range = domain(replicas);
  return [
    h("p", { key: "says", class: answer.well === false ? "verdict warning" : "verdict info" },
      h("b", null, answer.says ?? `${answer.partition ?? name}`)),
    (answer.steps ?? []).length ? steps(answer.steps) : null,
    h("h3", { key: "head" }, `${plural(replicas.length, "replica")} of ${answer.partition ?? name}`),
    h("p", { class: "quiet", key: "scale" }, `Bars: raft entries from ${count(range[0])} to ${count(range[1])}. −n: so many entries behind the furthest replica.`),
    h("ul", { class: "bare replicas", key: "replicas" }, replicas.map((one) => replica(one, range, most(replicas)))),
  ].filter(Boolean);
}
