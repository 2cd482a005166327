// Scene 4, a net that sees: draw, read the five bars, follow a gradient back to the pixels, train on the drawing.

import { button, choice, color, el, number, show, slider } from "./dom.js";
import { digitsCode } from "./code.js";
import { fromText, rasterize, toBytes, toText } from "./drawing.js";
import { crossEntropy, softmax, update } from "./layers.js";
import { loadNet, toInput } from "./loaded.js";
import { paintMosaic, paintPixels } from "./mosaic.js";

const shipped = () => JSON.parse(document.getElementById("net").textContent);
const examples = JSON.parse(document.getElementById("examples").textContent);

export class DigitsScene {
  name = "digits";
  title = "A net that sees";
  short = "Digits";
  lead = "Draw a digit with mouse or finger. The net was trained on 1,437 handwritten digits, and guesses while you draw. Press a bar to see the gradient of that guess flow back, layer by layer, to the pixels.";

  constructor(changed) {
    this.changed = changed;
    Object.assign(this, { strokes: [], chosen: null, target: null, rate: 0.02, steps: 0, file: null, shown: 0, cursor: null });
    this.use(shipped());
    this.levels = fromText(examples[3], this.size) ?? this.blank();
    this.build();
  }

  get height() { return this.loaded.shape[1]; }
  get width() { return this.loaded.shape[2]; }
  get size() { return this.height * this.width; }
  blank() { return Array(this.size).fill(0); }
  pixels() { return toBytes(this.levels); }

  use(about) { this.about = about; this.loaded = loadNet(about); this.steps = 0; }

  state() {
    const drawn = this.size <= 1024 ? { px: toText(this.levels) } : {};
    return { ...drawn, bar: this.chosen ?? "", is: this.target ?? "", rate: this.rate, steps: this.steps };
  }

  load(q) {
    this.levels = fromText(q.px, this.size) ?? this.levels;
    this.strokes = [];
    const classes = this.loaded.classes.length - 1;
    this.chosen = q.bar ? Math.round(number(q.bar, 0, classes, 0)) : null;
    this.target = q.is ? Math.round(number(q.is, 0, classes, 0)) : null;
    this.rate = number(q.rate, 0.001, 0.1, this.rate);
    if (this.steps) this.use(this.about);
    for (let k = number(q.steps, 0, 100, 0); k >= 1 && this.target !== null; k--) this.trainStep();
    this.shown = 0;
  }

  code() {
    const { target, rate, steps, file } = this;
    return digitsCode({ pixels: this.pixels(), shape: this.loaded.shape, file, target, rate, steps });
  }

  // Everything that the screen shows: logits, activations, and with a chosen bar the slopes of its logit
  compute() {
    const x = toInput(this.loaded, this.pixels()), activations = [], slopes = [];
    const [z, saved] = this.loaded.net.forward(x, (i, y) => { activations[i] = y; });
    let dx = null;
    if (this.chosen !== null) {
      const one = { shape: z.shape, data: z.data.map((_, k) => (k === this.chosen ? 1 : 0)) };
      [dx] = this.loaded.net.backward(saved, one, (i, dy) => { slopes[i] = dy; });
    }
    return { x, z, p: softmax(z.data), activations, slopes, dx };
  }

  trainStep() {
    const { net } = this.loaded, [z, saved] = net.forward(toInput(this.loaded, this.pixels()));
    const [, dz] = crossEntropy(z, this.target);
    update(net.layers, net.backward(saved, dz)[1], -this.rate);
    this.steps++;
  }

  train(steps) {
    for (let k = 0; k < steps; k++) this.trainStep();
    this.changed();
  }

  stepOnce() { if (this.target !== null) this.train(1); }
  fresh() { this.clear(); }
  clear() { this.strokes = []; this.levels = this.blank(); this.changed(); }

