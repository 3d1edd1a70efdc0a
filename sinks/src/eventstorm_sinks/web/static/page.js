// The page: connects, takes frames, asks for history, draws.

import { Chart } from "./charts.js";
import { byId, make } from "./dom.js";
import { quantity } from "./format.js";
import { Series } from "./series.js";
import { Stream } from "./stream.js";
import { drawCores, drawFilesystems, drawLosses, drawProcesses } from "./tables.js";

const FIRST_WAIT_MS = 500;
const LAST_WAIT_MS = 10_000;
const SILENT_MS = 10_000; // frames come every second: a connection without any is dead
// After a start of the server, events of before it may still be on their way into the store: look again soon.
const HISTORY_AGAIN_S = [6, 30];
const HISTORY_EVERY_S = 120;

let hello = null;
let series = null;
let charts = [];
let range = null;
let frame = null;
let socket = null;
let waitMs = FIRST_WAIT_MS;
let silence = 0;
let historyAt = [];
let historyAsked = 0;

const stream = new Stream((wanted) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wanted));
});

function connect() {
  showConnection("connecting", "connecting");
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/feed`);
  socket.binaryType = "arraybuffer";
  const decoder = new TextDecoder();
  socket.onmessage = (message) => {
    watchSilence();
    const said = JSON.parse(decoder.decode(message.data));
    if (said.kind === "hello") begin(said);
    else take(said);
  };
  socket.onopen = watchSilence;
  socket.onclose = (event) => {
    clearTimeout(silence);
    const delay = waitMs * (0.75 + Math.random() / 2);
    waitMs = Math.min(waitMs * 2, LAST_WAIT_MS);
    showConnection("waiting", event.code === 1013 ? "too many clients" : "reconnecting");
    setTimeout(connect, delay);
  };
}

function watchSilence() {
  clearTimeout(silence);
  silence = setTimeout(() => socket.close(), SILENT_MS);
}

function showConnection(state, text) {
  const pill = byId("connection");
  pill.dataset.state = state;
  pill.textContent = text;
}

function begin(greeting) {
  const same = JSON.stringify(hello) === JSON.stringify(greeting);
  hello = greeting;
  frame = null;
  series = new Series(hello.panels);
  if (!same) {
    range = hello.ranges.find((each) => each.span_s === Number(location.hash.match(/span=(\d+)/)?.[1])) ?? hello.ranges[0];
    charts = hello.panels.map((panel) => new Chart(panel));
    for (const old of document.querySelectorAll(".chart")) old.remove();
    for (const chart of charts) byId(chart.panel.id === "events" ? "losses" : "filesystems").before(chart.element);
    byId("ranges").replaceChildren(...hello.ranges.map(rangeButton));
  }
  stream.start();
}

function rangeButton(each) {
  const button = make("button", "", each.label);
  button.type = "button";
  button.setAttribute("aria-pressed", String(each === range));
  button.addEventListener("click", () => {
    range = each;
    for (const other of byId("ranges").children) other.setAttribute("aria-pressed", String(other === button));
    history.replaceState(null, "", `#span=${each.span_s}`);
    askHistory();
    draw();
  });
  return button;
}

function take(next) {
  const first = frame === null;
  frame = next;
  waitMs = FIRST_WAIT_MS;
  showConnection("live", "live");
  series.setLive(next.state.bins);
  if (first) {
    historyAt = HISTORY_AGAIN_S.map((after) => next.since_s + after).filter((at) => at > next.now);
    askHistory();
  } else if (historyAt.length && next.now > historyAt[0]) {
    historyAt.shift();
    askHistory();
  } else if (next.now - historyAsked > HISTORY_EVERY_S) {
    askHistory();
  }
  series.forget(next.now);
  draw();
  drawLists();
  stream.take(next.wanted, next.events);
}

async function askHistory() {
  if (!frame) return;
  historyAsked = frame.now;
  const [asked, of] = [range, series];
  const until = frame.since_s;
  // Nothing older than the live window is in sight.
  if (range.step_s === 1 && until <= frame.now - range.span_s) return;
  try {
    const answer = await fetch(`/api/history?span=${range.span_s}&until=${until}`);
    if (answer.ok && asked === range && of === series) {
      series.setHistory(await answer.json());
      draw();
    }
  } catch {
    // The connection's own state tells of it, and a new one asks again.
  }
}

function draw() {
  if (!frame) return;
  for (const chart of charts) chart.draw(series.view(chart.panel.id, range, frame.now), range, frame.now);
}

function drawLists() {
  const { tables } = frame.state;
  const cpu = charts.find((chart) => chart.panel.id === "cpu");
  if (cpu) drawCores(cpu.extra, tables.cores);
  drawFilesystems(byId("filesystems").querySelector(".body"), tables.filesystems);
  drawProcesses(byId("processes").querySelector(".body"), tables.processes);
  if ("total" in frame.losses) drawLosses(byId("losses"), byId("loss-pill"), frame.losses);
  const problems = frame.losses.problems ?? [];
  byId("notice").textContent = problems.join(" · ");
  byId("notice").hidden = !problems.length;
  const second = Math.floor(frame.now) - 1;
  let rate = 0;
  for (const line of series.panels.get("events").lines.values()) rate += line.seconds.get(second) ?? 0;
  byId("rate").textContent = quantity(rate, "events/s").replace(/\s*\/s$/, "").replace(/\s*([kMG])\/s$/, " $1");
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) chart.redrawFromNothing();
  draw();
});

connect();
