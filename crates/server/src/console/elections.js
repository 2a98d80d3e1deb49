// Elections on a time line, each broker's in a lane, and as a list. What is under way comes first.

import { h, picture, s, table } from "./dom.js";
import { ago, clock, count, plural, span, words } from "./format.js";

const WINDOW_MS_MIN = 60_000;
const WINDOW_MS_MAX = 15 * 60_000;
const LISTED_MAX = 30;

/** What became of a post-mortem's subject: its mark and its words. */
function kindOf(record) {
  if (record.what === "leadership_lost") return "lost";
  return record.outcome === "won" ? "won" : "tried";
}

const KINDS = { won: "an election was won", tried: "stood in one and did not win", lost: "a leadership was lost" };

/** Post-mortems of all brokers, newest first. */
export function records(doc) {
  const all = (doc.brokers ?? []).flatMap((broker) => broker.page?.elections?.elections ?? []);
  return all.sort((a, b) => b.at_ms - a.at_ms || b.id - a.id);
}

/** Elections under way, of all brokers. */
export function underWay(doc) {
  return (doc.brokers ?? []).flatMap((broker) =>
    (broker.page?.elections?.under_way ?? []).map((one) => ({ broker: broker.broker, ...one })));
}

/** How long nobody led: from the last sign of a leader to the end. */
const deaf = (record) => (record.ms_since_leader ?? 0) + (record.ms ?? 0);

function mark(record, x) {
  const kind = kindOf(record);
  const shape = {
    won: s("circle", { r: 5, cy: 14 }),
    tried: s("circle", { r: 4, cy: 14 }),
    lost: s("path", { d: "M-5 10H5L0 19Z" }),
  }[kind];
  return s("svg", { x: `${x.toFixed(2)}%`, class: `mark ${kind}`, overflow: "visible" }, shape);
}

function lane(broker, own, [from, to]) {
  const percent = (ms) => Math.min(100, Math.max(0, (100 * (ms - from)) / (to - from)));
  const spans = own.filter((record) => kindOf(record) === "won").map((record) => {
    const [a, b] = [percent(record.at_ms - deaf(record)), percent(record.at_ms)];
    return s("rect", { class: "deaf", x: `${a.toFixed(2)}%`, width: `${Math.max(0.3, b - a).toFixed(2)}%`, y: 11, height: 6 });
  });
  const told = Object.keys(KINDS).map((kind) => [own.filter((one) => kindOf(one) === kind).length, KINDS[kind]])
    .filter(([n]) => n).map(([n, text]) => `${n} times ${text}`);
  return h("div", { class: "lane", key: `lane-${broker}` },
    h("span", null, `broker ${broker}`),
    picture(`Elections told by broker ${broker}`, told.join(", ") || "none",
      { key: `lane-${broker}`, class: "line", width: "100%", height: 28 },
      s("line", { class: "axis", x1: 0, x2: "100%", y1: 14, y2: 14 }),
      spans, own.map((record) => mark(record, percent(record.at_ms)))));
}

function timeLine(doc, all) {
  const now = doc.at_ms;
  const oldest = all.reduce((least, one) => Math.min(least, one.at_ms - deaf(one)), now);
  const length = Math.min(WINDOW_MS_MAX, Math.max(WINDOW_MS_MIN, (now - oldest) * 1.05));
  const from = now - length;
  const inside = all.filter((record) => record.at_ms >= from);
  const lanes = (doc.brokers ?? []).filter((broker) => broker.broker !== null).map((broker) =>
    lane(broker.broker, inside.filter((record) => record.broker === broker.broker), [from, now]));
  const ticks = [0, 1, 2, 3].map((n) => h("span", { key: n }, n === 3 ? "now" : `−${span((length * (3 - n)) / 3)}`));
  return h("div", { class: "timeline", key: "timeline" }, lanes,
    h("div", { class: "ticks", "aria-hidden": "true" }, ticks),
    h("p", { class: "quiet legend" },
      h("span", { class: "sign won", "aria-hidden": "true" }, "●"), " won, with the time without a leader before it ",
      h("span", { class: "sign tried", "aria-hidden": "true" }, "○"), " stood, not won ",
      h("span", { class: "sign lost", "aria-hidden": "true" }, "▼"), " leadership lost"));
}

function pending(doc) {
  const all = underWay(doc);
  if (!all.length) return null;
  const rows = all.map((one) => ({
    key: `${one.broker}/${one.group}`, class: "warning",
    cells: [one.name, `broker ${one.broker} stands`, `${span(one.ms)}, round ${count(one.rounds)}, term ${count(one.term)}`,
      `${words(one.reason)}; ${(one.ballots ?? []).map(([replica, answer]) => `replica ${replica} ${words(answer)}`).join(", ")}`],
  }));
  return h("div", { class: "pending", key: "pending" },
    h("h3", null, h("span", { class: "badge warning" }, "under way"), ` ${plural(all.length, "election")} not over yet`),
    table("Elections under way", [{ name: "group" }, { name: "who" }, { name: "for" }, { name: "why, and the voters" }],
      rows, { class: "stack" }));
}

function ending(record) {
  const who = `broker ${record.broker}`;
  if (record.what === "leadership_lost") return `${who} lost it, now term ${count(record.term)}`;
  if (record.outcome === "won") return `${who} won term ${count(record.term)}`;
  return `${who} did not win: ${words(record.outcome)}`;
}

function list(all, now) {
  return h("ul", { class: "bare rows", key: "list" }, all.slice(0, LISTED_MAX).map((record) =>
    h("li", { key: `${record.broker}/${record.id}` }, h("details", null,
      h("summary", null, clock(record.at_ms), " ", h("b", null, record.name), ` ${ending(record)}`,
        h("span", { class: "quiet" }, ` ${ago(record.at_ms, now)}; ${words(record.reason)}`,
          record.what === "leadership_lost" ? "" : `; no leader for ${span(deaf(record))}`)),
      h("p", { class: "says" }, record.says)))));
}

/** The section. */
export function elections(doc) {
  const all = records(doc);
  if (!all.length) {
    return [pending(doc), h("p", { class: "quiet", key: "none" }, "No election is remembered.")].filter(Boolean);
  }
  const over = h("details", { key: "over" },
    h("summary", null, `The newest ${Math.min(LISTED_MAX, all.length)} of ${plural(all.length, "record")} as a list`),
    list(all, doc.at_ms));
  return [pending(doc), timeLine(doc, all), over].filter(Boolean);
}
