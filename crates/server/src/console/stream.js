// The stream of documents, and whether it still flows.
//
// A browser tries again by itself after most breaks; what it gives up (a refusal, a broker that
// takes the connection and says nothing) is tried again here.

const SILENT_MS = 3500;
const HUNG_MS = 8000;
const AGAIN_MS = 1500;

export class Stream {
  /** `heard(document)` for each one, `changed()` when the state of the stream may have. */
  constructor(url, heard, changed) {
    Object.assign(this, { url, heard, changed });
    this.lastAt = null;
    this.begunAt = Date.now();
    this.why = null;
    this.triedAt = 0;
    this.open();
    setInterval(() => this.look(), 500);
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  open() {
    this.source?.close();
    this.triedAt = Date.now();
    this.source = new EventSource(this.url);
    this.source.addEventListener("cluster", (event) => this.take(event.data));
    this.source.addEventListener("error", () => this.look());
  }

  take(text) {
    let doc;
    try {
      doc = JSON.parse(text);
    } catch {
      this.why = "the broker sent what is no document";
      return this.changed();
    }
    this.lastAt = Date.now();
    this.why = null;
    this.heard(doc);
    this.changed();
  }

  /** Since when nothing came, if too long ago. */
  get brokenSince() {
    const since = this.lastAt ?? this.begunAt;
    return Date.now() - since > SILENT_MS ? since : null;
  }

  look() {
    const now = Date.now();
    const closed = this.source.readyState === EventSource.CLOSED;
    const silentFor = now - Math.max(this.lastAt ?? 0, this.triedAt);
    if (closed && now - this.triedAt > AGAIN_MS) {
      this.ask();
      this.open();
    } else if (silentFor > HUNG_MS) {
      this.open();
    }
    this.changed();
  }

  /** An event source does not tell the words of a refusal. */
  async ask() {
    const stop = new AbortController();
    try {
      const answer = await fetch(this.url, { signal: stop.signal });
      this.why = answer.ok ? null : (await answer.text()).trim().slice(0, 200);
    } catch {
      this.why = null;
    }
    stop.abort();
  }
}
