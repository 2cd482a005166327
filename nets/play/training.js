// What the two scenes that train have in common: the loop, its controls, and the curve of the largest error.
//
// A scene defines step, restart and fresh, and has passes, solvedAt, error and errors, a History.

import { button, choice, el, number, onWidth, panel, row, slider } from "./dom.js";
import { curve, picture } from "./wires.js";

export const CAP = 20000; // passes after which a start counts as failed

export class TrainingScene {
  running = false;
  speed = 1; // passes a frame

  stepOnce() {
    this.running = false;
    this.step();
    this.changed();
  }

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

  // Other settings: again from the same start
  setup(change) {
    Object.assign(this, change);
    this.restart();
    this.changed();
  }

  runRow(...more) {
    this.runButton = button("Run", () => this.toggle(), { class: "main" });
    const step = button("Step", () => this.stepOnce()),
      start = button("New start", () => this.fresh());
    return row(this.runButton, step, start, ...more);
  }

  ratesSlider() {
    this.rates = slider("Rate constant", { min: 0.05, max: 500, log: true, long: true }, (rate) =>
      this.setup({ rate }),
    );
    return this.rates.node;
  }

  trainingPanel(...more) {
    const put = (speed) => {
      this.speed = Number(speed);
      this.changed();
    };
    this.speeds = choice("Passes per frame", { 1: "1", 10: "10", 100: "100" }, put);
    this.status = el("p", { "aria-live": "polite" });
    this.chart = picture("100%", "");
    const chart = el("div", { class: "curve" }, this.chart);
    onWidth(chart, (width) => {
      this.chartWidth = width;
      this.drawCurve();
    });
    const speeds = row(el("span", { class: "small muted" }, "Passes per frame"), this.speeds.node);
    return panel("stack second", "", ...more, speeds, this.status, chart);
  }

  drawTraining() {
    this.rates.set(this.rate);
    this.speeds.set(this.speed);
    this.runButton.textContent = this.running ? "Pause" : "Run";
    this.drawCurve();
  }

  drawCurve() {
    if (!this.chartWidth) return;
    const {
      errors: { items, stride },
      passes,
      error,
      solvedAt,
    } = this;
    curve(this.chart, this.chartWidth, 150, { errors: items, stride, passes, now: error, solved: solvedAt });
  }

  // "63 passes. Right after 63."
  progress(unit, right = "Right") {
    const end = this.passes >= CAP ? `Not right within ${CAP}.` : "Not right yet.",
      solved = this.solvedAt !== null;
    const said = el(
      "span",
      { class: solved ? "good" : "" },
      solved ? `${right} after ${this.solvedAt}.` : end,
    );
    return [el("span", { class: "number big" }, String(this.passes)), ` ${unit}. `, said];
  }

  readTraining(q) {
    this.rate = number(q.rate, 0.05, 500, this.rate);
    this.speed = [1, 10, 100].find((s) => String(s) === q.speed) ?? this.speed;
    this.running = false;
  }
}
