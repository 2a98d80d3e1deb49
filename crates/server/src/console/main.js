// The page's life: documents come in, sections are drawn, clicks and keys change what is chosen.

import { brokers } from "./brokers.js";
import { h, patch } from "./dom.js";
import { elections, underWay } from "./elections.js";
import { clock, span } from "./format.js";
import { groups, sums } from "./groups.js";
import { requests } from "./requests.js";
import { listed, stalls } from "./stalls.js";
import { Stream } from "./stream.js";
import { headline, named, tally, verdicts } from "./verdicts.js";
import { way } from "./way.js";

const WHY_EVERY_MS = 2000;
const THEMES = ["auto", "light", "dark"];
const HASH = "#partition=";

const at = (id) => document.getElementById(id);
/** `since`: since when the stream is broken. */
const state = { doc: null, requestsOf: null, partition: null, answer: null, askedAt: 0, known: new Set(), since: null };

function draw() {
  const { doc } = state;
  if (!doc) return;
  patch(at("verdicts"), verdicts(doc, state.since));
  patch(at("brokers"), brokers(doc));
  patch(at("groups"), groups(doc));
  patch(at("stalls"), stalls(doc));
  patch(at("elections"), elections(doc));
  patch(at("requests"), requests(doc, state.requestsOf));
  drawTop(doc);
  drawNames(doc);
}

/** The bar that stays in sight: the worst of it, and numbers beside the links to sections. */
function drawTop(doc) {
  const { critical, warning } = tally(doc);
  const line = state.since === null ? headline(doc) : `No news since ${clock(state.since)}`;
  const severity = state.since !== null ? "unknown" : critical ? "critical" : warning ? "warning" : headline(doc) === "All is well" ? "good" : "info";
  const sign = { critical: "✕", warning: "!", good: "✓", info: "i", unknown: "?" }[severity];
  at("headline").className = `headline ${severity}`;
  patch(at("headline"), [h("span", { class: "mark", "aria-hidden": "true" }, sign), ` ${line}`]);
  document.title = `${severity === "good" ? "" : `${sign} `}${line} – Glasslog`;
  const all = doc.brokers ?? [];
  const cluster = all.find((one) => one.page?.cluster)?.page.cluster;
  at("cluster").textContent = cluster ? `cluster ${cluster}` : "";
  const pages = all.filter((one) => one.page).map((one) => one.page);
  const troubled = pages.reduce((sum, page) => sum + (sums(page).troubled ?? 0), 0);
  const numbers = {
    verdicts: critical + warning || "", stalls: listed(doc).lasting.length || "",
    brokers: `${all.filter((one) => one.answered).length}/${all.length}`,
    groups: troubled || "", elections: underWay(doc).length || "",
  };
  for (const [section, number] of Object.entries(numbers)) {
    at(`n-${section}`).textContent = number === "" ? "" : ` ${number}`;
  }
}

/** What the browser offers while a partition's name is typed. */
function drawNames(doc) {
  const pages = (doc.brokers ?? []).filter((one) => one.page).map((one) => one.page);
  const names = pages.flatMap((page) => [...(page.hottest ?? []), ...(page.troubled ?? [])])
    .map((one) => one.name).filter((name) => /-\d+$/.test(name ?? ""));
  patch(at("names"), [...new Set(names)].sort().slice(0, 100).map((name) => h("option", { key: name, value: name })));
}

/** Says new verdicts to who does not see them, once each. */
function announce(doc) {
  const now = named(doc);
  const fresh = now.filter(({ name, verdict }) => verdict.severity !== "info" && !state.known.has(name));
  const gone = [...state.known].length > 0 && now.every(({ verdict }) => verdict.severity === "info");
  state.known = new Set(now.filter(({ verdict }) => verdict.severity !== "info").map(({ name }) => name));
  if (fresh.length) {
    at("said").textContent = fresh.map(({ verdict }) => `New, ${verdict.severity}: ${verdict.title}`).join(". ");
  } else if (gone) {
    at("said").textContent = `${headline(doc)}.`;
  }
}

