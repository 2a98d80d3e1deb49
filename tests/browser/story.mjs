// The web console in a real browser, before three real brokers of which two are killed.
//
//   story.mjs CHROMIUM URL PARTITION FOLDER [LOOK]
//
// Prints a line per check, `ok<TAB>NAME<TAB>TEXT` or `fail<TAB>NAME<TAB>WHY` (line breaks as \n).
// What it cannot do itself it asks for: `want<TAB>kill<TAB>2`, and waits for a line on standard
// input. Pictures go to FOLDER. With the word LOOK it only takes one picture of what is there.

import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { CALM, CLUSTER, MARKUP, WHY } from "./fake.mjs";
import { assertAccessible, assertFits, assertQuiet, DESKTOP, FOREIGN, fresh, launch, PHONE, until, visit } from "./page.mjs";

const [program, base, partition, folder, look] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browser = await launch(program);
async function shot(page, name, fullPage = true) {
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage });
}
const say = (...words) => console.log(words.map((word) => String(word).replaceAll("\n", "\\n").replaceAll("\t", " ")).join("\t"));

async function check(name, work) {
  try {
    say("ok", name, (await work()) ?? "");
  } catch (error) {
    say("fail", name, error.message);
  }
}

async function want(...words) {
  say("want", ...words);
  const { value } = await answers.next();
  if (value !== "done") throw new Error(`${words.join(" ")}: ${value}`);
}

/** The texts of an element, as a reader sees them. */
const text = (page, selector) => page.locator(selector).first().innerText();
const isWell = () => document.querySelector("#verdicts .well .big")?.textContent === "All is well.";
/** Nothing but what a busy machine does to a broker, or what is remembered of a minute before. */
const isCalm = () => {
  const machine = ["ticks_late", "lease_expiring", "request_waits", "election_churn"];
  const cards = [...document.querySelectorAll("#brokers .card")];
  const verdicts = [...document.querySelectorAll("#verdicts .verdict:not(.info)")];
  return cards.length === 3 && cards.every((card) => card.classList.contains("good")) &&
    verdicts.every((one) => machine.includes(one.dataset.key.split("/")[0]));
};

/** Waits for "All is well", which a machine with other things to do may not let it say. */
async function untilWell(page, limit = 15_000) {
  try {
    return `well after ${(await until(page, "all is well", isWell, null, limit)).toFixed(1)} s`;
  } catch {
    await until(page, "nothing but a busy machine", isCalm, null, 15_000);
    const why = await page.evaluate(() => document.querySelector("#verdicts .verdict:not(.info) h3")?.innerText);
    return `but for a busy machine: ${why ?? "over by now"}`;
  }
}

/** The words are waited for once; then it is about how they look. */
let saidWell = false;

async function calm(viewport, dark) {
  const name = `calm-${viewport === PHONE ? "phone" : "desktop"}-${dark ? "dark" : "light"}`;
  const page = await fresh(browser, { viewport, dark });
  await visit(page, base, "/");
  const well = await untilWell(page, saidWell ? 1_000 : 15_000);
  saidWell = true;
  if (new URL(page.url()).pathname !== "/console") throw new Error(`at ${page.url()}`);
  await page.waitForTimeout(1_200);
  await assertFits(page);
  await shot(page, name);
  assertQuiet(page);
  await page.done();
  return `${well}; ${name}.png`;
}

/** The page with documents of ours in place of the cluster's. */
async function faked(cluster, options) {
  const page = await fresh(browser, options);
  const document = { at: cluster };
  await page.route("**/console/events", (route) => route.fulfill({
    contentType: "text/event-stream", body: `retry: 300\n\nevent: cluster\ndata: ${JSON.stringify(document.at)}\n\n` }));
  await page.route("**/debug/why*", (route) => route.fulfill({ json: WHY }));
  page.show = (next) => { document.at = next; };
  await visit(page, base, "/console#partition=x-0");
  await until(page, "the document", () => document.querySelector("#brokers .card"));
  await until(page, "the way", () => document.querySelectorAll("#way .replica").length === 2);
  return page;
}

