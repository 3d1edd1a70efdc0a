// Lists without a past: cores, filesystems, processes, losses.

import { hint, make } from "./dom.js";
import { count, quantity } from "./format.js";

const REASONS = {
  source: "dropped at the source",
  way: "lost on the way",
  overflow: "store's queue was full",
  refused: "refused by the store",
};
const NOTHING = ["nothing from this host yet: run ", "eventstorm sysmon"];

const share = (value) => `${Math.min(100, Math.max(0, (value ?? 0) * 100))}%`;

export function drawCores(box, rows) {
  const several = rows.length > 1;
  box.replaceChildren(
    ...rows.map(([host, , , [cores]]) => {
      const strip = make("div", "cores");
      if (several) strip.append(make("span", "name", host));
      for (const [index, value] of (Array.isArray(cores) ? cores : []).entries()) {
        const fill = make("i");
        fill.style.height = share(value);
        const core = make("div", "core", null, fill);
        core.title = `core ${index}: ${quantity(value, "ratio")}`;
        strip.append(core);
      }
      return strip;
    }),
  );
}

export function drawFilesystems(box, rows) {
  const several = new Set(rows.map(([host]) => host)).size > 1;
  const bars = rows.map(([host, mountpoint, , [usage, limit, utilization]]) => {
    const name = several ? `${host} ${mountpoint}` : String(mountpoint);
    const names = make("div", "names", null, make("span", "", name));
    names.append(make("span", "", `${quantity(usage, "bytes")} of ${quantity(limit, "bytes")} · ${quantity(utilization, "ratio")}`));
    const fill = make("i");
    fill.style.width = share(utilization);
    fill.dataset.state = utilization > 0.9 ? "bad" : utilization > 0.8 ? "warn" : "";
    return make("div", "bar", null, names, make("div", "track", null, fill));
  });
  box.replaceChildren(...(bars.length ? bars : [hint(...NOTHING)]));
}

export function drawProcesses(box, rows) {
  const busiest = rows.map(([, , , values]) => values).sort((a, b) => (b[3] ?? 0) - (a[3] ?? 0)).slice(0, 15);
  if (!busiest.length) {
    box.replaceChildren(hint(...NOTHING));
    return;
  }
  const lines = busiest.map(([pid, name, owner, cpu, memory]) => [
    ["", name ?? "–"],
    ["dim", owner ?? ""],
    ["n dim", pid ?? ""],
    ["n", quantity(cpu, "ratio")],
    ["n", quantity(memory, "bytes")],
  ]);
  box.replaceChildren(table([["", "process"], ["", "owner"], ["n", "pid"], ["n", "CPU"], ["n", "memory"]], lines));
}

export function drawLosses(card, pill, losses) {
  const box = card.querySelector(".body");
  const aside = card.querySelector(".aside");
  const lost = losses.total > 0;
  // What a store that is away would tell is not known.
  const sure = !losses.problems.length;
  pill.textContent = lost ? `${count(losses.total)} events lost` : sure ? "no losses" : "no losses known";
  pill.dataset.state = lost ? "bad" : sure ? "good" : "";
  aside.textContent = losses.malformed ? `${count(losses.malformed)} malformed messages` : "";
  if (!lost) {
    const said = sure ? "No losses: no source, store or network has lost an event." : "No losses are known; see above for what is amiss.";
    box.replaceChildren(make("p", "calm", said));
    return;
  }
  const lines = losses.rows.map(([topic, source, reason, store, events]) => [
    ["", topic],
    ["dim", source],
    ["dim", REASONS[reason] + (store ? ` (${store})` : "")],
    ["n bad", count(events)],
  ]);
  const parts = [table([["", "topic"], ["", "source"], ["", "reason"], ["n", "lost"]], lines)];
  if (losses.streams > losses.rows.length) parts.push(make("p", "empty", `and ${count(losses.streams - losses.rows.length)} more`));
  box.replaceChildren(...parts);
}

function table(head, lines) {
  const row = (cells, tag) =>
    make("tr", "", null, ...cells.map(([className, text]) => {
      const cell = make(tag, className, String(text));
      cell.title = String(text);
      return cell;
    }));
  return make("table", "", null, make("thead", "", null, row(head, "th")), make("tbody", "", null, ...lines.map((cells) => row(cells, "td"))));
}