  build() {
    this.pad = el("canvas", { class: "pad", tabindex: 0, role: "img", "aria-label": "Drawing pad. Arrow keys move, Enter sets a pixel." });
    this.pad.addEventListener("pointerdown", (e) => { this.pad.setPointerCapture(e.pointerId); this.cursor = null; this.strokes.push([]); this.stroke(e); });
    this.pad.addEventListener("pointermove", (e) => { if (e.buttons && this.strokes.length) this.stroke(e); });
    this.pad.addEventListener("keydown", (e) => this.key(e));
    this.samples = el("div", { class: "digits" });
    this.bars = el("div", { class: "bars" });
    this.says = el("p", { class: "small muted", "aria-live": "polite" });
    this.targets = el("div");
    this.rates = slider("Learning rate", { min: 0.001, max: 0.1, log: true, long: true }, (v) => { this.rate = v; this.changed(); });
    this.trainOne = button("Train 1 step", () => this.train(1));
    this.trainTen = button("Train 10 steps", () => this.train(10));
    this.reset = button("Trained weights", () => { this.use(this.about); this.changed(); });
    this.trained = el("p", { class: "small muted", "aria-live": "polite" });
    this.input = el("canvas", { role: "img", "aria-label": "The pixels that the net sees" });
    this.inputSlope = el("canvas", { role: "img", "aria-label": "The slopes of the pixels" });
    this.layers = el("div", { class: "layers" });
    const file = el("input", { type: "file", accept: ".json,application/json", onchange: (e) => this.open(e.target.files[0]) });
    this.message = el("p", { class: "small", role: "status" });
    this.node = el("div", { class: "grid three" },
      el("div", { class: "panel stack" }, el("h3", {}, "Draw here"), this.pad, el("div", { class: "row" }, button("Clear", () => this.clear())), el("p", { class: "small muted" }, "Or take one of the test images:"), this.samples),
      el("div", { class: "column" }, el("div", { class: "panel stack" }, el("h3", {}, "Five best guesses"), this.bars, this.says)),
      el("div", { class: "column" },
        el("div", { class: "panel stack" }, el("h3", {}, "Train on the drawing"), el("p", { class: "small muted" }, "What is it? Then train a few steps and see the bars move."), this.targets, this.rates.node, el("div", { class: "row" }, this.trainOne, this.trainTen, this.reset), this.trained),
        el("div", { class: "panel stack last" }, el("h3", {}, "A net of your own"), el("p", { class: "small" }, "Write it with ", el("code", {}, "nets export RUN"), " and load the file. It stays on this machine."), el("div", { class: "row" }, el("label", { class: "file" }, "Load a net", file), button("The digits net", () => this.choose(shipped(), null))), this.message)),
      el("div", { class: "panel wide third" }, el("h3", {}, "Layer by layer"),
        el("p", { class: "small muted" }, "Left: what forward computes. Right: the slope of the chosen guess, from backward. Orange raises, blue lowers, gray is 0; in one layer the strongest color is the largest number."), this.layers));
    this.listNet();
  }

  listNet() { // what depends on the net: its layers, classes and examples
    const { net, classes } = this.loaded;
    this.cards = net.layers.map((layer, i) => {
      const values = el("canvas", { role: "img" }), slopes = el("canvas", { role: "img" }), size = el("span");
      const card = el("div", { class: "layer" }, el("h4", {}, `${i + 1}. ${layer.type}`, size), el("div", { class: "pair" }, el("div", {}, values), el("div", {}, slopes)));
      return { card, values, slopes, size };
    });
    const pixels = el("div", { class: "layer" }, el("h4", {}, "The pixels", el("span", {}, `${this.height} × ${this.width}`)), el("div", { class: "pair" }, el("div", {}, this.input), el("div", {}, this.inputSlope)));
    this.layers.replaceChildren(pixels, ...this.cards.map((c) => c.card));
    this.pixelCard = pixels;
    this.targetChoice = choice("What it is", Object.fromEntries(classes.slice(0, 20).map((name, k) => [k, name])), (k) => { this.target = Number(k); this.changed(); });
    this.targets.replaceChildren(this.targetChoice.node);
    this.samples.parentElement.querySelectorAll(".digits, .digits ~ p").forEach((n) => { n.hidden = this.size !== 64; });
    this.thumbs = [];
    this.samples.replaceChildren(...examples.map((text, k) => {
      const levels = fromText(text, this.size);
      if (!levels) return "";
      const canvas = el("canvas", { "aria-hidden": "true" });
      this.thumbs.push(() => paintPixels(canvas, toBytes(levels), 8, 8));
      return el("button", { type: "button", "aria-label": `Test image of a ${k}`, onclick: () => { this.strokes = []; this.levels = levels; this.changed(); } }, canvas);
    }));
  }

  async open(file) {
    if (!file) return;
    try {
      this.choose(JSON.parse(await file.text()), file.name);
    } catch (error) {
      this.message.textContent = `${file.name} can't be loaded: ${error.message}`;
    }
  }