/** Other brokers' consoles, for when the one that is asked is the one that is gone. */
function others(doc) {
  const known = (doc?.brokers ?? []).filter((one) => one.broker !== doc.asked &&
    /^[\w.-]+:\d+$|^\[[\da-f:.]+\]:\d+$/i.test(one.admin ?? ""));
  return known.map((one) => h("a", { href: `http://${one.admin}/console`, rel: "noreferrer" }, `broker ${one.broker}`))
    .flatMap((link, n) => (n ? [", ", link] : [link]));
}

function drawLink(stream) {
  const since = stream.brokenSince;
  if ((since === null) !== (state.since === null)) {
    state.since = since;
    draw();
  }
  const asked = state.doc ? `broker ${state.doc.asked}` : "the broker";
  document.body.classList.toggle("stale", since !== null && state.doc !== null);
  at("broken").hidden = since === null;
  if (since === null) {
    at("link").textContent = state.doc ? `live from ${asked}, ${clock(state.doc.at_ms)}` : `asking ${asked} …`;
    patch(at("broken"), []);
    return;
  }
  at("link").textContent = `broken since ${clock(since)}`;
  const links = others(state.doc);
  patch(at("broken"), [h("p", null,
    h("b", null, `The stream from ${asked} is broken since ${clock(since)}`),
    // A number that changes every second would be read out every second.
    h("span", { "aria-hidden": "true" }, ` (${span(Math.floor((Date.now() - since) / 1000) * 1000)})`),
    stream.why ? `: ${stream.why}.` : ".",
    state.doc ? " What is below is from then." : "", " It is tried again by itself.",
    links.length ? [" Ask another: ", links, "."] : "")]);
}

async function askWhy() {
  const name = state.partition;
  if (!name) return;
  // Asked again some time after its answer; about what is not there only by hand.
  state.askedAt = Infinity;
  let answer;
  let isThere = true;
  try {
    const url = new URL(`../debug/why?partition=${encodeURIComponent(name)}`, import.meta.url);
    const reply = await fetch(url, { signal: AbortSignal.timeout(5000) });
    answer = await reply.json();
    isThere = reply.status !== 404;
  } catch {
    answer = { error: "the broker that is asked does not answer; it is tried again" };
  }
  if (name !== state.partition) return;
  if (isThere) state.askedAt = Date.now();
  state.answer = answer;
  patch(at("way"), way(name, answer));
}

function choose(name) {
  const wanted = name.trim();
  if (wanted === (state.partition ?? "")) return;
  state.partition = wanted || null;
  state.answer = null;
  at("partition").value = wanted;
  patch(at("way"), way(state.partition, null));
  askWhy();
}

function chosenByHash() {
  if (!location.hash.startsWith(HASH)) return;
  try {
    choose(decodeURIComponent(location.hash.slice(HASH.length)));
  } catch {
    // No name at all: somebody's own address.
  }
}

function click(event) {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  if (button.dataset.act === "requests-of") {
    const broker = Number(button.dataset.broker);
    state.requestsOf = state.requestsOf === broker ? null : broker;
    draw();
  } else if (button.dataset.act === "way") {
    location.hash = HASH + encodeURIComponent(button.dataset.name);
    at("partition").focus();
    at("way-section").scrollIntoView();
  }
}

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at("theme").textContent = `Theme: ${name}`;
}

/** What is kept of a choice; a browser may refuse to keep anything. */
function kept(name) {
  try {
    if (name !== undefined) localStorage.setItem("glasslog-theme", name);
    const found = localStorage.getItem("glasslog-theme");
    return THEMES.includes(found) ? found : "auto";
  } catch {
    return name ?? "auto";
  }
}

function begin() {
  let current = kept();
  theme(current);
  at("theme").addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    kept(current);
    theme(current);
  });
  document.addEventListener("click", click);
  at("way-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = at("partition").value.trim();
    location.hash = name ? HASH + encodeURIComponent(name) : "";
    choose(name);
  });
  addEventListener("hashchange", chosenByHash);
  patch(at("way"), way(null, null));
  const stream = new Stream(new URL("events", import.meta.url), (doc) => {
    state.doc = doc;
    announce(doc);
    draw();
    if (state.partition && Date.now() - state.askedAt >= WHY_EVERY_MS) askWhy();
  }, () => drawLink(stream));
  chosenByHash();
}

begin();
