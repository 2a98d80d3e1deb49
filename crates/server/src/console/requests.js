// Where the time of produces goes: stages one after the other, at the median and at p99, and the
// slowest requests whole, with what each follower took.

import { h, s, table } from "./dom.js";
import { clock, count, span, words } from "./format.js";

const SLOWEST_MAX = 8;
/** The stage before which an entry leaves for the followers. */
const SENT_AFTER = "propose";

/** What took next to nothing is still to be seen. */
const SHARE_MIN = 0.003;

function bar(from, length, total, kind) {
  const percent = (ms) => `${Math.min(100, (100 * ms) / (total || 1)).toFixed(2)}%`;
  const width = percent(Math.max(length, total * SHARE_MIN));
  return s("svg", { class: "bar", width: "100%", height: 12, "aria-hidden": "true" },
    s("rect", { class: kind, x: percent(from), y: 1, height: 10, width }));
}

function rows(stages) {
  const longest = Math.max(...stages.map((stage) => stage.ms));
  let at = 0;
  return stages.map((stage) => {
    const row = { name: words(stage.stage), from: at, ms: stage.ms,
      kind: stage.ms === longest && stage.ms > 0 ? "stage longest" : "stage" };
    at += stage.ms;
    return row;
  });
}

/** Followers' acknowledgements beside the stages: sent once the entry was proposed. */
function followers(stages, peers) {
  let sent = 0;
  for (const stage of stages) {
    sent += stage.ms;
    if (stage.stage === SENT_AFTER) break;
  }
  return (peers ?? []).map((peer) => ({
    name: `broker ${peer.broker}`, from: sent, ms: peer.ms, kind: "peer",
    text: peer.ms === null ? "did not answer" : `answered in ${span(peer.ms)}`,
  }));
}

function fall(key, title, stages, total, peers) {
  const all = [...rows(stages), ...followers(stages, peers)];
  const told = all.map((row) => `${row.name} ${row.text ?? span(row.ms)}`).join(", ");
  return h("div", { class: "fall", role: "img", "aria-label": `${title}: ${told}`, key },
    all.map((row) => h("div", { class: `fall-row ${row.kind}`, key: row.name },
      h("span", null, row.name),
      row.ms === null ? h("span", null) : bar(row.from, row.ms, total, row.kind),
      h("span", { class: "number" }, row.kind === "peer" && row.ms === null ? "no answer" : span(row.ms)))));
}

/** Brokers with a page of requests. */
function pagesOf(doc) {
  return (doc.brokers ?? []).filter((one) => one.page?.requests)
    .map((one) => ({ broker: one.broker, page: one.page.requests }));
}

const p99 = (one, api) => one.page[api]?.p99?.ms ?? 0;

function overview(pages, chosen) {
  const choice = (one) => h("button", { type: "button", class: "plain", "data-act": "requests-of",
    "data-broker": one.broker, "aria-pressed": String(one.broker === chosen) }, `broker ${one.broker}`);
  const row = (name, of) => ({ key: name, cells: [name, ...pages.map(({ page }) => of(page))] });
  return table("Requests of the last minute, by broker",
    [{ name: "last minute" }, ...pages.map((one) => ({
      name: `broker ${one.broker}`, head: choice(one), number: true, class: one.broker === chosen ? "chosen" : null }))],
    [row("produces", (page) => count(page.produce?.count)),
      row("median", (page) => span(page.produce?.p50?.ms)),
      row("p99", (page) => span(page.produce?.p99?.ms)),
      row("fetches", (page) => count(page.fetch?.count)),
      row("p99 of those", (page) => span(busyOf(page.fetch?.p99)))], { class: "states", key: "overview" });
}

/** A fetch that waits for records is not slow. */
function busyOf(fall) {
  if (!fall) return null;
  return fall.ms - (fall.stages.find((stage) => stage.stage === "wait")?.ms ?? 0);
}

function falls(one) {
  const half = (name, found) => found
    ? h("div", { key: name }, h("h3", null, `Produce, ${name}: ${span(found.ms)}`),
      fall(`fall-${name}`, `Produce at the ${name}`, found.stages, found.ms)) : null;
  const { p50, p99 } = one.page.produce ?? {};
  if (!p50) return h("p", { class: "quiet" }, `Broker ${one.broker} had no produce in the last minute.`);
  return h("div", { class: "falls" }, half("median", p50), half("p99", p99));
}

function slow({ broker, request }) {
  const longest = request.stages.reduce((most, one) => (one.ms > most.ms ? one : most));
  const key = `${broker}/${request.connection}/${request.correlation}/${request.at_ms}`;
  const facts = [`client ${request.client || "without an id"}`,
    `connection ${request.connection}, correlation ${request.correlation}`,
    request.group ? `group ${request.group}, entry ${count(request.index)}` : null,
    request.error ? `error ${request.error}` : null,
    request.trace_id ? `trace ${request.trace_id}` : null].filter(Boolean);
  return h("li", { key }, h("details", null,
    h("summary", null, h("b", null, span(request.total_ms)),
      ` ${request.api} ${request.topic}-${request.partition} `,
      h("span", { class: "quiet" }, `broker ${broker}, ${clock(request.at_ms)}; longest: ${words(longest.stage)} ${span(longest.ms)}`)),
    fall(`fall-${key}`, "This request", request.stages, request.total_ms, request.replicate),
    h("p", { class: "quiet" }, facts.join(" · ")),
    (request.replicate ?? []).length
      ? h("p", { class: "quiet" }, "A follower's bar begins when the entry was proposed and ends with its acknowledgement.") : null));
}

function slowest(pages) {
  const all = pages.flatMap(({ broker, page }) =>
    (page.slowest ?? []).map((request) => ({ broker, request })));
  const busy = ({ request }) => busyOf({ ms: request.total_ms, stages: request.stages });
  all.sort((a, b) => busy(b) - busy(a));
  if (!all.length) return h("p", { class: "quiet" }, "No request in the last minute.");
  return h("ul", { class: "bare rows" }, all.slice(0, SLOWEST_MAX).map(slow));
}

/** The section; `wanted`: the broker that was chosen, or none. */
export function requests(doc, wanted) {
  const pages = pagesOf(doc);
  if (!pages.length) return [h("p", { class: "quiet" }, "No broker says.")];
  const worst = pages.reduce((most, one) => (p99(one, "produce") > p99(most, "produce") ? one : most));
  const chosen = pages.find((one) => one.broker === wanted) ?? worst;
  return [
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests by broker", key: "table" },
      overview(pages, chosen.broker)),
    h("div", { key: "falls" }, h("p", { class: "quiet" },
      `Broker ${chosen.broker}${wanted === null || wanted === undefined ? ", whose p99 is the longest" : ""}: `,
      "stages follow one another from left to right."), falls(chosen)),
    h("h3", { key: "slow-head" }, "The slowest of the last minute"),
    h("div", { key: "slow" }, slowest(pages)),
  ];
}
