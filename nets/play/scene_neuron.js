// Scene 1, the neuron: inputs to flip, weights and a threshold to drag, all or none.

import { button, choice, el, list, number, numbers, onWidth, press, show, slider, svg } from "./dom.js";
import { arrow, box, circle, picture, text } from "./wires.js";
import { neuronCode } from "./code.js";
import { IMPOSSIBLE, NAMES, POINTS, fires, sum, table } from "./neuron.js";

export class NeuronScene {
  name = "neuron";
  title = "The neuron";
  short = "Neuron";

  constructor(changed) {
    this.changed = changed;
    this.fresh();
    const weights = ["w₁", "w₂"].map((name, i) => slider(name, { min: -3, max: 3, step: 0.05 }, (v) => { this.weights[i] = v; changed(); }));
    const threshold = slider("T", { min: -4, max: 4, step: 0.05 }, (v) => { this.threshold = v; changed(); });
    this.sliders = [...weights, threshold];
    this.flips = [0, 1].map((i) => button("", () => { this.inputs[i] = 1 - this.inputs[i]; changed(); }));
    this.form = choice("Form of the threshold", { box: "Threshold box", weight: "A weight on −1" }, (v) => { this.asWeight = v === "weight"; changed(); });
    this.net = picture(250, "");
    this.plane = picture(300, "");
    this.sentence = el("p", { "aria-live": "polite" });
    this.seen = new Set();
    this.tables = NAMES.map((name, code) => this.tableButton(name, code));
    this.count = el("p", { class: "small muted" });
    this.node = el("div", { class: "grid two" },
      el("div", { class: "column" },
        el("div", { class: "panel stack" }, el("div", { class: "row" }, ...this.flips, this.form.node), this.net, this.sentence),
        el("div", { class: "panel" }, ...this.sliders.map((s) => s.node))),
      el("div", { class: "column" },
        el("div", { class: "panel" }, el("h3", {}, "The four inputs, and the line w₁x₁ + w₂x₂ = T"), this.plane),
        el("div", { class: "panel" }, el("h3", {}, "Which functions can it be?"), this.count, el("div", { class: "tables" }, ...this.tables))));
    onWidth(this.net, (width) => { this.width = width; this.drawNet(); });
    onWidth(this.plane, (width) => { this.planeWidth = width; this.drawPlane(); });
  }

  lead = "A neuron multiplies each input by a weight and adds up. It fires all or none: its output is 1 if the sum is above the threshold T, and 0 otherwise. Flip the inputs, drag the weights.";

  fresh() { Object.assign(this, { weights: [1, 1], threshold: 1.5, inputs: [1, 0], asWeight: false }); }
  state() { return { w: list(this.weights), t: this.threshold, x: this.inputs.join(""), form: this.asWeight ? "weight" : "box" }; }

  load(q) {
    this.weights = numbers(q.w, 2)?.map((w) => Math.min(3, Math.max(-3, w))) ?? this.weights;
    this.threshold = number(q.t, -4, 4, this.threshold);
    if (/^[01]{2}$/.test(q.x ?? "")) this.inputs = [...q.x].map(Number);
    if (q.form) this.asWeight = q.form === "weight";
  }

  code() { return neuronCode(this); }

  tableButton(name, code) {
    const dots = POINTS.map((_, k) => el("b", { class: (code >> (3 - k)) & 1 ? "full" : "" }));
    const picture = el("i", { "aria-hidden": "true" }, dots[1], dots[3], dots[0], dots[2]); // x1 to the right, x2 up
    const never = IMPOSSIBLE.includes(code);
    const make = () => { [this.weights, this.threshold] = this.find(code); this.changed(); };
    return el("button", { type: "button", class: never ? "never" : "", disabled: never, onclick: make,
      title: never ? "No weights give this" : "Set weights that give this" }, picture, name);
  }

  find(code) { // weights −1, 0, 1 and a threshold between them
    for (const w1 of [0, 1, -1]) for (const w2 of [0, 1, -1]) for (const t of [0.5, 1.5, -0.5, -1.5])
      if (table([w1, w2], t) === code) return [[w1, w2], t];
    return [this.weights, this.threshold];
  }

  draw() {
    [...this.weights, this.threshold].forEach((v, i) => this.sliders[i].set(v));
    this.flips.forEach((b, i) => { b.textContent = `x${"₁₂"[i]} = ${this.inputs[i]}`; press(b, this.inputs[i]); });
    this.form.set(this.asWeight ? "weight" : "box");
    const total = sum(this.weights, this.inputs), out = fires(this.weights, this.threshold, this.inputs);
    const limit = this.asWeight ? 0 : this.threshold, shown = this.asWeight ? total - this.threshold : total;
    this.sentence.textContent = `The sum is ${show(shown, 2)}. It is ${out ? "" : "not "}above ${this.asWeight ? "0" : `the threshold ${show(limit, 2)}`}, so the neuron ${out ? "fires" : "stays silent"}.`;
    const code = table(this.weights, this.threshold);
    this.seen.add(code);
    this.tables.forEach((b, k) => press(b, k === code));
    this.count.textContent = `Now it is “${NAMES[code]}”. You have seen ${this.seen.size} of the 14 that a neuron can be. Dashed: no weights give it, because the inputs (0,1) and (1,0) add up to the same as (0,0) and (1,1).`;
    this.drawNet();
    this.drawPlane();
  }

