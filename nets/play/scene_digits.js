// Scene 4, a net that sees: draw, read the five bars, follow a gradient back to the pixels, train on the drawing.

import { number } from "./dom.js";
import { digitsCode } from "./code.js";
import { fromText, rasterize, toBytes, toText } from "./drawing.js";
import { crossEntropy, softmax, update } from "./layers.js";
import { loadNet, toInput } from "./loaded.js";
import { DigitsPanels, examples, shipped } from "./digits_panels.js";

export class DigitsScene extends DigitsPanels {
  name = "digits";
  title = "A net that sees";
  short = "Digits";
  lead =
    "Draw a digit with mouse or finger. The net was trained on 1,437 handwritten digits, and guesses while you draw. Press a bar to see the gradient of that guess flow back, layer by layer, to the pixels.";

  constructor(changed) {
    super();
    this.changed = changed;
    Object.assign(this, {
      strokes: [],
      chosen: null,
      target: null,
      rate: 0.02,
      steps: 0,
      file: null,
      shown: 0,
      cursor: null,
    });
    this.use(shipped());
    this.levels = fromText(examples[3], this.size) ?? this.blank();
    this.build();
  }

  get height() {
    return this.loaded.shape[1];
  }
  get width() {
    return this.loaded.shape[2];
  }
  get size() {
    return this.height * this.width;
  }
  blank() {
    return Array(this.size).fill(0);
  }
  pixels() {
    return toBytes(this.levels);
  }

  use(about) {
    this.about = about;
    this.loaded = loadNet(about);
    this.steps = 0;
  }

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
    const x = toInput(this.loaded, this.pixels()),
      activations = [],
      slopes = [];
    const [z, saved] = this.loaded.net.forward(x, (i, y) => {
      activations[i] = y;
    });
    let dx = null;
    if (this.chosen !== null) {
      const one = { shape: z.shape, data: z.data.map((_, k) => (k === this.chosen ? 1 : 0)) };
      [dx] = this.loaded.net.backward(saved, one, (i, dy) => {
        slopes[i] = dy;
      });
    }
    return { x, z, p: softmax(z.data), activations, slopes, dx };
  }

  trainStep() {
    const { net } = this.loaded,
      [z, saved] = net.forward(toInput(this.loaded, this.pixels()));
    const [, dz] = crossEntropy(z, this.target);
    update(net.layers, net.backward(saved, dz)[1], -this.rate);
    this.steps++;
  }

  train(steps) {
    for (let k = 0; k < steps; k++) this.trainStep();
    this.changed();
  }

  stepOnce() {
    if (this.target !== null) this.train(1);
  }
  fresh() {
    this.clear();
  }
  clear() {
    this.strokes = [];
    this.levels = this.blank();
    this.changed();
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

  pen(event) {
    // a new stroke
    this.cursor = null;
    this.strokes.push([]);
    this.stroke(event);
  }

  stroke(event) {
    const box = this.pad.getBoundingClientRect();
    this.strokes
      .at(-1)
      .push([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    this.levels = rasterize(this.strokes, this.height, this.width);
    this.changed();
  }

  key(event) {
    const [x, y] = this.cursor ?? [Math.floor(this.width / 2), Math.floor(this.height / 2)];
    const move = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      Enter: [0, 0],
    }[event.key];
    if (!move) return;
    event.preventDefault();
    this.cursor = [
      Math.min(this.width - 1, Math.max(0, x + move[0])),
      Math.min(this.height - 1, Math.max(0, y + move[1])),
    ];
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
      this.timer = setInterval(() => {
        if (--this.shown <= 0) clearInterval(this.timer);
        this.drawLayers();
      }, 180);
    }
    this.changed();
  }
}
