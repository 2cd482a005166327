// Scene 2, the world's smallest net: P over its weights, the chain rule in numbers, and the rate constant.

import { button, choice, color, context, el, exact, list, number, numbers, onWidth, show, slider } from "./dom.js";
import { arrow, box, circle, curve, picture, text } from "./wires.js";
import { fill, lines } from "./contours.js";
import { chainCode } from "./code.js";
import { History } from "./history.js";
import { LECTURE, TASKS, Trainer, factors, grid, largestError, slopes } from "./chain.js";

const NAMES = ["w₁", "T₁", "w₂", "T₂"], CAP = 20000, SIDE = 72;
const AXES = { repeat: { w1: [-10, 10], w2: [-10, 10] }, hill: { w1: [-2, 6], w2: [-7, 3] } };

export class ChainScene {
  name = "smallest";
  title = "The world’s smallest net";
  short = "Smallest";
  lead = "One input, two neurons in a row, one output. It starts with random weights and learns to repeat its input. Press Run. Then drag a weight and see what it does to the performance P = −½(d − z)², which is at most 0.";

  constructor(changed) {
    this.changed = changed;
    Object.assign(this, { taskName: "repeat", rule: "fixed", rate: 5, speed: 1, sample: 1, running: false });
    Object.assign(this, { start: [0.55, -0.35, -1.2, 0.6], here: {} }); // here: rate -> iterations from this start
    this.restart();
    this.build();
  }

  get task() { return TASKS[this.taskName]; }
  get weights() { return this.trainer.weights; }

  restart() {
    const weights = this.start;
    this.trainer = new Trainer(weights, this.task, this.rule, this.rate);
    this.begin = [...weights]; // where the path and the count begin
    this.path = new History([...weights]);
    this.error = largestError(weights, this.task.samples);
    this.errors = new History(this.error);
    this.gridKey = null;
  }

  fresh() {
    this.start = this.taskName === "hill" ? [...TASKS.hill.start] : NAMES.map(() => Number((4 * Math.random() - 2).toFixed(3)));
    this.here = {};
    this.restart();
    this.changed();
  }

  set(k, value) { this.move({ [k]: value }); }

  move(change) { // some weights, by hand: a new start
    this.start = Object.assign([...this.weights], change);
    this.here = {};
    this.restart();
    this.changed();
  }

  setup(change) { // again from the same start
    Object.assign(this, change);
    this.restart();
    this.changed();
  }

  step() {
    this.trainer.step();
    this.path.push([...this.weights]);
    this.error = largestError(this.weights, this.task.samples);
    this.errors.push(this.error);
  }

  stepOnce() { this.running = false; this.step(); this.changed(); }

  frame() {
    for (let k = 0; k < this.speed && this.running; k++) {
      this.step();
      if (this.trainer.solvedAt !== null || this.trainer.passes >= CAP) this.running = false;
    }
  }

  toggle() {
    if (!this.running && this.trainer.solvedAt !== null) this.restart();
    this.running = !this.running;
    this.changed();
  }

  state() {
    return { task: this.taskName, w: list(this.begin), n: this.trainer.passes, rule: this.rule, rate: this.rate, speed: this.speed, sample: this.sample };
  }

  load(q) {
    if (q.task in TASKS) this.taskName = q.task;
    if (["fixed", "adaptive", "every"].includes(q.rule)) this.rule = q.rule;
    this.rate = number(q.rate, 0.05, 500, this.rate);
    this.speed = [1, 10, 100].find((s) => String(s) === q.speed) ?? this.speed;
    this.sample = Math.round(number(q.sample, 0, this.task.samples.length - 1, Math.min(this.sample, this.task.samples.length - 1)));
    this.start = numbers(q.w, 4)?.map((w) => Math.max(-100, Math.min(100, w))) ?? (this.taskName === "hill" ? [...TASKS.hill.start] : this.start);
    this.running = false;
    this.restart();
    for (let k = number(q.n, 0, CAP, 0); k >= 1; k--) this.step();
  }

  code() { return chainCode({ weights: this.begin, task: this.task, rule: this.rule, rate: this.rate, close: this.task.close, cap: CAP }); }