/** Axe sees both layouts and both palettes in two of the four; it takes its time. */
const seenByAxe = (viewport, dark) => (viewport === PHONE) !== dark;

async function trouble(viewport, dark) {
  const name = `trouble-${viewport === PHONE ? "phone" : "desktop"}-${dark ? "dark" : "light"}`;
  const page = await faked(CLUSTER, { viewport, dark, bypassCSP: true });
  for (const summary of await page.locator("summary").all()) await summary.click();
  await assertFits(page);
  await shot(page, name);
  const passed = seenByAxe(viewport, dark) ? `${await assertAccessible(page)} rules of axe; ` : "";
  assertQuiet(page);
  await page.done();
  return `${passed}${name}.png`;
}

async function graphs() {
  const page = await faked(CLUSTER);
  const drawn = await page.locator("#stalls svg.graph").first().textContent();
  for (const part of ["shard-0", "lock test_inner", "waits 4.2 s", "at node/planted.rs:63", "kafka-2", "lock test_outer"]) {
    if (!drawn.includes(part)) throw new Error(`no ${part} in ${drawn}`);
  }
  const lasting = page.locator("#stalls svg.graph").first();
  const causes = await lasting.locator(".box.cause").count();
  const back = await lasting.locator(".edge.cause").count();
  const words = await lasting.locator("desc").textContent();
  if (causes !== 4 || back !== 1 || !words.includes("a circle")) throw new Error(`${causes} ${back} ${words}`);
  const under = await text(page, "#elections .pending");
  if (!under.includes("orders-1")) throw new Error(under);
  await page.done();
  return words;
}

async function foreign() {
  const page = await faked(CLUSTER);
  for (const summary of await page.locator("summary").all()) await summary.click();
  const made = await page.evaluate(() => ({ hacked: window.hacked ?? null,
    nodes: document.querySelectorAll("main img, main script, main iframe").length }));
  if (made.hacked !== null || made.nodes !== 0) throw new Error(JSON.stringify(made));
  const shown = await page.evaluate(() => document.querySelector("main").textContent);
  const times = shown.split(MARKUP).length - 1;
  if (times < 12) throw new Error(`the names are shown ${times} times as they are`);
  await page.locator("#requests [data-act='requests-of']").first().click();
  await page.locator("#groups .chips button").first().click();
  const asked = await page.locator("#partition").inputValue();
  if (!asked.includes(MARKUP)) throw new Error(asked);
  // What the policy forbids the page cannot do by mistake either.
  const refused = await page.evaluate(() => {
    try {
      document.querySelector("main").innerHTML = "<b>x</b>";
      return false;
    } catch {
      return true;
    }
  });
  if (!refused) throw new Error("markup can be made of strings");
  assertQuiet(page, (fault) => fault.includes("TrustedHTML") || fault.includes("TrustedType"));
  await page.done();
  return `${times} times as text`;
}

async function announced() {
  const page = await faked(CALM);
  await until(page, "calm", isWell);
  const details = page.locator("#brokers details").first();
  await details.locator("summary").focus();
  await page.keyboard.press("Enter");
  page.show(CLUSTER);
  await until(page, "an announcement", () => document.querySelector("#said").textContent.includes("New, critical: Broker 2"));
  const open = await details.evaluate((node) => node.open && node.contains(document.activeElement));
  if (!open) throw new Error("what was opened and had the focus lost it");
  page.show(CALM);
  await until(page, "the end", () => document.querySelector("#said").textContent === "All is well.");
  await page.done();
}

