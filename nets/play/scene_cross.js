// Scene 3, two neurons with cross connections: values flow forward, slopes flow back, and results are used again.

import { button, choice, el, list, number, numbers, onWidth, show, slider, svg } from "./dom.js";
import { arrow, box, circle, curve, picture, text } from "./wires.js";
import { crossCode } from "./code.js";
import { History } from "./history.js";
import { SOLVED } from "./chain.js";
import { INPUTS, apart, byBackprop, byPaths, crossPass, crossStep, equalStart, paths, withoutCross } from "./cross.js";

const LABELS = ["w₁₁", "w₁₂", "w₂₁", "w₂₂", "T₁", "T₂", "v₁₁", "v₁₂", "v₂₁", "v₂₂", "S₁", "S₂"];
const TABLES = { // z1 and z2 for the inputs 00, 01, 10, 11
  adder: ["Half adder", "00101001"], repeat: ["Repeat", "00011011"], swap: ["Swap", "00100111"],
  andor: ["And, or", "00010111"], xor: ["Xor twice", "00111100"],
};
const CAP = 20000;
// What each stage says, and which results it uses again
const STAGES = [
  "All at once. Use the arrows to go through the net one column at a time.",
  "Forward: the inputs.",
  "Forward: y = σ(w·x − T). Each neuron sees both inputs.",
  "Forward: z = σ(v·y − S). Each output sees both neurons.",
  "Forward: P = −½‖d − z‖². Now the way back begins.",
  "Backward: ∂P/∂z = d − z.",
  "Backward: through σ. δ = (d − z) · z(1 − z), the slope of P at the sums of the outputs.",
  "The weights of the second layer: ∂P/∂v = δ · y. The δ are used again, and so are the y from forward.",
  "Backward: ∂P/∂y adds up what comes from both outputs: ∂P/∂y₁ = v₁₁·δ₁ + v₂₁·δ₂. The same two δ are used again.",
  "Backward: through σ. ε = ∂P/∂y · y(1 − y), the slope of P at the sums of the neurons.",
  "The weights of the first layer: ∂P/∂w = ε · x. Everything behind ε was computed before: it is used again.",
];

export class CrossScene {
  name = "cross";
  title = "Two neurons with cross connections";
  short = "Cross";
  lead = "Two inputs, two neurons, two outputs. Every neuron feeds both outputs. Choose a truth table, or make your own, and let the net learn it. Then go through forward and backward, one column at a time.";

  constructor(changed) {
    this.changed = changed;
    Object.assign(this, { table: "00101001", links: true, rate: 4, speed: 1, sample: 2, stage: 0, running: false, width: 3, depth: 6 });
    this.restart([1.1, -0.6, 0.3, 1.4, 0.2, -0.5, -1.2, 0.8, 0.7, 1.3, 0.4, -0.1]);
    this.build();
  }

  get wanted() { return [0, 1, 2, 3].map((k) => [Number(this.table[2 * k]), Number(this.table[2 * k + 1])]); }

  restart(weights = this.start) {
    this.start = weights;
    this.begin = this.links ? [...weights] : withoutCross(weights);
    this.weights = [...this.begin];
    this.passes = 0;
    this.solvedAt = null;
    this.error = crossPass(this.weights, this.wanted, this.links).error;
    this.errors = new History(this.error);
  }

  fresh() { this.restart(LABELS.map(() => Number((4 * Math.random() - 2).toFixed(3)))); this.changed(); }
  setup(change) { Object.assign(this, change); this.restart(); this.changed(); } // again from the same start

  step() {
    this.weights = crossStep(this.weights, this.wanted, this.rate, this.links);
    this.passes++;
    this.error = crossPass(this.weights, this.wanted, this.links).error;
    this.errors.push(this.error);
    if (this.error < SOLVED && this.solvedAt === null) this.solvedAt = this.passes;
  }

  stepOnce() { this.running = false; this.step(); this.changed(); }

  frame() {
    for (let k = 0; k < this.speed && this.running; k++) {
      this.step();
      if (this.solvedAt !== null || this.passes >= CAP) this.running = false;
    }
  }

  toggle() {
    if (!this.running && this.solvedAt !== null) this.restart();
    this.running = !this.running;
    this.changed();
  }

  state() {
    return { d: this.table, w: list(this.begin), n: this.passes, links: this.links ? 1 : 0, rate: this.rate, speed: this.speed, sample: this.sample, stage: this.stage, wide: this.width, deep: this.depth };
  }

