// A browser's page with everything noted that a good page does not do: errors on its console, and
// requests to anybody but the broker.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const PHONE = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 900 };

/** A name that leads to the brokers' address and is none of theirs. */
export const FOREIGN = "rebound.test";

export async function launch(program) {
  // As root in a container Chromium has no sandbox of its own; it opens nothing but our page.
  return chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-dev-shm-usage",
    `--host-resolver-rules=MAP ${FOREIGN} 127.0.0.1`] });
}

/** A fresh page; `faults` fills up while it lives. */
export async function fresh(browser, { viewport = DESKTOP, dark = false, still = true, bypassCSP = false } = {}) {
  const context = await browser.newContext({ viewport, bypassCSP,
    colorScheme: dark ? "dark" : "light", reducedMotion: still ? "reduce" : "no-preference" });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.origin !== page.origin) faults.push(`request to ${url.origin}`);
  });
  page.faults = faults;
  page.done = () => context.close();
  return page;
}

export async function visit(page, base, path = "/console") {
  page.origin = new URL(base).origin;
  await page.goto(base + path);
}

/** Waits until `look` (run in the page) is true; how many seconds that took. */
export async function until(page, what, look, argument, limit = 10_000) {
  const since = Date.now();
  try {
    await page.waitForFunction(look, argument, { timeout: limit, polling: 100 });
  } catch (error) {
    const shown = await page.evaluate(() => document.body.innerText.slice(0, 1500)).catch(() => "");
    throw new Error(`${what}: not within ${limit / 1000} s: ${error.message.split("\n")[0]}\n${shown}`);
  }
  return (Date.now() - since) / 1000;
}

/** Nothing sticks out to the right. */
export async function assertFits(page) {
  const wide = await page.evaluate(() => {
    const limit = document.documentElement.clientWidth;
    const scrolls = (node) => node && (getComputedStyle(node).overflowX === "auto" || scrolls(node.parentElement));
    const out = [...document.querySelectorAll("body *")].filter((node) =>
      node.getBoundingClientRect().right > limit + 1 && !scrolls(node) && !node.closest(".hidden, svg"));
    return { whole: document.documentElement.scrollWidth, limit,
      out: out.slice(0, 5).map((node) => `${node.tagName}.${node.className} ${node.textContent.slice(0, 40)}`) };
  });
  if (wide.whole > wide.limit || wide.out.length) throw new Error(`too wide: ${JSON.stringify(wide)}`);
}

/** What axe finds; only what is serious fails. */
export async function assertAccessible(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const bad = found.violations.filter((one) => ["serious", "critical", "moderate"].includes(one.impact));
  if (bad.length) {
    throw new Error(bad.map((one) => `${one.impact} ${one.id}: ${one.help}: ` +
      one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary.split("\n")[1] ?? ""}`).join("; ")).join("\n"));
  }
  return found.passes.length;
}

export function assertQuiet(page, allowed = () => false) {
  const bad = page.faults.filter((fault) => !allowed(fault));
  if (bad.length) throw new Error(bad.slice(0, 5).join("\n"));
}