/** Tab from the top to the end: everything in order, seen where it is, and Enter does what it says. */
async function keyboard() {
  const page = await fresh(browser);
  await visit(page, base);
  await until(page, "three brokers", isCalm);
  const focused = () => page.evaluate(() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    return { name: (node.innerText || node.id || node.ariaLabel || "").trim().split("\n")[0], tag: node.tagName,
      visible: node.matches(":focus-visible") && parseFloat(style.outlineWidth) >= 2 };
  });
  await page.keyboard.press("Tab");
  const first = await focused();
  if (!first.name.startsWith("Skip")) throw new Error(`first: ${JSON.stringify(first)}`);
  const met = [];
  for (let n = 0; n < 80; n += 1) {
    await page.keyboard.press("Tab");
    const now = await focused();
    // Of what went while it had the focus the browser remembers the place, and goes on from there.
    if (now.tag === "BODY") continue;
    if (now.name === first.name) break;
    if (!now.visible) throw new Error(`the focus is not seen: ${JSON.stringify(now)}`);
    met.push(now.name);
    if (now.name.startsWith("Theme")) {
      await page.keyboard.press("Enter");
      const theme = await page.evaluate(() => document.documentElement.dataset.theme);
      if (theme !== "light") throw new Error(`theme ${theme}`);
    }
    if (now.tag === "SUMMARY") {
      await page.keyboard.press("Enter");
      const open = await page.evaluate(() => document.activeElement.parentElement.open);
      if (!open) throw new Error(`${now.name} does not open`);
      await page.keyboard.press("Enter");
    }
  }
  for (const name of ["Theme", "Verdicts", "A record", "partition", "Show"]) {
    if (!met.some((one) => one.startsWith(name))) throw new Error(`${name} is not reached: ${met}`);
  }
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  await until(page, "the skip", () => document.activeElement.id === "main");
  assertQuiet(page);
  await page.done();
  return `${met.length} stops`;
}

async function typed(page) {
  await page.locator("#partition").fill(partition);
  await page.keyboard.press("Enter");
  const took = await until(page, "three replicas", () => document.querySelectorAll("#way .replica").length === 3);
  const steps = await page.locator("#way .steps li").count();
  if (steps === 0) throw new Error("no steps");
  const shown = await text(page, "#way .replicas");
  for (const lane of ["appended", "durable", "quorum-durable", "committed", "applied"]) {
    if (!shown.includes(lane)) throw new Error(`no ${lane}: ${shown}`);
  }
  await page.locator("#partition").fill("there-is-none-99");
  await page.keyboard.press("Enter");
  await until(page, "a refusal", () => document.querySelector("#way [role=alert]"));
  await page.locator("#partition").fill(partition);
  await page.keyboard.press("Enter");
  return `after ${took.toFixed(1)} s, ${steps} steps`;
}

async function killed(page, victim) {
  await page.evaluate(() => {
    window.sameAsBefore = true;
    window.heard = [];
    new MutationObserver(() => window.heard.push(document.querySelector("#said").textContent))
      .observe(document.querySelector("#said"), { childList: true, characterData: true, subtree: true });
  });
  const since = Date.now();
  await want("kill", victim);
  await until(page, "its card", (id) =>
    [...document.querySelectorAll("#brokers .card.critical h3")].some((head) => head.textContent === `Broker ${id}`), victim);
  await until(page, "a verdict", (id) => [...document.querySelectorAll("#verdicts .verdict")].some((one) =>
    !one.classList.contains("info") && one.textContent.includes(`roker ${id}`)), victim);
  const took = (Date.now() - since) / 1000;
  if (took > 10) throw new Error(`after ${took} s`);
  const heard = await page.evaluate(() => window.heard);
  if (!heard.some((said) => said.includes(`roker ${victim}`))) throw new Error(`a screen reader hears: ${heard}`);
  await page.waitForTimeout(2_000);
  await shot(page, "killed-desktop");
  await page.setViewportSize(PHONE);
  await assertFits(page);
  await shot(page, "killed-phone");
  await page.setViewportSize(DESKTOP);
  const verdict = await text(page, "#verdicts .verdict h3");
  await want("start", victim);
  await until(page, "all is well again", isCalm, null, 30_000);
  if (!(await page.evaluate(() => window.sameAsBefore))) throw new Error("the page was loaded anew");
  return `after ${took.toFixed(1)} s: ${verdict}`;
}

