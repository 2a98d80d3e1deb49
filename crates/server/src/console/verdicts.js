// What is wrong, in order of importance, or that nothing is.

import { h } from "./dom.js";
import { clock, count, plural } from "./format.js";

const RANKS = ["critical", "warning", "info"];

const rank = (verdict) => (RANKS.includes(verdict.severity) ? verdict.severity : "warning");

/** How many of each severity. */
export function tally(doc) {
  const sums = { critical: 0, warning: 0, info: 0 };
  for (const verdict of doc.verdicts ?? []) sums[rank(verdict)] += 1;
  return sums;
}

/** A name for each verdict that stays the same while it lasts, whatever its numbers say. */
export function named(doc) {
  const seen = new Map();
  return (doc.verdicts ?? []).map((verdict) => {
    const base = `${verdict.kind}/${verdict.broker ?? ""}`;
    const nth = (seen.get(base) ?? 0) + 1;
    seen.set(base, nth);
    return { name: `${base}/${nth}`, verdict };
  });
}

/** One line about all of it. */
export function headline(doc) {
  const sums = tally(doc);
  const parts = [];
  if (sums.critical) parts.push(`${sums.critical} critical`);
  if (sums.warning) parts.push(plural(sums.warning, "warning"));
  if (parts.length) return parts.join(", ");
  return isWhole(doc) ? "All is well" : "Nothing is judged to be wrong";
}

/** Whether every broker answered and is ready: only then nothing said means all is well. */
function isWhole(doc) {
  const brokers = doc.brokers ?? [];
  return brokers.length > 0 && brokers.every((one) => one.answered && one.page?.ready);
}

/** Whether the title names the broker it is about, or there is none. */
function isNamed({ broker, title }) {
  return broker === null || broker === undefined || title.toLowerCase().includes(`broker ${broker}`);
}

function one({ name, verdict }) {
  const severity = rank(verdict);
  const evidence = verdict.evidence ?? [];
  return h("li", { key: name, class: `verdict ${severity}` },
    h("div", { class: "verdict-head" },
      h("span", { class: `badge ${severity}` }, severity),
      h("h3", null, verdict.title),
      isNamed(verdict) ? null : h("span", { class: "tag" }, `broker ${verdict.broker}`)),
    evidence.length
      ? h("ul", { class: "evidence" }, evidence.map((line) => h("li", null, line))) : null,
    verdict.next ? h("p", { class: "next" }, h("b", null, "Next: "), verdict.next) : null);
}

function well(doc, since) {
  const pages = (doc.brokers ?? []).filter((broker) => broker.page).map((broker) => broker.page);
  const sum = (field) => pages.reduce((all, page) => all + (page.summary?.[field] ?? 0), 0);
  const ready = pages.filter((page) => page.ready).length;
  return h("div", { class: isWhole(doc) ? "well" : "well unsure" },
    h("p", { class: "big" }, since !== null ? `Nothing was wrong at ${clock(since)}.`
      : isWhole(doc) ? "All is well." : "Nothing is judged to be wrong."),
    h("p", null, `${ready} of ${plural((doc.brokers ?? []).length, "broker")} answer and are ready; ` +
      `${count(sum("groups"))} replicas, ${count(sum("leads"))} of them lead, ` +
      `${count(sum("serving"))} serve clients.`));
}

/** The section. `since`: when the document came, if it is too long ago; else null. */
export function verdicts(doc, since) {
  const sums = tally(doc);
  const list = named(doc).map(one);
  return [
    sums.critical + sums.warning === 0 ? well(doc, since) : null,
    list.length ? h("ol", { class: "verdicts" }, list) : null,
  ].filter(Boolean);
}