  build() {
    this.net = picture(194, "");
    this.sliders = NAMES.map((name, k) => slider(name, { min: -10, max: 10 }, (v) => this.set(k, v)));
    this.tasks = choice("Task", { repeat: "Repeat a bit", hill: "A hill, without thresholds" }, (v) => {
      this.taskName = v;
      this.sample = 1;
      this.start = v === "hill" ? [...TASKS.hill.start] : [0.55, -0.35, -1.2, 0.6];
      this.running = false;
      this.setup({ rate: v === "hill" ? 1.5 : 5 });
    });
    this.samples = el("div", { class: "row" });
    this.rules = choice("Rule", { fixed: "Fixed rate", adaptive: "Adaptive rate", every: "Try every direction" }, (v) => this.setup({ rule: v }));
    this.rates = slider("Rate constant", { min: 0.05, max: 500, log: true, long: true }, (v) => this.setup({ rate: v }));
    this.speeds = choice("Passes per frame", { 1: "1", 10: "10", 100: "100" }, (v) => { this.speed = Number(v); this.changed(); });
    this.runButton = button("Run", () => this.toggle(), { class: "main" });
    this.canvas = el("canvas", { width: SIDE, height: SIDE });
    this.over = el("canvas", { role: "img", "aria-label": "Map of P over w₁ and w₂" });
    this.mapNode = el("div", { class: "map" }, this.canvas, this.over);
    this.over.addEventListener("pointerdown", (e) => { this.over.setPointerCapture(e.pointerId); this.pick(e); });
    this.over.addEventListener("pointermove", (e) => { if (e.buttons) this.pick(e); });
    this.labels = ["left: 0; bottom: -22px", "right: 0; bottom: -22px", "left: 50%; bottom: -22px", "left: -26px; bottom: 0", "left: -26px; top: 0", "left: -26px; top: 48%"]
      .map((style) => this.mapNode.appendChild(el("span", { style })));
    this.chain = el("div", { class: "chain" });
    this.status = el("p", { "aria-live": "polite" });
    this.chart = picture("100%", "");
    this.chartNode = el("div", { class: "curve" }, this.chart);
    this.lecture = el("tbody");
    const stepper = button("Step", () => this.stepOnce()), fresh = button("New start", () => this.fresh());
    this.node = el("div", { class: "grid main" },
      el("div", { class: "column" },
        el("div", { class: "panel stack" }, this.tasks.node, el("div", { class: "row" }, this.runButton, stepper, fresh), this.samples, this.net, el("div", { class: "weights" }, ...this.sliders.map((s) => s.node))),
        el("div", { class: "panel last" }, el("h3", {}, "The chain rule, in numbers"), this.chain)),
      el("div", { class: "column" },
        el("div", { class: "panel stack second" }, this.rules.node, this.rates.node,
          el("div", { class: "row" }, el("span", { class: "small muted" }, "Passes per frame"), this.speeds.node), this.status, this.chartNode,
          el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...["Rate", "In the lecture", "Here"].map((t) => el("th", {}, t)))), this.lecture)))),
      el("div", { class: "column" },
        el("div", { class: "panel third" }, el("h3", {}, "P over the two weights"), this.mapNode, el("p", { class: "small muted", style: "margin-top: 28px" }, "Light is high. The line is the path of the weights. Tap or drag on the map to move them. Thresholds stay as they are; when they learn, the map changes."))));
    onWidth(this.net, (w) => { this.width = w; this.drawNet(); });
    onWidth(this.chartNode, (w) => { this.chartWidth = w; this.drawCurve(); });
    onWidth(this.mapNode, (w) => { this.mapWidth = w; this.drawMap(); });
  }

  pick(event) {
    const { w1, w2 } = AXES[this.taskName], side = this.over.clientWidth;
    const at = ([low, high], part) => Number((low + (high - low) * Math.min(1, Math.max(0, part))).toFixed(2));
    this.move({ 0: at(w1, event.offsetX / side), 2: at(w2, 1 - event.offsetY / side) });
  }

  draw() {
    this.tasks.set(this.taskName);
    this.rules.set(this.rule);
    this.rates.set(this.rate);
    this.rates.node.hidden = this.rule === "every";
    this.speeds.set(this.speed);
    this.runButton.textContent = this.running ? "Pause" : "Run";
    this.weights.forEach((w, k) => { this.sliders[k].set(w); this.sliders[k].node.hidden = !this.task.learns[k]; });
    this.drawSamples();
    this.drawNet();
    this.drawChain();
    this.drawStatus();
    this.drawCurve();
    this.drawMap();
  }

  drawSamples() {
    const key = this.taskName;
    if (this.sampleKey !== key) {
      this.sampleKey = key;
      this.sampleChoice = choice("Sample", Object.fromEntries(this.task.samples.map(([x], k) => [k, show(x, key === "hill" ? 1 : 0)])), (k) => { this.sample = Number(k); this.changed(); });
      this.samples.replaceChildren(el("span", { class: "small muted" }, "Input x"), this.sampleChoice.node);
    }
    this.sampleChoice.set(this.sample);
  }

  drawNet() {
    const width = this.width, [x, d] = this.task.samples[this.sample];
    if (!width) return;
    const f = factors(this.weights, [x, d]), thresholds = this.task.learns[1], [w1, t1, w2, t2] = this.weights;
    const at = (k) => 24 + ((width - 56) * k) / 5, y = 88, parts = [];
    const names = ["x", "p₁", "y", "p₂", "z"], values = [x, f.p1, f.y, f.p2, f.z], back = [null, f.dp1, f.dy, f.dp2, f.error];
    for (let k = 0; k < 5; k++) {
      const from = at(k), to = at(k + 1);
      parts.push(arrow(from + 16, y, to - (k === 4 ? 22 : 16), y));
      if (k === 0 || k === 2) parts.push(text((from + to) / 2, y + 32, `w${k ? "₂" : "₁"} ${show(k ? w2 : w1, 1)}`),
        ...(thresholds ? [text((from + to) / 2, y + 48, `T${k ? "₂" : "₁"} ${show(k ? t2 : t1, 1)}`, { class: "faint" })] : []));
      if (k === 1 || k === 3) parts.push(text((from + to) / 2, y - 8, "σ", { class: "strong halo" }));
    }
    names.forEach((name, k) => {
      parts.push(circle(at(k), y, 15), text(at(k), y + 5, name), text(at(k), y - 30, show(values[k], 2), { class: "value" }));
      if (back[k] !== null) parts.push(text(at(k), y + 70, show(back[k], 3), { class: "slope" }));
    });
    parts.push(box(at(5), y, 44, 36), text(at(5), y - 2, "P"), text(at(5), y + 13, `d ${show(d, d % 1 ? 1 : 0)}`), text(at(5), y - 30, show(-0.5 * f.error ** 2, 2), { class: "value" }));
    parts.push(text(12, 20, "forward: the values →", { class: "value", "text-anchor": "start" }), text(width - 8, 186, "← backward: the slopes ∂P/∂…", { class: "slope", "text-anchor": "end" }));
    this.net.replaceChildren(...parts);
    this.net.setAttribute("aria-label", `x = ${show(x, 1)} gives y = ${show(f.y)}, z = ${show(f.z)}; wanted is d = ${show(d)}`);
  }

  drawChain() {
    const [x, d] = this.task.samples[this.sample], f = factors(this.weights, [x, d]), w2 = this.weights[2];
    const one = (name, value, kind = "") => el("span", { class: `factor ${kind}` }, el("span", {}, exact(value, 3)), el("small", {}, name));
    const shared = () => [one("d − z", f.error, "shared"), one("z(1 − z)", f.slopeZ, "shared")];
    const inner = () => [...shared(), one("w₂", w2, "shared inner"), one("y(1 − y)", f.slopeY, "shared inner")];
    const rule = (name, parts, k) => el("div", { class: "rule" }, el("b", {}, name),
      ...parts.map((part, i) => el("span", {}, i ? "×" : "=", part)), el("span", { class: "result" }, "= ", exact(f.gradient[k], 4)));
    const thresholds = this.task.learns[1];
    this.chain.replaceChildren(
      rule("∂P/∂w₂", [...shared(), one("y", f.y)], 2),
      ...(thresholds ? [rule("∂P/∂T₂", [...shared(), one("of −T₂", -1)], 3)] : []),
      rule("∂P/∂w₁", [...(thresholds ? inner() : [...shared(), one("w₂", w2), one("y(1 − y)", f.slopeY)]), one("x", x)], 0),
      ...(thresholds ? [rule("∂P/∂T₁", [...inner(), one("of −T₁", -1)], 1)] : []),
      el("p", { class: "small muted" }, `For the input x = ${show(x, 1)}. Dashed: the factors that all products share. They are computed once.${thresholds ? " Dotted: shared by w₁ and T₁." : ""}`));
  }

  drawStatus() {
    const { passes, solvedAt } = this.trainer, { p } = slopes(this.weights, this.task.samples);
    const what = this.rule === "every" ? "steps" : "iterations";
    const right = this.task.close ? "At the top, P > −0.001, after" : "Right after";
    const end = solvedAt !== null ? `${right} ${solvedAt}.` : passes >= CAP ? `Not right within ${CAP}.` : "Not right yet.";
    this.status.replaceChildren(el("span", { class: "number big" }, String(passes)), ` ${what}. `, el("span", { class: solvedAt !== null ? "good" : "" }, end), ` P = ${exact(p, 4)}, largest error ${show(this.error, 3)}.`);
    if (solvedAt !== null && this.rule === "fixed" && this.taskName === "repeat") this.here[this.rate] = solvedAt;
    this.lecture.replaceChildren(...LECTURE.map(([rate, seen]) => {
      const go = button(String(rate), () => this.setup({ rate, rule: "fixed" }), { "aria-label": `Set the rate constant to ${rate}` });
      return el("tr", { class: this.rate === rate && this.rule === "fixed" ? "here" : "" }, el("td", {}, go), el("td", {}, seen.join(", ")), el("td", {}, String(this.here[rate] ?? "–")));
    }));
    this.lecture.closest("table").hidden = this.taskName !== "repeat";
  }

  drawCurve() {
    const { passes, solvedAt } = this.trainer;
    const { items, stride } = this.errors;
    if (this.chartWidth) curve(this.chart, this.chartWidth, 150, { errors: items, stride, passes, now: this.error, solved: solvedAt });
  }

  drawMap() {
    const side = this.mapWidth, axes = AXES[this.taskName], [, t1, , t2] = this.weights;
    if (!side) return;
    const key = [this.taskName, t1.toFixed(3), t2.toFixed(3)].join();
    if (key !== this.gridKey) {
      const spread = ([low, high]) => Array.from({ length: SIDE }, (_, k) => low + ((high - low) * k) / (SIDE - 1));
      this.p = grid(this.weights, this.task.samples, spread(axes.w1), spread(axes.w2));
      fill(this.canvas, this.p);
      this.gridKey = key;
      [axes.w1[0], axes.w1[1], "w₁ →", axes.w2[0], axes.w2[1], "w₂"].forEach((v, k) => { this.labels[k].textContent = typeof v === "number" ? show(v, 0) : v; });
    }
    const c = context(this.over, side, side), scale = side / (SIDE - 1);
    c.beginPath();
    lines(this.p, (x1, y1, x2, y2) => { c.moveTo(x1 * scale, side - y1 * scale); c.lineTo(x2 * scale, side - y2 * scale); });
    c.strokeStyle = "rgba(255,255,255,.35)";
    c.stroke();
    const at = (v, [low, high]) => (side * (v - low)) / (high - low);
    const point = (w) => [at(w[0], axes.w1), side - at(w[2], axes.w2)];
    for (const [style, width] of [["#000", 5], ["#fff", 2.5]]) {
      c.beginPath();
      [...this.path.items, this.weights].forEach((w, k) => (k ? c.lineTo(...point(w)) : c.moveTo(...point(w))));
      [c.strokeStyle, c.lineWidth, c.lineJoin] = [style, width, "round"];
      c.stroke();
    }
    this.dot(c, point(this.begin), "#fff", 4);
    if (this.task.top) this.dot(c, point(this.task.top), color("good"), 6);
    this.dot(c, point(this.weights), "#ff8c3a", 7);
    this.over.setAttribute("aria-label", `Map of P: w₁ = ${show(this.weights[0], 2)}, w₂ = ${show(this.weights[2], 2)}`);
  }

  dot(c, [x, y], fillStyle, radius) {
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    [c.fillStyle, c.strokeStyle, c.lineWidth] = [fillStyle, "#000", 2];
    c.fill();
    c.stroke();
  }
}