async function askedGone(page, asked) {
  await want("kill", asked);
  const took = await until(page, "broken since", () =>
    /broken since \d\d:\d\d:\d\d/.test(document.querySelector("#broken").innerText) && document.body.classList.contains("stale"));
  const links = await page.locator("#broken a").count();
  if (links !== 2) throw new Error(`${links} links to other brokers`);
  await shot(page, "broken-desktop", false);
  await want("start", asked);
  await until(page, "the stream again", () => document.querySelector("#broken").hidden && !document.body.classList.contains("stale"), null, 20_000);
  await until(page, "all is well again", isCalm, null, 30_000);
  return `said after ${took.toFixed(1)} s`;
}

async function live() {
  const page = await fresh(browser);
  await visit(page, base);
  await until(page, "three brokers", isCalm);
  const asked = await page.evaluate(() => Number(/broker (\d+)/.exec(document.querySelector("#link").innerText)[1]));
  await check("a partition that is typed shows its replicas and the steps between them", () => typed(page));
  await check("kill -9: the page names the broker within 10 s, and says when all is well again", () =>
    killed(page, asked === 3 ? 2 : 3));
  assertQuiet(page, (fault) => fault.includes("404"));
  await check("the asked broker dies: the stream is said to be broken, and mends itself", () => askedGone(page, asked));
  await page.done();
}

/** A page from elsewhere that has pointed its own name at this port, and one that only orders. */
async function refused() {
  const page = await browser.newPage();
  const foreign = `http://${FOREIGN}:${new URL(base).port}`;
  for (const path of ["/", "/console", "/console/events", "/debug/cluster"]) {
    const answer = await page.goto(foreign + path);
    const said = await answer.text();
    if (answer.status() !== 421 || !said.includes("admin.allowed.hosts")) throw new Error(`${path}: ${answer.status()} ${said}`);
  }
  const order = `${base}/admin/undrain`;
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url() === order),
    page.evaluate((url) => fetch(url, { method: "POST", mode: "no-cors" }).then(() => true), order),
  ]);
  if (answer.status() !== 403) throw new Error(`an order: ${answer.status()}`);
  await page.close();
}

async function whole() {
  for (const viewport of [PHONE, DESKTOP]) {
    for (const dark of [false, true]) {
      const name = `${viewport.width} px wide, ${dark ? "dark" : "light"}`;
      await check(`${name}: all is well, nothing sticks out, nobody else is asked`, () => calm(viewport, dark));
      const axe = seenByAxe(viewport, dark) ? ", and axe finds nothing serious" : ", all opened";
      await check(`${name}: a cluster in trouble${axe}`, () => trouble(viewport, dark));
    }
  }
  await check("a deadlock is drawn with its threads, locks and places", graphs);
  await check("what clients name stays text", foreign);
  await check("new verdicts are said once, and nothing loses its place", announced);
  await check("everything is reached and worked by keyboard", keyboard);
  await check("a foreign name reads nothing, and a foreign page orders nothing", refused);
  await check("the live page", live);
}

/** One picture of what is there, as a reader would see it. */
async function picture() {
  const page = await fresh(browser, { viewport: { width: 1280, height: 1000 } });
  await visit(page, base, partition === "-" ? "/console" : `/console#partition=${partition}`);
  await until(page, "a document", () => document.querySelector("#brokers .card"));
  await page.waitForTimeout(2_500);
  await page.evaluate(() => scrollTo(0, 0));
  await shot(page, "look", false);
  await shot(page, "look-whole");
}

await (look ? picture() : whole());
await browser.close();
process.exit(0);