  choose(about, file) {
    this.use(about);
    Object.assign(this, { file, chosen: null, target: null, strokes: [], levels: this.blank() });
    this.message.textContent = `This is “${this.loaded.name}”.`;
    this.ink = null;
    this.listNet();
    this.changed();
  }

  stroke(event) {
    const box = this.pad.getBoundingClientRect();
    this.strokes.at(-1).push([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    this.levels = rasterize(this.strokes, this.height, this.width);
    this.changed();
  }

  key(event) {
    const [x, y] = this.cursor ?? [Math.floor(this.width / 2), Math.floor(this.height / 2)];
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Enter: [0, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    this.cursor = [Math.min(this.width - 1, Math.max(0, x + move[0])), Math.min(this.height - 1, Math.max(0, y + move[1]))];
    if (event.key === "Enter") {
      const at = y * this.width + x;
      this.levels = this.levels.map((v, k) => (k === at ? (v ? 0 : 16) : v));
      this.strokes = [];
    }
    this.changed();
  }

  choose5(k) {
    this.chosen = this.chosen === k ? null : k;
    this.shown = 0;
    clearInterval(this.timer);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (this.chosen !== null && !still) {
      this.shown = this.cards.length;
      this.timer = setInterval(() => { if (--this.shown <= 0) clearInterval(this.timer); this.drawLayers(); }, 180);
    }
    this.changed();
  }

  draw() {
    this.found = this.compute();
    this.rates.set(this.rate);
    this.targetChoice.set(this.target);
    this.trainOne.disabled = this.trainTen.disabled = this.target === null;
    this.reset.disabled = this.steps === 0;
    this.trained.textContent = this.target === null ? "Choose what it is first." : `${this.steps} steps of SGD on this one image. BatchNorm keeps its averages, Dropout is off.`;
    this.drawPad();
    this.drawBars();
    this.drawLayers();
  }

  drawPad() {
    if (this.ink !== color("ink")) this.thumbs.forEach((paint) => paint()); // at first, and in another theme
    this.ink = color("ink");
    paintPixels(this.pad, this.pixels(), this.height, this.width, this.strokes, this.cursor);
  }

  drawBars() {
    const { p, z } = this.found, { classes } = this.loaded;
    const best = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, 5);
    if (!this.barNodes || this.barNodes.length !== best.length) {
      this.barNodes = best.map((_, i) => {
        const name = el("span", { class: "name" }), fill = el("i"), share = el("span", { class: "share" });
        const node = el("button", { type: "button", onclick: () => this.choose5(this.best[i]) }, name, el("span", { class: "bar" }, fill), share);
        return { node, name, fill, share };
      });
      this.bars.replaceChildren(...this.barNodes.map((b) => b.node));
    }
    this.best = best;
    best.forEach((k, i) => {
      const { node, name, fill, share } = this.barNodes[i], percent = `${(100 * p[k]).toFixed(1)}%`;
      [name.textContent, share.textContent, fill.style.width] = [classes[k], percent, `${100 * p[k]}%`];
      node.setAttribute("aria-pressed", k === this.chosen ? "true" : "false");
      node.setAttribute("aria-label", `${classes[k]}: ${percent}`);
    });
    this.says.textContent = this.chosen === null ? "Press a bar to see its gradient." :
      `Below: the gradient of the logit of “${classes[this.chosen]}”, ${show(z.data[this.chosen], 2)}. Press the bar again to hide it.`;
  }

  drawLayers() {
    const { activations, slopes, dx } = this.found;
    this.cards.forEach(({ card, values, slopes: canvas, size }, i) => {
      const y = activations[i];
      size.textContent = y.shape.slice(1).join(" × ");
      paintMosaic(values, y);
      values.setAttribute("aria-label", `Activations of layer ${i + 1}`);
      const on = slopes.length && i >= this.shown;
      card.classList.toggle("now", Boolean(slopes.length) && this.shown > 0 && i === this.shown);
      paintMosaic(canvas, on ? slopes[i] : null, y);
      canvas.setAttribute("aria-label", on ? `Slopes of layer ${i + 1}` : "No slopes shown");
    });
    paintPixels(this.input, this.pixels(), this.height, this.width);
    paintMosaic(this.inputSlope, dx && this.shown <= 0 ? dx : null, this.found.x);
  }
}
