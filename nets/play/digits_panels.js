// Scene 4, its panels: the pad, the five bars, training, a net of one's own, and every layer.

import { button, choice, color, column, el, panel, row, show, slider } from "./dom.js";
import { fromText, toBytes } from "./drawing.js";
import { paintMosaic, paintPixels } from "./mosaic.js";

export const shipped = () => JSON.parse(document.getElementById("net").textContent);
export const examples = JSON.parse(document.getElementById("examples").textContent);

const pictureCanvas = () => el("canvas", { role: "img" });

function layerCard(name, values, slopes) {
  const size = el("span"),
    pair = el("div", { class: "pair" }, el("div", {}, values), el("div", {}, slopes));
  return { card: el("div", { class: "layer" }, el("h4", {}, name, size), pair), values, slopes, size };
}

export class DigitsPanels {
  build() {
    const guesses = column(this.barsPanel()),
      training = column(this.trainPanel(), this.ownPanel());
    this.node = el("div", { class: "grid three" }, this.padPanel(), guesses, training, this.layersPanel());
    this.listNet();
  }

  padPanel() {
    const label = "Drawing pad. Arrow keys move, Enter sets a pixel.";
    this.pad = el("canvas", { class: "pad", tabindex: 0, role: "img", "aria-label": label });
    this.pad.addEventListener("pointerdown", (e) => {
      this.pad.setPointerCapture(e.pointerId);
      this.pen(e);
    });
    this.pad.addEventListener("pointermove", (e) => {
      if (e.buttons && this.strokes.length) this.stroke(e);
    });
    this.pad.addEventListener("keydown", (e) => this.key(e));
    this.samples = el("div", { class: "digits" });
    this.take = el("p", { class: "small muted" }, "Or take one of the test images:");
    return panel(
      "stack",
      "Draw here",
      this.pad,
      row(button("Clear", () => this.clear())),
      this.take,
      this.samples,
    );
  }

  barsPanel() {
    this.bars = el("div", { class: "bars" });
    this.says = el("p", { class: "small muted", "aria-live": "polite" });
    return panel("stack", "Five best guesses", this.bars, this.says);
  }

  trainPanel() {
    this.targets = el("div");
    const options = { min: 0.001, max: 0.1, log: true, long: true };
    this.rates = slider("Learning rate", options, (rate) => {
      this.rate = rate;
      this.changed();
    });
    this.trainOne = button("Train 1 step", () => this.train(1));
    this.trainTen = button("Train 10 steps", () => this.train(10));
    this.reset = button("Trained weights", () => {
      this.use(this.about);
      this.changed();
    });
    this.trained = el("p", { class: "small muted", "aria-live": "polite" });
    const says = el(
      "p",
      { class: "small muted" },
      "What is it? Then train a few steps and see the bars move.",
    );
    const buttons = row(this.trainOne, this.trainTen, this.reset);
    return panel("stack", "Train on the drawing", says, this.targets, this.rates.node, buttons, this.trained);
  }

  ownPanel() {
    const open = (event) => this.open(event.target.files[0]);
    const file = el("input", { type: "file", accept: ".json,application/json", onchange: open });
    this.message = el("p", { class: "small", role: "status" });
    const says = el(
      "p",
      { class: "small" },
      "Write it with ",
      el("code", {}, "nets export RUN"),
      " and load the file. It stays on this machine.",
    );
    const back = button("The digits net", () => this.choose(shipped(), null));
    return panel(
      "stack last",
      "A net of your own",
      says,
      row(el("label", { class: "file" }, "Load a net", file), back),
      this.message,
    );
  }

  layersPanel() {
    this.input = el("canvas", { role: "img", "aria-label": "The pixels that the net sees" });
    this.inputSlope = el("canvas", { role: "img", "aria-label": "The slopes of the pixels" });
    this.layers = el("div", { class: "layers" });
    const says =
      "Left: what forward computes. Right: the slope of the chosen guess, from backward. Orange raises, blue" +
      " lowers, gray is 0; in one layer the strongest color is the largest number.";
    return panel("wide third", "Layer by layer", el("p", { class: "small muted" }, says), this.layers);
  }

  listNet() {
    // what depends on the net: its layers, classes and examples
    const { net, classes } = this.loaded;
    this.cards = net.layers.map((layer, i) =>
      layerCard(`${i + 1}. ${layer.type}`, pictureCanvas(), pictureCanvas()),
    );
    const pixels = layerCard("The pixels", this.input, this.inputSlope);
    pixels.size.textContent = `${this.height} × ${this.width}`;
    this.layers.replaceChildren(pixels.card, ...this.cards.map((c) => c.card));
    this.targetChoice = choice(
      "What it is",
      Object.fromEntries(classes.slice(0, 20).map((name, k) => [k, name])),
      (k) => {
        this.target = Number(k);
        this.changed();
      },
    );
    this.targets.replaceChildren(this.targetChoice.node);
    this.samples.hidden = this.take.hidden = this.size !== 64;
    this.listSamples();
  }

  listSamples() {
    this.thumbs = [];
    this.samples.replaceChildren(
      ...examples.map((text, k) => {
        const levels = fromText(text, this.size);
        if (!levels) return "";
        const canvas = el("canvas", { "aria-hidden": "true" });
        this.thumbs.push(() => paintPixels(canvas, toBytes(levels), 8, 8));
        const take = () => {
          this.strokes = [];
          this.levels = levels;
          this.changed();
        };
        return el("button", { type: "button", "aria-label": `Test image of a ${k}`, onclick: take }, canvas);
      }),
    );
  }

  draw() {
    this.found = this.compute();
    this.rates.set(this.rate);
    this.targetChoice.set(this.target);
    this.trainOne.disabled = this.trainTen.disabled = this.target === null;
    this.reset.disabled = this.steps === 0;
    this.trained.textContent =
      this.target === null
        ? "Choose what it is first."
        : `${this.steps} steps of SGD on this one image. BatchNorm keeps its averages, Dropout is off.`;
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
    const { p, z } = this.found,
      { classes } = this.loaded;
    const best = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, 5);
    if (!this.barNodes || this.barNodes.length !== best.length) {
      this.barNodes = best.map((_, i) => {
        const name = el("span", { class: "name" }),
          fill = el("i"),
          share = el("span", { class: "share" });
        const node = el(
          "button",
          { type: "button", onclick: () => this.choose5(this.best[i]) },
          name,
          el("span", { class: "bar" }, fill),
          share,
        );
        return { node, name, fill, share };
      });
      this.bars.replaceChildren(...this.barNodes.map((b) => b.node));
    }
    this.best = best;
    best.forEach((k, i) => {
      const { node, name, fill, share } = this.barNodes[i],
        percent = `${(100 * p[k]).toFixed(1)}%`;
      [name.textContent, share.textContent, fill.style.width] = [classes[k], percent, `${100 * p[k]}%`];
      node.setAttribute("aria-pressed", k === this.chosen ? "true" : "false");
      node.setAttribute("aria-label", `${classes[k]}: ${percent}`);
    });
    this.says.textContent =
      this.chosen === null
        ? "Press a bar to see its gradient."
        : `Below: the gradient of the logit of “${classes[this.chosen]}”, ${show(z.data[this.chosen], 2)}. Press the bar again to hide it.`;
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
