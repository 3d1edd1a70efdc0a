// The stream of the latest events: filter, pause, and one event's whole document.

import { byId, hint, make } from "./dom.js";
import { clockTime, fullTime, indented } from "./format.js";

const KEPT = 200;
const TYPING_MS = 250;

export class Stream {
  // `send` passes a filter on to the server.
  constructor(send) {
    this.send = send;
    this.wanted = { topic: "", text: "", system: false };
    this.shown = [];
    this.held = [];
    this.paused = false;
    this.loads = 0;
    this.fresh = true;
    this.list = byId("events");
    this.form = byId("filters");
    this.pause = byId("pause");
    this.form.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.changeFilter(), TYPING_MS);
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.pause.addEventListener("click", () => this.setPaused(!this.paused));
    byId("document-close").addEventListener("click", () => byId("document").close());
    byId("document").addEventListener("click", (event) => {
      if (event.target === byId("document")) byId("document").close();
    });
    this.draw();
  }

  changeFilter() {
    const { topic, text, system } = this.form.elements;
    this.wanted = { topic: topic.value.trim(), text: text.value, system: system.checked };
    this.start();
  }

  // After a connection, or with another filter: tell the server, and take what is stored already.
  async start() {
    this.send(this.wanted);
    const load = (this.loads += 1);
    this.fresh = true;
    const { topic, text, system } = this.wanted;
    const query = new URLSearchParams({ prefix: topic, text, system: String(system), limit: "100" });
    this.shown = [];
    this.held = [];
    if (this.paused) this.pause.textContent = "Resume";
    try {
      const answer = await fetch(`/api/events?${query}`);
      const found = answer.ok ? (await answer.json()).events : [];
      if (load === this.loads) this.mergeOlder(found);
    } catch {
      // The connection's own state tells of it, and a new one starts this again.
    }
    this.draw();
  }

  take(wanted, events) {
    const ours = this.wanted;
    if (wanted.topic !== ours.topic || wanted.text !== ours.text || wanted.system !== ours.system) return;
    const isFirst = this.fresh;
    this.fresh = false;
    if (!events.length) return;
    if (isFirst) this.mergeOlder(events);
    else if (this.paused) this.hold(events);
    else this.merge(events);
    this.draw();
  }

  // What answers a new filter is there already, but for what came after the user pressed Pause.
  mergeOlder(events) {
    const isHeld = (each) => this.paused && each.ts_ms > this.pausedAtMs;
    this.hold(events.filter(isHeld));
    this.merge(events.filter((each) => !isHeld(each)));
  }

  hold(events) {
    const known = new Set([...this.held, ...this.shown].map((each) => each.id));
    const fresh = events.filter((each) => !known.has(each.id));
    if (!fresh.length) return;
    this.held = [...fresh, ...this.held].slice(0, KEPT);
    this.pause.textContent = `Resume (${this.held.length}${this.held.length === KEPT ? "+" : ""} new)`;
  }

  merge(events) {
    const byIdentity = new Map([...events, ...this.shown].map((each) => [each.id, each]));
    this.shown = [...byIdentity.values()].sort((a, b) => b.ts_ms - a.ts_ms || (a.id < b.id ? 1 : -1)).slice(0, KEPT);
  }

  setPaused(paused) {
    this.paused = paused;
    this.pausedAtMs = Date.now();
    this.pause.setAttribute("aria-pressed", String(paused));
    this.pause.textContent = paused ? "Resume" : "Pause";
    if (!paused) {
      this.merge(this.held);
      this.held = [];
      this.draw();
    }
  }

  draw() {
    // Rows that stay are kept, so that what is focused or about to be clicked does not go away under the pointer.
    const rows = new Map([...this.list.children].map((row) => [row.dataset.id, row]));
    const next = this.shown.map((each) => rows.get(each.id) ?? this.row(each));
    const keep = new Set(next);
    for (const row of [...this.list.children]) if (!keep.has(row)) row.remove();
    next.forEach((row, index) => {
      if (this.list.children[index] !== row) this.list.insertBefore(row, this.list.children[index] ?? null);
    });
    const { topic, text } = this.wanted;
    byId("no-events").replaceChildren(
      topic || text ? "no event matches this filter" : hint("no events yet: run ", "eventstorm emit shop.order total=42.5", " in a terminal, and see it arrive here"),
    );
    byId("no-events").hidden = this.shown.length > 0;
  }

  row(event) {
    const button = make("button", "", null,
      make("span", "time", clockTime(event.ts_ms)),
      make("span", "topic", event.topic),
      make("span", "text", event.text.slice(0, 400)),
      make("span", "from", [event.service, event.host].filter(Boolean).join("@")),
    );
    button.type = "button";
    button.addEventListener("click", () => this.open(event));
    const row = make("li", "", null, button);
    row.dataset.id = event.id;
    return row;
  }

  async open(event) {
    byId("document-title").textContent = event.topic;
    byId("document-source").textContent = `${fullTime(event.ts_ms)} · ${event.service}@${event.host}, process ${event.pid} · ${event.id}`;
    byId("document-text").textContent = event.truncated ? event.text + " …" : indented(event.text);
    byId("document").showModal();
    if (!event.truncated) return;
    const query = new URLSearchParams({ topic: event.topic, ts_ms: event.ts_ms, id: event.id });
    const answer = await fetch(`/api/event?${query}`);
    if (answer.ok && byId("document-source").textContent.endsWith(event.id)) {
      byId("document-text").textContent = indented((await answer.json()).text);
    }
  }
}
