// What stands still, and because of whom: each stall with its wait graph, thread -> lock -> holder,
// down to the one that waits for nothing, or back to one that was met before.

import { h, picture, s, table } from "./dom.js";
import { ago, bytes, clock, place, span, thread, words } from "./format.js";

const WIDE = 330;
const BOX = 262;
const LINE = 16;

/**
 * The graph from top to bottom: boxes of threads and locks, and the edges between them. `back`: the
 * box to which the last edge leads back, in a deadlock.
 */
export function graph(stall) {
  const boxes = [];
  const at = (loop) => (loop ? `${loop.loop} in ${words(loop.phase)} for ${span(loop.age_ms)}` : null);
  const chain = stall.chain ?? [];
  let back = null;
  const first = chain[0]?.waiter ?? stall.thread ?? stall.stalled.loop;
  boxes.push({ kind: "thread", id: first, title: thread(first), lines: [at(stall.stalled)] });
  for (const link of chain) {
    const waits = [`waits ${span(link.waited_ms)}`, link.waits_at ? `at ${place(link.waits_at)}` : null];
    boxes.push({ kind: "lock", title: `lock ${link.lock}`, edge: waits,
      lines: [link.mode ? `held ${words(link.mode)}` : null] });
    const holds = link.held_ms === null || link.held_ms === undefined ? null : `held ${span(link.held_ms)}`;
    const edge = [holds, link.taken_at ? `taken at ${place(link.taken_at)}` : null];
    if (!link.holder) {
      boxes.push({ kind: "thread", title: "changing hands", lines: [], edge });
      continue;
    }
    const met = boxes.findIndex((box) => box.id === link.holder);
    if (met >= 0) {
      back = { to: met, edge };
      break;
    }
    boxes.push({ kind: "thread", id: link.holder, title: thread(link.holder), lines: [], edge });
  }
  const last = boxes.at(-1);
  if (!back && last.kind === "thread") {
    if (chain.length) last.lines.push(at(stall.root));
    if (stall.root?.io) {
      const [op, size, ms] = stall.root.io;
      last.lines.push(`${words(op)} of ${bytes(size)} in flight for ${span(ms)}`);
    }
    if (stall.root_state) last.lines.push(`in the kernel: ${stall.root_state}`);
    last.cause = true;
  }
  for (const [n, box] of boxes.entries()) {
    box.lines = box.lines.filter(Boolean);
    box.edge = (box.edge ?? []).filter(Boolean);
    if (back && n >= back.to) box.cause = true;
  }
  return { boxes, back };
}

function place_boxes(boxes) {
  let y = 4;
  for (const box of boxes) {
    if (box.edge.length || y > 4) y += 20 + LINE * box.edge.length;
    box.y = y;
    box.height = 12 + LINE * (1 + box.lines.length);
    y += box.height;
  }
  return y + 6;
}

function arrow(x, y) {
  return s("path", { class: "arrow", d: `M${x - 5} ${y - 9}L${x} ${y}L${x + 5} ${y - 9}` });
}

function drawBox(box, n, boxes) {
  const top = boxes[n - 1];
  const x = 34;
  const edge = top ? [
    s("line", { class: "edge", x1: x, y1: top.y + top.height, x2: x, y2: box.y - 1 }),
    arrow(x, box.y - 1),
    box.edge.map((line, i) =>
      s("text", { class: "said", x: x + 12, y: top.y + top.height + 20 + LINE * i }, line)),
  ] : [];
  return [edge, s("g", { class: `box ${box.kind}${box.cause ? " cause" : ""}` },
    s("rect", { x: 10, y: box.y, width: BOX, height: box.height, rx: box.kind === "lock" ? 14 : 4 }),
    s("text", { class: "name", x: 22, y: box.y + 19 }, box.title),
    box.lines.map((line, i) => s("text", { x: 22, y: box.y + 19 + LINE * (i + 1) }, line)))];
}

function drawBack(back, boxes, height) {
  if (!back) return [];
  const [last, first] = [boxes.at(-1), boxes[back.to]];
  const [from, to] = [last.y + last.height / 2, first.y + first.height / 2];
  const right = WIDE - 26;
  return [
    s("path", { class: "edge cause", d: `M${10 + BOX} ${from}H${right - 8}Q${right} ${from} ${right} ${from - 8}V${to + 8}Q${right} ${to} ${right - 8} ${to}H${12 + BOX}` }),
    s("path", { class: "arrow cause", d: `M${20 + BOX} ${to - 5}L${11 + BOX} ${to}L${20 + BOX} ${to + 5}` }),
    back.edge.map((line, i) => s("text", { class: "said", x: 22, y: height + LINE * i }, i ? line : `held by ${first.title} again: ${line}`)),
  ];
}

