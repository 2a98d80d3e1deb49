// Each broker: whether it answered, what it does, its links, its disk, its loops. And a map of who
// is connected to whom, as each of them says.

import { h, picture, s, table } from "./dom.js";
import { ago, bytes, clock, count, place, plural, span, words } from "./format.js";

/** How a broker is called: an address that was asked in vain may be nobody's that is known. */
export const nameOf = (broker) => (broker.broker === null ? `at ${broker.admin}` : `${broker.broker}`);

/** A word for a broker's state, and its severity. */
export function stateOf(broker) {
  if (!broker.answered) return ["no answer", "critical"];
  if (broker.page?.crash?.ending) return ["ends itself", "critical"];
  if (broker.page?.error) return [words(broker.page.state ?? "hung"), "critical"];
  if (broker.page?.ready) return ["ready", "good"];
  return [words(broker.page?.state ?? "not ready"), "warning"];
}

/** Loops that do something, the one that does it longest first. */
export function busiest(page) {
  const busy = (page.loops ?? []).filter((loop) => loop.phase !== "idle");
  return busy.sort((a, b) => b.age_ms - a.age_ms);
}

/** One direction of a link as `from` tells it. */
function link(from, to) {
  if (!from.page) return "unknown";
  const peer = (from.page.peers ?? []).find((one) => one.broker === to.broker);
  if (!peer) return "unknown";
  return peer.connected && !peer.dead ? "up" : "down";
}

/** A clock that differs by more is worth a word. */
const CLOCK_MS = 1000;

const WORD = { up: "connected", down: "not connected", unknown: "not known" };

function half(from, to, a, b) {
  const state = link(from, to);
  const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  const line = s("line", { class: `link ${state}`, x1: a.x, y1: a.y, x2: mx, y2: my });
  if (state !== "down") return [line];
  const [cx, cy] = [a.x + (mx - a.x) * 0.72, a.y + (my - a.y) * 0.72];
  return [line, s("path", { class: "link-cross", d: `M${cx - 4} ${cy - 4}l8 8m0 -8l-8 8` })];
}

function map(brokers) {
  const [w, height, r] = [260, 170, 58];
  const at = brokers.map((_, n) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * n) / brokers.length;
    return { x: w / 2 + 1.45 * r * Math.cos(angle), y: height / 2 + 8 + r * Math.sin(angle) };
  });
  const [lines, said] = [[], []];
  for (const [i, from] of brokers.entries()) {
    for (const [j, to] of brokers.entries()) {
      if (i === j) continue;
      lines.push(half(from, to, at[i], at[j]));
      said.push(`broker ${nameOf(from)} to ${nameOf(to)}: ${WORD[link(from, to)]}`);
    }
  }
  const nodes = brokers.map((broker, n) => {
    const [word, severity] = stateOf(broker);
    return s("g", { class: `node ${severity}`, transform: `translate(${at[n].x} ${at[n].y})` },
      s("circle", { r: 19 }),
      s("text", { class: "id", y: 5 }, broker.broker ?? "?"),
      s("text", { class: "word", y: 32 }, word));
  });
  return picture("Links between brokers", `${said.join("; ")}.`,
    { key: "map", class: "map", viewBox: `0 0 ${w} ${height + 14}` }, lines, nodes);
}

function figure(name, value, severity) {
  return h("div", { class: severity ? `figure ${severity}` : "figure" },
    h("dt", null, name), h("dd", null, value));
}

function links(page) {
  const peers = page.peers ?? [];
  if (!peers.length) return h("p", { class: "quiet" }, "No peers: it is a cluster of its own.");
  return h("ul", { class: "links" }, peers.map((peer) => {
    const up = peer.connected && !peer.dead;
    const why = up ? null : peer.last_error ?? (peer.dead ? "its death was seen" : "not yet");
    return h("li", { key: peer.broker, class: up ? "good" : "critical" },
      h("span", { class: "mark", "aria-hidden": "true" }, up ? "✓" : "✕"),
      h("span", null, `to ${peer.broker} ${up ? "connected" : "not connected"}`,
        why ? `: ${why}` : "",
        peer.queued_bytes > 0 ? `, ${bytes(peer.queued_bytes)} queued` : ""));
  }));
}

