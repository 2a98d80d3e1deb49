// Numbers, times and places in the code, in the words of this page.

const NONE = "–";

/** Milliseconds as a length of time. */
export function span(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** A count, its thousands apart. */
export function count(n) {
  if (n === null || n === undefined) return NONE;
  return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** "1 broker", "3 brokers". */
export function plural(n, word) {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) [n, at] = [n / 1024, at + 1];
  return `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

/** The time of day, here. */
export function clock(ms) {
  if (!ms) return NONE;
  const two = (n) => String(n).padStart(2, "0");
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function ago(ms, now) {
  return `${span(Math.max(0, now - ms))} ago`;
}

/** `crates/node/src/shard/io.rs:12:9` as `shard/io.rs:12`. */
export function place(site) {
  if (!site) return "a place that is not known";
  const [path, line] = site.split(":");
  const parts = path.split("/").filter((part) => part !== "src");
  return `${parts.slice(-2).join("/")}${line ? `:${line}` : ""}`;
}

/** snake_case as words. */
export function words(name) {
  return String(name ?? "").replaceAll("_", " ");
}

/** A thread's name without its number. */
export function thread(name) {
  return String(name ?? "a thread").split(" (")[0];
}