  load(q) {
    if (/^[01]{8}$/.test(q.d ?? "")) this.table = q.d;
    this.links = q.links !== "0";
    this.rate = number(q.rate, 0.05, 500, this.rate);
    this.speed = [1, 10, 100].find((s) => String(s) === q.speed) ?? this.speed;
    for (const [key, name, low, high] of [["sample", "sample", 0, 3], ["stage", "stage", 0, STAGES.length - 1], ["wide", "width", 2, 10], ["deep", "depth", 1, 12]])
      this[name] = Math.round(number(q[key], low, high, this[name]));
    this.running = false;
    this.restart(numbers(q.w, 12)?.map((w) => Math.max(-100, Math.min(100, w))) ?? this.start);
    for (let k = number(q.n, 0, CAP, 0); k >= 1; k--) this.step();
  }

  code() { return crossCode({ weights: this.begin, table: this.wanted, links: this.links, rate: this.rate, cap: CAP }); }

  build() {
    this.net = picture(300, "");
    this.says = el("p", { "aria-live": "polite", style: "min-height: 3em" });
    const go = (way) => { this.stage = (this.stage + way + STAGES.length) % STAGES.length; this.changed(); };
    this.play = button("Play", () => this.playThrough());
    this.samples = choice("Input", Object.fromEntries(INPUTS.map((x, k) => [k, x.join(" ")])), (k) => { this.sample = Number(k); this.changed(); });
    this.sliders = LABELS.map((label, k) => slider(label, { min: -10, max: 10 }, (v) => {
      const w = [...this.weights];
      w[k] = v;
      this.restart(w);
      this.changed();
    }));
    this.presets = choice("Truth table", { ...Object.fromEntries(Object.entries(TABLES).map(([k, [name]]) => [k, name])) }, (k) => this.setup({ table: TABLES[k][1] }));
    this.rows = el("tbody");
    this.linksChoice = choice("Cross connections", { with: "With cross connections", without: "Without" }, (v) => this.setup({ links: v === "with" }));
    this.rates = slider("Rate constant", { min: 0.05, max: 500, log: true, long: true }, (v) => this.setup({ rate: v }));
    this.speeds = choice("Passes per frame", { 1: "1", 10: "10", 100: "100" }, (v) => { this.speed = Number(v); this.changed(); });
    this.runButton = button("Run", () => this.toggle(), { class: "main" });
    this.status = el("p", { "aria-live": "polite" });
    this.chart = picture("100%", "");
    this.chartNode = el("div", { class: "curve" }, this.chart);
    const equal = button("Equal start", () => { this.restart(equalStart(this.weights)); this.changed(); });
    const head = ["x₁ x₂", "want z₁", "want z₂", "z₁", "z₂", ""].map((t) => el("th", {}, t));
    this.node = el("div", { class: "grid main" },
      el("div", { class: "column" },
        el("div", { class: "panel stack" }, el("div", { class: "row" }, el("span", { class: "small muted" }, "Input"), this.samples.node),
          el("div", { class: "row" }, button("◀", () => go(-1), { "aria-label": "Column before" }), button("▶", () => go(1), { "aria-label": "Next column" }), this.play), this.says, this.net,
          el("p", { class: "legend" }, el("span", {}, el("i", { style: "border-color: var(--forward)" }), "values, forward"), el("span", {}, el("i", { style: "border-color: var(--backward)" }), "slopes, backward"), el("span", {}, el("i", { style: "border-color: var(--shared); border-top-style: dashed" }), "used again"))),
        el("div", { class: "panel last" }, el("h3", {}, "Weights and thresholds"), el("div", { class: "weights" }, ...this.sliders.map((s) => s.node)))),
      el("div", { class: "column" },
        el("div", { class: "panel stack second" }, el("h3", {}, "The truth table to learn"), this.presets.node, el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), this.rows)), this.linksChoice.node),
        el("div", { class: "panel stack second" }, el("div", { class: "row" }, this.runButton, button("Step", () => this.stepOnce()), button("New start", () => this.fresh()), equal), this.rates.node,
          el("div", { class: "row" }, el("span", { class: "small muted" }, "Passes per frame"), this.speeds.node), this.status, this.chartNode)),
      el("div", { class: "column" }, this.buildPaths()));
    onWidth(this.net, (w) => { this.netWidth = w; this.drawNet(); });
    onWidth(this.chartNode, (w) => { this.chartWidth = w; this.drawCurve(); });
  }

  buildPaths() {
    this.widths = slider("Neurons a layer", { min: 2, max: 10, step: 1, digits: 0, long: true }, (v) => { this.width = v; this.changed(); });
    this.depths = slider("Layers", { min: 1, max: 12, step: 1, digits: 0, long: true }, (v) => { this.depth = v; this.changed(); });
    this.pathRows = el("div", { class: "stack" });
    return el("div", { class: "panel stack third" }, el("h3", {}, "Why results are used again"), this.widths.node, this.depths.node, this.pathRows,
      el("p", { class: "small muted" }, "The bars are logarithmic. Every path from a weight to the outputs adds to its derivative. Path by path, the work grows exponentially with the layers. Backward uses the results of one layer for the layer before it, so its work grows only linearly."));
  }

  playThrough() {
    clearInterval(this.timer);
    this.stage = 1;
    this.changed();
    this.timer = setInterval(() => {
      this.stage = (this.stage + 1) % STAGES.length;
      if (this.stage === 0 || !this.node.isConnected) clearInterval(this.timer);
      this.changed();
    }, 1600);
  }

  draw() {
    this.samples.set(this.sample);
    this.linksChoice.set(this.links ? "with" : "without");
    this.presets.set(Object.keys(TABLES).find((k) => TABLES[k][1] === this.table) ?? "");
    this.rates.set(this.rate);
    this.speeds.set(this.speed);
    this.runButton.textContent = this.running ? "Pause" : "Run";
    this.weights.forEach((w, k) => { this.sliders[k].set(w); this.sliders[k].input.disabled = !this.links && [1, 2, 7, 8].includes(k); });
    this.drawTable();
    this.drawNet();
    this.drawStatus();
    this.drawCurve();
    this.drawPaths();
  }

  drawTable() {
    const { values } = crossPass(this.weights, this.wanted, this.links), z = values[4];
    if (!this.cells) {
      const flip = (at) => button("", () => this.setup({ table: [...this.table].map((v, k) => (k === at ? 1 - v : v)).join("") }));
      this.cells = INPUTS.map((x, k) => ({ flips: [flip(2 * k), flip(2 * k + 1)], out: [el("td"), el("td")], mark: el("td"), row: el("tr") }));
      this.cells.forEach(({ flips, out, mark, row }, k) => row.append(el("td", {}, INPUTS[k].join(" ")), ...flips.map((f) => el("td", {}, f)), ...out, mark));
      this.rows.replaceChildren(...this.cells.map((c) => c.row));
    }
    this.cells.forEach(({ flips, out, mark, row }, k) => {
      row.className = k === this.sample ? "here" : "";
      const errors = [0, 1].map((o) => {
        flips[o].textContent = this.table[2 * k + o];
        flips[o].setAttribute("aria-label", `Wanted z${o + 1} for inputs ${INPUTS[k].join(" ")}: ${this.table[2 * k + o]}. Flip it`);
        out[o].textContent = show(z[2 * k + o], 2);
        return Math.abs(z[2 * k + o] - this.table[2 * k + o]);
      });
      const right = Math.max(...errors) < SOLVED;
      mark.textContent = right ? "✓" : "✗";
      mark.setAttribute("aria-label", right ? "right" : "wrong");
      mark.className = right ? "good" : "muted";
    });
  }

  drawNet() {
    const width = this.netWidth, s = this.stage;
    if (!width) return;
    const { values, back, p, gradient } = crossPass(this.weights, this.wanted, this.links, this.sample);
    const columns = [28, 28 + (width - 82) * 0.4, 28 + (width - 82) * 0.8, width - 30], rows = [92, 222], r = 22, parts = [];
    const seen = (from) => s === 0 || s >= from;
    const edge = (layer, o, i) => {
      const k = 6 * layer + 2 * o + i, cut = !this.links && o !== i;
      const [x1, y1, x2, y2] = [columns[layer] + r, rows[i], columns[layer + 1] - r - 2, rows[o]];
      const forward = s === layer + 2, back = s === (layer ? 7 : 10), through = layer === 1 && s === 8;
      const kind = cut ? "cut" : forward ? "lit-line" : back ? "back-line" : through ? "reused-line" : "";
      if (!cut) parts.push(arrow(x1, y1, x2, y2, kind));
      const part = o === i ? 0.5 : 0.27, tx = x1 + part * (x2 - x1), ty = y1 + part * (y2 - y1) + (o === i ? (o ? 18 : -8) : 4);
      const string = back ? show(gradient[k], 3) : show(this.weights[k], 2);
      if (!cut) labels.push(text(tx, ty, string, { class: `halo ${back ? "slope" : "faint"}` }));
    };
    const labels = [];
    for (const layer of [0, 1]) for (const o of [0, 1]) for (const i of [0, 1]) edge(layer, o, i);
    const kinds = [ // of the nodes of each column
      s === 1 ? "lit" : s === 10 ? "reused" : "",
      s === 2 ? "lit" : s === 7 ? "reused" : s === 8 || s === 9 ? "back" : s === 10 ? "reused" : "",
      s === 3 ? "lit" : s === 5 || s === 6 ? "back" : s === 7 || s === 8 ? "reused" : "",
    ];
    const slopes = [null, s === 8 ? back[1] : s === 0 || s > 8 ? back[0] : null, s === 5 ? back[3] : s === 0 || s > 5 ? back[2] : null];
    const named = [null, s === 8 ? "∂P/∂y" : "ε", s === 5 ? "d − z" : "δ"];
    for (const column of [0, 1, 2]) for (const i of [0, 1]) {
      const x = columns[column], y = rows[i], value = values[2 * column][i], side = i ? 1 : -1;
      parts.push(circle(x, y, r, kinds[column]));
      if (seen(column + 1)) parts.push(text(x, y + 5, show(value, column ? 2 : 0), { class: "value" }));
      parts.push(text(x, y + (i ? 40 : -30), `${"xyz"[column]}${"₁₂"[i]}`, { class: "faint" }));
      if (slopes[column]) parts.push(text(x, y + (side > 0 ? 58 : -48), `${named[column]} ${show(slopes[column][i], 3)}`, { class: "slope" }));
    }
    const d = this.wanted[this.sample];
    for (const i of [0, 1]) {
      parts.push(arrow(columns[2] + r, rows[i], columns[3] - 4, i ? 190 : 124, s === 4 ? "lit-line" : s === 5 ? "back-line" : ""));
      parts.push(text(columns[3], i ? 222 : 92, `d ${d[i]}`, { class: "faint" }));
    }
    parts.push(box(columns[3], 157, 54, 48, s === 4 ? "lit" : s === 5 ? "back" : ""), text(columns[3], 153, "P"));
    if (seen(4)) parts.push(text(columns[3], 170, show(p, 2), { class: "value" }));
    this.net.replaceChildren(...parts, ...labels);
    this.says.textContent = STAGES[s];
    this.net.setAttribute("aria-label", `The net for inputs ${INPUTS[this.sample].join(" and ")}: outputs ${[...values[4]].map((v) => show(v, 2)).join(" and ")}, P = ${show(p, 3)}`);
  }

  drawStatus() {
    const distance = apart(this.weights), same = distance === 0 && this.links;
    const end = this.solvedAt !== null ? `Right after ${this.solvedAt}.` : this.passes >= CAP ? `Not right within ${CAP}.` : "Not right yet.";
    this.status.replaceChildren(el("span", { class: "number big" }, String(this.passes)), " passes. ", el("span", { class: this.solvedAt !== null ? "good" : "" }, end),
      ` Largest error ${show(this.error, 3)}. `, same ? "The two neurons are exactly equal: they get the same gradient, so they never part, and both outputs see one neuron."
        : `The two neurons differ by up to ${show(distance, 2)}.`);
  }

  drawCurve() {
    const { items, stride } = this.errors;
    if (this.chartWidth) curve(this.chart, this.chartWidth, 150, { errors: items, stride, passes: this.passes, now: this.error, solved: this.solvedAt });
  }

  drawPaths() {
    this.widths.set(this.width);
    this.depths.set(this.depth);
    const [w, k] = [this.width, this.depth], counts = [["paths", paths(w, k), "shared"], ["multiplications, path by path", byPaths(w, k), "backward"], ["multiplications of backward", byBackprop(w, k), "forward"]];
    this.pathRows.replaceChildren(...counts.map(([name, count, kind]) => el("div", {},
      el("div", { class: "row spread small" }, el("span", {}, name), el("span", { class: "number" }, count.toLocaleString("en"))),
      svg("svg", { height: 14, "aria-hidden": "true" }, svg("rect", { width: `${Math.min(100, (100 * Math.log10(count + 1)) / 14)}%`, height: 14, rx: 4, style: `fill: var(--${kind})` })))));
  }
}