function words_of({ boxes, back }) {
  const told = boxes.map((box) => [...box.edge, box.title, ...box.lines].join(", "));
  if (back) told.push(`${back.edge.join(", ")} by ${boxes[back.to].title}: a circle`);
  return `${told.join("; then ")}.`;
}

/** The drawing of one stall. */
export function drawing(stall, key) {
  const whole = graph(stall);
  const { boxes, back } = whole;
  let height = place_boxes(boxes);
  const end = back ? height + 14 : height;
  const drawn = [boxes.map((box, n) => drawBox(box, n, boxes)), drawBack(back, boxes, end)];
  if (back) height = end + LINE * back.edge.length;
  return picture(`Who waits for whom: ${words(stall.cause)}`, words_of(whole),
    { key: `graph-${key}`, class: "graph", viewBox: `0 0 ${WIDE} ${height}`, width: WIDE, height }, drawn);
}

function links(stall) {
  if (!stall.chain?.length) return null;
  return table("The same as a table", [{ name: "who waits" }, { name: "for" }, { name: "since" },
    { name: "where" }, { name: "held by" }, { name: "taken at" }, { name: "held for" }],
  stall.chain.map((link) => ({
    cells: [link.waiter, link.mode ? `${link.lock} (${link.mode})` : link.lock, span(link.waited_ms),
      link.waits_at ?? "–", link.holder ?? "–", link.taken_at ?? "–", span(link.held_ms)],
  })), { class: "stack" });
}

function one(broker, stall, now, lasting) {
  const key = `${broker}-${stall.id}`;
  const when = lasting
    ? `lasts for ${span(stall.stalled.age_ms)}, since ${clock(stall.began_ms)}`
    : `ended ${ago(stall.ended_ms, now)} after ${span(stall.ended_ms - stall.began_ms)}, began ${clock(stall.began_ms)}`;
  const detail = h("div", { class: "stall-body" }, drawing(stall, key),
    h("div", null, h("p", { class: "says" }, stall.says), links(stall)));
  const head = [
    h("span", { class: `badge ${lasting ? "critical" : "past"}` }, words(stall.cause)),
    h("b", null, ` ${stall.stalled.loop} of broker ${broker}`),
    h("span", { class: "quiet" }, ` ${when}`),
  ];
  if (lasting) return h("li", { key, class: "stall" }, h("h3", null, head), detail);
  return h("li", { key: `past-${key}`, class: "stall" }, h("details", null, h("summary", null, head), detail));
}

/** Every stall with its broker: those that last, then those that are over, newest first. */
export function listed(doc) {
  const all = (doc.brokers ?? []).flatMap((broker) =>
    (broker.page?.stalls ?? []).map((stall) => ({ broker: broker.broker, stall })));
  const lasting = all.filter(({ stall }) => stall.ended_ms === null);
  const past = all.filter(({ stall }) => stall.ended_ms !== null);
  // What has a known holder explains what has none.
  const rank = ({ stall }) => (stall.cause === "deadlock" ? 0 : stall.chain?.length ? 1 : 2);
  lasting.sort((a, b) => rank(a) - rank(b) || b.stall.stalled.age_ms - a.stall.stalled.age_ms);
  past.sort((a, b) => b.stall.ended_ms - a.stall.ended_ms);
  return { lasting, past };
}

const PAST_MAX = 12;

/** The section. */
export function stalls(doc) {
  const { lasting, past } = listed(doc);
  const now = doc.at_ms;
  const shown = past.slice(0, PAST_MAX);
  return [
    lasting.length ? h("ul", { class: "bare", key: "lasting" },
      lasting.map(({ broker, stall }) => one(broker, stall, now, true)))
      : h("p", { class: "quiet", key: "none" }, "Nothing stands still."),
    shown.length ? h("h3", { key: "past-head" }, `Over by now: ${past.length > shown.length ? `the last ${shown.length} of ` : ""}${past.length}`) : null,
    shown.length ? h("ul", { class: "bare rows", key: "past" },
      shown.map(({ broker, stall }) => one(broker, stall, now, false))) : null,
  ].filter(Boolean);
}