function loops(broker) {
  const all = [...(broker.page.loops ?? [])].sort((a, b) =>
    (a.phase === "idle") - (b.phase === "idle") || b.age_ms - a.age_ms);
  const oldest = busiest(broker.page)[0];
  const severe = oldest && oldest.age_ms >= 1000;
  const name = (loop) => `${loop.loop}/${loop.index}`;
  const summary = oldest
    ? `busy longest: ${name(oldest)}, ${words(oldest.phase)} for ${span(oldest.age_ms)}`
    : "all of them wait for work";
  const rows = all.map((loop) => ({
    key: name(loop),
    class: loop.phase !== "idle" && loop.age_ms >= 1000 ? "warning" : null,
    cells: [name(loop), words(loop.phase), span(loop.age_ms),
      loop.waits_for_lock ? `waits for a lock at ${place(loop.waits_for_lock.site)}`
        : loop.io ? `${words(loop.io.op)} of ${bytes(loop.io.bytes)}`
        : loop.phase === "idle" ? "" : words(loop.input)],
  }));
  return h("details", { key: "loops" },
    h("summary", null, `${plural(all.length, "loop")}; `,
      h("span", { class: severe ? "warning" : null }, summary)),
    table(`Loops of broker ${nameOf(broker)}`,
      [{ name: "loop" }, { name: "phase" }, { name: "for", number: true }, { name: "with" }], rows, { class: "loops" }));
}

function disk(page) {
  if (page.journal_full) {
    return h("p", { class: "line critical" }, h("b", null, "Disk: "), page.journal_full);
  }
  const io = (page.loops ?? []).filter((loop) => loop.io).sort((a, b) => b.io.age_ms - a.io.age_ms)[0];
  const slow = io && io.io.age_ms >= 1000;
  return h("p", { class: slow ? "line warning" : "line" }, h("b", null, "Disk: "), slow
    ? `${words(io.io.op)} of ${bytes(io.io.bytes)} in flight for ${span(io.io.age_ms)}`
    : "takes writes");
}

function endings(page, now) {
  const { ending, last } = page.crash ?? {};
  return [
    ending ? h("p", { class: "line critical" }, h("b", null, "It ends itself: "),
      `${words(ending.reason)}: ${ending.why}`) : null,
    last ? h("p", { class: "line" }, h("b", null, "Its life before ended badly: "),
      `${words(last.reason)}, ${last.at_ms ? ago(last.at_ms, now) : "when is not known"}: ${last.why}`) : null,
  ];
}

/** What a broker whose own threads answer says of itself. */
function inside(page) {
  const { leads, serving, groups, troubled } = page.summary ?? {};
  const unled = page.unled?.count ?? 0;
  return [
    h("dl", { class: "figures" },
      figure("leads", count(leads)),
      figure("serves", count(serving), serving < leads ? "warning" : null),
      figure("replicas", count(groups)),
      figure("troubled", count(troubled), troubled ? "warning" : null)),
    unled ? h("p", { class: "line warning" }, h("b", null, `Knows no leader of ${plural(unled, "partition")}: `),
      page.unled.names.join(", "), unled > page.unled.names.length ? " …" : "") : null,
    links(page), disk(page),
  ];
}

function told(broker, page, now) {
  const { clock_ahead_ms: ahead } = broker;
  return [
    page.error ? h("p", { class: "line critical" }, h("b", null, "Its threads do not answer: "), page.error)
      : page.ready ? null
      : h("p", { class: "line warning" }, h("b", null, "Waits for: "),
        (page.waiting_for ?? []).join(", ") || "nothing it names"),
    endings(page, now),
    page.summary ? inside(page) : null,
    loops(broker),
    Math.abs(ahead ?? 0) >= CLOCK_MS ? h("p", { class: "line warning" }, h("b", null, "Its clock: "),
      `${span(Math.abs(ahead))} ${ahead > 0 ? "ahead" : "behind"}`) : null,
    (page.invariants ?? []).length ? h("p", { class: "line critical" }, h("b", null, "Broken invariants: "),
      page.invariants.map((one) => `${words(one.invariant)} ${count(one.count)}×`).join(", ")) : null,
  ];
}

function card(broker, asked, now) {
  const [word, severity] = stateOf(broker);
  const page = broker.page;
  const head = h("div", { class: "card-head" },
    h("h3", null, `Broker ${nameOf(broker)}`),
    h("span", { class: `badge ${severity}` }, word),
    broker.broker === asked ? h("span", { class: "tag" }, "asked") : null);
  const where = [broker.admin, page?.version && `version ${page.version}`,
    page && `up ${span(page.uptime_ms)}`].filter(Boolean).join(" · ");
  const body = page ? told(broker, page, now)
    : h("p", { class: "line critical" }, h("b", null, "It does not answer: "), broker.error ?? "nobody says why");
  return h("li", { key: `b${nameOf(broker)}`, class: `card ${severity}` }, head,
    h("p", { class: "quiet" }, where || "its admin port is not known"), body,
    h("p", { class: "quiet foot" }, page
      ? `told at ${clock(page.at_ms)}, in ${span(broker.took_ms)}` : `given up after ${span(broker.took_ms)}`));
}

/** The section. */
export function brokers(doc) {
  const all = doc.brokers ?? [];
  const cards = h("ul", { class: "cards" }, all.map((one) => card(one, doc.asked, doc.at_ms)));
  if (all.length < 2 || all.length > 9) return [cards];
  return [h("div", { class: "cluster" }, map(all), cards)];
}