  drawNet() {
    const width = this.width;
    if (!width) return;
    const out = fires(this.weights, this.threshold, this.inputs), total = sum(this.weights, this.inputs);
    const rows = this.asWeight ? [["−1", -1, this.threshold, "w₀ = T"]] : [];
    rows.push(...this.inputs.map((x, i) => [`x${"₁₂"[i]}`, x, this.weights[i], `w${"₁₂"[i]}`]));
    const at = { x: 26, w: width * 0.34, sum: width * 0.6, box: width * 0.8, z: width - 18 }, middle = 125;
    const parts = [];
    rows.forEach(([name, x, w, label], i) => {
      const y = middle + (i - (rows.length - 1) / 2) * 84, lit = x ? "lit" : "";
      parts.push(arrow(at.x + 22, y, at.w - 34, y, lit && "lit-line"), arrow(at.w + 36, y, at.sum - 24, middle, lit && "lit-line"));
      parts.push(circle(at.x, y, 22, lit), text(at.x, y + 5, x === -1 ? "−1" : x, { class: "strong" }), text(at.x, y - 28, name === "−1" ? "x₀" : name, { class: "faint" }));
      parts.push(box(at.w, y, 72, 40), text(at.w, y - 2, label), text(at.w, y + 14, show(w, 2), { class: "value" }));
      parts.push(text((at.w + 36 + at.sum - 22) / 2 + (y === middle ? 0 : 8), (y + middle) / 2 + (y > middle ? 26 : y < middle ? -14 : -8), show(w * x, 2), { class: "value halo" }));
    });
    const shown = this.asWeight ? total - this.threshold : total, firing = out ? "lit" : "";
    parts.push(arrow(at.sum + 22, middle, at.box - 30, middle), arrow(at.box + 30, middle, at.z - 16, middle, out ? "lit-line" : ""));
    parts.push(circle(at.sum, middle, 22), text(at.sum, middle + 6, "Σ", { class: "strong" }), text(at.sum, middle + 42, show(shown, 2), { class: "value halo" }));
    parts.push(box(at.box, middle, 60, 48, firing), text(at.box, middle - 4, this.asWeight ? "> 0 ?" : "> T ?"),
      text(at.box, middle + 14, this.asWeight ? "" : show(this.threshold, 2), { class: "value" }));
    parts.push(circle(at.z, middle, 16, firing), text(at.z, middle + 5, out, { class: "strong" }), text(at.z, middle - 26, "z", { class: "faint" }));
    this.net.replaceChildren(...parts);
    this.net.setAttribute("aria-label", `A neuron with inputs ${this.inputs.join(" and ")}: the sum is ${show(shown, 2)}, the output is ${out}`);
  }

  drawPlane() {
    const width = this.planeWidth;
    if (!width) return;
    const size = Math.min(width - 40, 300), left = 34, [w1, w2] = this.weights, t = this.threshold;
    const x = (v) => left + (size * (v + 0.5)) / 2, y = (v) => size - (size * (v + 0.5)) / 2;
    const inside = clip([[-0.5, -0.5], [1.5, -0.5], [1.5, 1.5], [-0.5, 1.5]], (p) => w1 * p[0] + w2 * p[1] - t);
    const dots = POINTS.flatMap((p) => {
      const on = fires(this.weights, t, p), here = p[0] === this.inputs[0] && p[1] === this.inputs[1];
      const flip = () => { this.inputs = [...p]; this.changed(); };
      return [svg("circle", { cx: x(p[0]), cy: y(p[1]), r: here ? 13 : 9, onclick: flip, style: `cursor: pointer; stroke: var(--forward); stroke-width: ${here ? 4 : 2}; fill: ${on ? "var(--forward)" : "var(--panel)"}` }),
        text(x(p[0]), y(p[1]) - 18, `(${p.join(", ")}) ${on ? "fires" : "silent"}`, { class: "halo" })];
    });
    this.plane.setAttribute("height", size + 24);
    this.plane.replaceChildren(
      svg("rect", { x: left, y: 0, width: size, height: size, style: "fill: none; stroke: var(--line)" }),
      svg("polygon", { points: inside.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), style: "fill: var(--forward-pale); stroke: var(--forward)" }),
      ...dots, text(left + size / 2, size + 18, "x₁ →", { class: "faint" }), text(16, size / 2, "x₂ ↑", { class: "faint" }));
    this.plane.setAttribute("aria-label", `The neuron fires for ${POINTS.filter((p) => fires(this.weights, t, p)).map((p) => `(${p})`).join(", ") || "no input"}`);
  }
}

// The part of a polygon where f > 0
function clip(points, f) {
  return points.flatMap((p, i) => {
    const q = points[(i + 1) % points.length], a = f(p), b = f(q);
    const cut = a > 0 !== b > 0 ? [p.map((v, k) => v + ((q[k] - v) * a) / (a - b))] : [];
    return a > 0 ? [p, ...cut] : cut;
  });
}
