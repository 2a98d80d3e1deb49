// Groups by state over all brokers, those in trouble with why, snapshots on their way, and the
// partitions that are used most.

import { h, table } from "./dom.js";
import { bytes, count, plural, span, words } from "./format.js";

/** The groups that need a person, as this broker tells them. */
function troubled(page) {
  return page.troubled ?? [];
}

/** How many replicas of a broker are in which state. */
export function sums(page) {
  // A broker whose threads do not answer has none, which is not the same as 0.
  if (!page.summary) return {};
  const { groups, leads, serving } = page.summary;
  const those = troubled(page);
  return {
    leads, serving, follows: groups - leads,
    troubled: page.summary.troubled,
    suspect: those.filter((group) => group.suspect).length,
    held: those.filter((group) => group.held).length,
    quarantined: (page.quarantined ?? []).length,
  };
}

const STATES = [["leads", "lead"], ["serving", "serve clients"], ["follows", "follow"],
  ["troubled", "need somebody"], ["suspect", "are suspect"], ["held", "are held"],
  ["quarantined", "are quarantined"]];
/** Above 0 these need somebody. */
const BAD = new Set(["troubled", "suspect", "held", "quarantined"]);

/** Why a group is in trouble, in words. */
export function whyOf(group) {
  const why = [];
  if (group.held) why.push(`held: ${group.held}`);
  if (group.suspect) why.push("suspect: it may have forgotten what it acknowledged, and neither votes nor leads");
  for (const one of group.starved ?? []) {
    why.push(`broker ${one.broker} gets nothing for ${span(one.ms)}: ${words(one.why)}`);
  }
  if (group.attempt) {
    why.push(`stands in an election for ${span(group.attempt.ms)} (${words(group.attempt.reason)})`);
  }
  if (group.serving && group.isr < group.replicas) why.push(`${group.isr} of ${group.replicas} replicas in sync`);
  if (group.role === "leader" && !group.serving) why.push("leads, and does not serve yet");
  return why.join("; ") || "it is listed without a reason";
}

function states(pages) {
  const own = pages.map(({ page }) => sums(page));
  const cell = (state) => (of) => BAD.has(state) && of[state] > 0
    ? h("b", { class: "warning" }, `! ${count(of[state])}`) : count(of[state]);
  return table("Replicas by state, of each broker",
    [{ name: "replicas that" }, ...pages.map(({ broker }) => ({ name: `broker ${broker}`, number: true }))],
    STATES.map(([state, name]) => ({ key: state, cells: [name, ...own.map(cell(state))] })), { class: "states" });
}

/** A button that shows a partition's replicas. */
export function partition(name) {
  return h("button", { type: "button", class: "plain", "data-act": "way", "data-name": name }, name);
}

const isPartition = (name) => /-\d+$/.test(name ?? "");

function troubles(pages) {
  const rows = pages.flatMap(({ broker, page }) => [
    ...troubled(page).map((group) => ({
      key: `${broker}/${group.group}`,
      cells: [isPartition(group.name) ? partition(group.name) : group.name,
        `broker ${broker}`, `${words(group.role)}, term ${count(group.term)}`, whyOf(group)],
    })),
    ...(page.quarantined ?? []).map((group) => ({
      key: `${broker}/q${group.group}`,
      cells: [`group ${group.group}`, `broker ${broker}`, "quarantined", group.why],
    })),
  ]);
  if (!rows.length) return h("p", { class: "quiet" }, "No group is in trouble.");
  return table("Groups in trouble, and why",
    [{ name: "group" }, { name: "where" }, { name: "state" }, { name: "why" }], rows, { class: "stack" });
}

function snapshots(pages) {
  const rows = pages.flatMap(({ broker, page }) => (page.transfers ?? []).map((one) => ({
    key: `${broker}/${one.group}`,
    cells: [one.name, `${one.from_broker} → ${broker}`,
      `${words(one.stage)}, ${bytes(one.bytes)} of ${bytes(one.total)}, for ${span(one.since_ms)}`,
      one.last_error ? `${plural(one.failures, "failure")}: ${one.last_error}` : ""],
  })));
  if (!rows.length) return null;
  return [h("h3", null, "Snapshots on their way"),
    table("Snapshots on their way", [{ name: "group" }, { name: "from → to" }, { name: "how far" },
      { name: "trouble" }], rows, { class: "stack" })];
}

function hottest(pages) {
  const all = pages.flatMap(({ page }) => page.hottest ?? []);
  all.sort((a, b) => b.records_per_s - a.records_per_s);
  const top = all.slice(0, 10).filter((one) => one.records_per_s > 0);
  if (!top.length) return null;
  return [h("h3", null, "Written most"),
    h("ul", { class: "chips" }, top.map((one) => h("li", { key: one.name }, partition(one.name),
      h("span", { class: "quiet" }, ` ${count(Math.round(one.records_per_s))}/s`))))];
}

/** The section. */
export function groups(doc) {
  const pages = (doc.brokers ?? []).filter((one) => one.page);
  if (!pages.length) return [h("p", { class: "quiet" }, "No broker says.")];
  return [h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Groups by state" }, states(pages)),
    troubles(pages), snapshots(pages), hottest(pages)].flat().filter(Boolean);
}
