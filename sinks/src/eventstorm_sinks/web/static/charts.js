// One graph: a card with the newest value, the lines, and a legend that follows the pointer.

import { make, hint } from "./dom.js";
import { axisQuantity, axisTime, quantity } from "./format.js";

const MAX_LINES = 8;
const OTHER = "(other)";
const HINTS = {
  events: ["no events yet: run ", "eventstorm emit shop.order total=42.5"],
  default: ["nothing from this host yet: run ", "eventstorm sysmon"],
};

const color = (index) => getComputedStyle(document.documentElement).getPropertyValue(`--c${(index % MAX_LINES) + 1}`).trim();
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  constructor(panel) {
    this.panel = panel;
    this.now = make("span", "now", "–");
    this.plotBox = make("div", "plot");
    this.legend = make("ul", "legend");
    this.extra = make("div");
    const header = make("header", "", null, make("h2", "", panel.title), this.now);
    this.element = make("article", panel.id === "events" ? "card chart wide" : "card chart", null, header, this.plotBox, this.legend, this.extra);
    this.element.id = `panel-${panel.id}`;
    this.element.hidden = panel.optional;
    this.empty = hint(...(HINTS[panel.id] ?? HINTS.default));
    this.plotBox.append(this.empty);
    this.names = [];
    this.pointed = null;
    this.plot = null;
    new ResizeObserver(() => this.resize()).observe(this.plotBox);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.plotBox;
    if (this.plot && width && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }

  redrawFromNothing() {
    this.plot?.destroy();
    this.plot = null;
    this.names = [];
  }

  draw(view, range, nowS) {
    const lines = this.chosen(view);
    this.range = range;
    this.lines = lines;
    this.bounds = [Math.floor(nowS) - range.span_s, Math.floor(nowS)];
    this.empty.hidden = lines.length > 0;
    this.element.hidden = this.panel.optional && !lines.length;
    this.plotBox.classList.toggle("bare", !lines.length);
    const names = lines.map((line) => line.name);
    if (!this.plot || names.join("\0") !== this.names.join("\0")) {
      this.plot?.destroy();
      this.names = names;
      this.build(lines.length);
    }
    this.plot.setData([view.times, ...lines.map((line) => line.values)]);
    this.showValues();
  }

  // The busiest lines by name; the rest as one, where that makes sense.
  chosen(view) {
    const several = new Set(view.lines.map((line) => line.by)).size > 1;
    const byHost = this.panel.by === "source.host";
    const named = view.lines.map((line) => {
      const by = byHost && !several ? "" : line.by;
      return { ...line, name: [by, line.label].filter(Boolean).join(" ") || this.panel.title };
    });
    const counting = this.panel.aggregate === "count";
    if (!counting) {
      // In the order of their declaration and of their names: colours must not jump about.
      const order = this.panel.lines.map(([label]) => label);
      const busiest = named.sort((a, b) => b.total - a.total).slice(0, MAX_LINES);
      return busiest.sort((a, b) => a.by.localeCompare(b.by) || order.indexOf(a.label) - order.indexOf(b.label));
    }
    named.sort((a, b) => b.total - a.total || a.name.localeCompare(b.name));
    const shown = named.filter((line) => line.by !== OTHER).slice(0, MAX_LINES - 1);
    const rest = named.filter((line) => !shown.includes(line));
    shown.sort((a, b) => a.name.localeCompare(b.name));
    if (!rest.length) return shown;
    const values = view.times.map((_, index) => rest.reduce((sum, line) => sum + line.values[index], 0));
    return [...shown, { name: rest.length > 1 ? `${rest.length} others` : rest[0].name, values, total: 0 }];
  }

  build(count) {
    const grid = { stroke: variable("--line"), width: 1 };
    const axis = { stroke: variable("--faint"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const { unit } = this.panel;
    const options = {
      width: this.plotBox.clientWidth || 300,
      height: this.plotBox.clientHeight || 150,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      padding: [6, 6, 0, 0],
      scales: {
        x: { time: true, range: () => this.bounds },
        y: { range: (_, __, most) => [0, unit === "ratio" ? 1 : most > 0 ? most * 1.1 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 22, gap: 4, space: 60, values: (_, splits) => splits.map((at) => axisTime(at, this.range.span_s)) },
        { ...axis, size: 52, gap: 4, space: 32, values: (_, splits) => splits.map((value) => axisQuantity(value, unit)) },
      ],
      series: [
        {},
        ...Array.from({ length: count }, (_, index) => ({
          stroke: color(index),
          width: 1.5,
          fill: count === 1 ? `${color(index)}22` : undefined,
          points: { show: false },
        })),
      ],
      hooks: {
        setCursor: [
          (plot) => {
            this.pointed = plot.cursor.idx ?? null;
            this.showValues();
          },
        ],
      },
    };
    this.plot = new uPlot(options, [[], ...Array.from({ length: count }, () => [])], this.plotBox);
    this.legend.replaceChildren(
      ...this.names.map((name, index) => {
        const mark = make("i");
        mark.style.background = color(index);
        const item = make("li", "", null, mark, make("span", "", name), make("b", "", "–"));
        item.title = name;
        return item;
      }),
    );
  }

  showValues() {
    if (!this.lines) return;
    const values = this.lines.map((line) => (this.pointed === null ? newest(line.values) : line.values[this.pointed]));
    values.forEach((value, index) => {
      const cell = this.legend.children[index]?.lastChild;
      if (cell) cell.textContent = quantity(value, this.panel.unit);
    });
    const adds = this.panel.unit.endsWith("/s");
    const first = adds && values.length ? values.reduce((sum, value) => sum + (value ?? 0), 0) : values[0];
    this.now.textContent = quantity(first, this.panel.unit);
  }
}

function newest(values) {
  for (let index = values.length - 1; index >= Math.max(0, values.length - 15); index -= 1) {
    if (typeof values[index] === "number") return values[index];
  }
  return null;
}
