// Scene 1, the neuron: inputs to flip, weights and a threshold to drag, all or none.

import {
  button,
  choice,
  column,
  el,
  list,
  number,
  numbers,
  onWidth,
  panel,
  press,
  row,
  show,
  slider,
} from "./dom.js";
import { NeuronPictures } from "./neuron_pictures.js";
import { picture } from "./wires.js";
import { neuronCode } from "./code.js";
import { IMPOSSIBLE, NAMES, POINTS, fires, sum, table } from "./neuron.js";

export class NeuronScene extends NeuronPictures {
  name = "neuron";
  title = "The neuron";
  short = "Neuron";

  constructor(changed) {
    super();
    this.changed = changed;
    this.seen = new Set(); // the functions that it has been
    this.fresh();
    const left = column(this.netPanel(), this.slidersPanel());
    this.node = el("div", { class: "grid two" }, left, column(this.planePanel(), this.tablesPanel()));
  }

  lead =
    "A neuron multiplies each input by a weight and adds up. It fires all or none: its output is 1 if the sum is above the threshold T, and 0 otherwise. Flip the inputs, drag the weights.";

  fresh() {
    Object.assign(this, { weights: [1, 1], threshold: 1.5, inputs: [1, 0], asWeight: false });
  }
  state() {
    return {
      w: list(this.weights),
      t: this.threshold,
      x: this.inputs.join(""),
      form: this.asWeight ? "weight" : "box",
    };
  }

  load(q) {
    this.weights = numbers(q.w, 2)?.map((w) => Math.min(3, Math.max(-3, w))) ?? this.weights;
    this.threshold = number(q.t, -4, 4, this.threshold);
    if (/^[01]{2}$/.test(q.x ?? "")) this.inputs = [...q.x].map(Number);
    if (q.form) this.asWeight = q.form === "weight";
  }

  code() {
    return neuronCode(this);
  }

  netPanel() {
    const flip = (i) => {
      this.inputs[i] = 1 - this.inputs[i];
      this.changed();
    };
    this.flips = [0, 1].map((i) => button("", () => flip(i)));
    const forms = { box: "Threshold box", weight: "A weight on −1" };
    this.form = choice("Form of the threshold", forms, (v) => {
      this.asWeight = v === "weight";
      this.changed();
    });
    this.net = picture(250, "");
    this.sentence = el("p", { "aria-live": "polite" });
    onWidth(this.net, (width) => {
      this.width = width;
      this.drawNet();
    });
    return panel("stack", "", row(...this.flips, this.form.node), this.net, this.sentence);
  }

  slidersPanel() {
    const weight = (i) => (value) => {
      this.weights[i] = value;
      this.changed();
    };
    const weights = ["w₁", "w₂"].map((name, i) => slider(name, { min: -3, max: 3, step: 0.05 }, weight(i)));
    const threshold = slider("T", { min: -4, max: 4, step: 0.05 }, (value) => {
      this.threshold = value;
      this.changed();
    });
    this.sliders = [...weights, threshold];
    return panel("", "", ...this.sliders.map((s) => s.node));
  }

  planePanel() {
    this.plane = picture(300, "");
    onWidth(this.plane, (width) => {
      this.planeWidth = width;
      this.drawPlane();
    });
    return panel("", "The four inputs, and the line w₁x₁ + w₂x₂ = T", this.plane);
  }

  tablesPanel() {
    this.tables = NAMES.map((name, code) => this.tableButton(name, code));
    this.count = el("p", { class: "small muted" });
    return panel(
      "",
      "Which functions can it be?",
      this.count,
      el("div", { class: "tables" }, ...this.tables),
    );
  }

  tableButton(name, code) {
    const dots = POINTS.map((_, k) => el("b", { class: (code >> (3 - k)) & 1 ? "full" : "" }));
    const drawn = [dots[1], dots[3], dots[0], dots[2]]; // x1 to the right, x2 up
    const sign = el("i", { "aria-hidden": "true" }, ...drawn);
    const never = IMPOSSIBLE.includes(code);
    const make = () => {
      [this.weights, this.threshold] = this.find(code);
      this.changed();
    };
    return el(
      "button",
      {
        type: "button",
        class: never ? "never" : "",
        disabled: never,
        onclick: make,
        title: never ? "No weights give this" : "Set weights that give this",
      },
      sign,
      name,
    );
  }

  find(code) {
    // weights −1, 0, 1 and a threshold between them
    for (const w1 of [0, 1, -1])
      for (const w2 of [0, 1, -1])
        for (const t of [0.5, 1.5, -0.5, -1.5]) if (table([w1, w2], t) === code) return [[w1, w2], t];
    return [this.weights, this.threshold];
  }

  draw() {
    [...this.weights, this.threshold].forEach((v, i) => this.sliders[i].set(v));
    this.flips.forEach((b, i) => {
      b.textContent = `x${"₁₂"[i]} = ${this.inputs[i]}`;
      press(b, this.inputs[i]);
    });
    this.form.set(this.asWeight ? "weight" : "box");
    const total = sum(this.weights, this.inputs),
      out = fires(this.weights, this.threshold, this.inputs);
    const limit = this.asWeight ? 0 : this.threshold,
      shown = this.asWeight ? total - this.threshold : total;
    this.sentence.textContent = `The sum is ${show(shown, 2)}. It is ${out ? "" : "not "}above ${this.asWeight ? "0" : `the threshold ${show(limit, 2)}`}, so the neuron ${out ? "fires" : "stays silent"}.`;
    const code = table(this.weights, this.threshold);
    this.seen.add(code);
    this.tables.forEach((b, k) => press(b, k === code));
    this.count.textContent = `Now it is “${NAMES[code]}”. You have seen ${this.seen.size} of the 14 that a neuron can be. Dashed: no weights give it, because the inputs (0,1) and (1,0) add up to the same as (0,0) and (1,1).`;
    this.drawNet();
    this.drawPlane();
  }
}
