// The values of all panels: history's steps, the seconds on its edge, and the live window's seconds.
//
// Each is set, never added to, so hearing something twice changes nothing. History ends where the live window began when
// it was asked for; from there on the live seconds hold.

const KEPT_WITHOUT_HISTORY_S = 3600;

class Line {
  constructor(label, by) {
    this.label = label;
    this.by = by;
    this.steps = new Map();
    this.seconds = new Map();
  }
}

export class Series {
  constructor(panels) {
    this.panels = new Map(panels.map((panel) => [panel.id, { panel, lines: new Map() }]));
    this.historyUntil = 0;
    this.edge = 0;
  }

  line(panelId, label, by) {
    const { lines } = this.panels.get(panelId);
    const key = `${label}\0${by}`;
    if (!lines.has(key)) lines.set(key, new Line(label, by));
    return lines.get(key);
  }

  setLive(bins) {
    for (const [panelId, changes] of Object.entries(bins)) {
      if (!this.panels.has(panelId)) continue;
      for (const [label, by, values] of changes) {
        const line = this.line(panelId, label, by);
        for (const [second, value] of values) if (second >= this.historyUntil) line.seconds.set(second, value);
      }
    }
  }

  setHistory(history) {
    for (const { lines } of this.panels.values()) {
      for (const line of lines.values()) {
        line.steps = new Map();
        for (const second of line.seconds.keys()) if (second < history.until_s) line.seconds.delete(second);
      }
    }
    for (const [panelId, found] of Object.entries(history.panels)) {
      for (const { label, by, steps, edge } of found) {
        const line = this.line(panelId, label, by);
        line.steps = new Map(steps);
        for (const [second, value] of edge) line.seconds.set(second, value);
      }
    }
    this.historyUntil = history.until_s;
    this.edge = history.edge_s;
  }

  // Drops what no range can show any more, where no history comes to do so.
  forget(nowS) {
    for (const { lines } of this.panels.values()) {
      for (const [key, line] of lines) {
        for (const second of line.seconds.keys()) if (second < nowS - KEPT_WITHOUT_HISTORY_S) line.seconds.delete(second);
        if (!line.seconds.size && !line.steps.size) lines.delete(key);
      }
    }
  }

  // Returns {times, lines: [{label, by, values, total}]}, one value a step. Steps without events are 0 where events are
  // counted; elsewhere they are joined over (undefined) if short, and gaps (null) if long.
  view(panelId, range, nowS) {
    const { panel, lines } = this.panels.get(panelId);
    const step = range.step_s;
    const end = Math.floor(nowS); // the second that is passing now is not whole yet
    const first = Math.floor((end - range.span_s) / step) * step;
    const times = [];
    for (let at = first; at < end; at += step) times.push(at);
    const counting = panel.aggregate === "count";
    const made = [];
    for (const line of lines.values()) {
      const totals = new Array(times.length).fill(0);
      const counts = new Array(times.length).fill(0);
      for (const [at, value] of line.steps) {
        const index = (at - first) / step;
        if (index >= 0 && index < times.length && value !== null) {
          totals[index] += value;
          counts[index] += 1;
        }
      }
      for (const [second, value] of line.seconds) {
        const index = Math.floor((second - first) / step);
        if (index >= 0 && index < times.length && second < end && value !== null) {
          totals[index] += value;
          counts[index] += 1;
        }
      }
      let total = 0;
      const values = totals.map((sum, index) => {
        if (counts[index]) total += counting ? sum : sum / counts[index];
        if (counting) return sum / Math.min(step, end - times[index]);
        return counts[index] ? sum / counts[index] : null;
      });
      if (!counting) joinShortGaps(values, Math.max(3, Math.ceil(15 / step)));
      if (counts.some(Boolean)) made.push({ label: line.label, by: line.by, values, total });
    }
    return { times, lines: made };
  }
}

function joinShortGaps(values, longest) {
  let last = -1;
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] === null) continue;
    if (last >= 0 && index - last - 1 <= longest) values.fill(undefined, last + 1, index);
    last = index;
  }
}
