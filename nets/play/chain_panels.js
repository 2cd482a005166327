// Scene 2, its panels: the net, the chain rule in numbers, the training and the map.

import { button, choice, column, el, exact, onWidth, panel, row, show, slider, table } from "./dom.js";
import { picture } from "./wires.js";
import { LECTURE, factors, slopes } from "./chain.js";
import { AXES, ChainPictures, SIDE } from "./chain_pictures.js";

const NAMES = ["w₁", "T₁", "w₂", "T₂"];
const PLACES = [
  // of the map's labels: both ends and the name of each axis
  "left: 0; bottom: -22px",
  "right: 0; bottom: -22px",
  "left: 50%; bottom: -22px",
  "left: -26px; bottom: 0",
  "left: -26px; top: 0",
  "left: -26px; top: 48%",
];

export class ChainPanels extends ChainPictures {
  build() {
    const run = this.runRow();
    this.node = el(
      "div",
      { class: "grid main" },
      column(this.netPanel(run), this.chainPanel()),
      column(this.rulesPanel()),
      column(this.mapPanel()),
    );
  }

  netPanel(run) {
    this.net = picture(194, "");
    this.sliders = NAMES.map((name, k) =>
      slider(name, { min: -10, max: 10 }, (value) => this.move({ [k]: value })),
    );
    this.tasks = choice("Task", { repeat: "Repeat a bit", hill: "A hill, without thresholds" }, (v) =>
      this.setTask(v),
    );
    this.samples = row();
    onWidth(this.net, (width) => {
      this.width = width;
      this.drawNet();
    });
    const weights = el("div", { class: "weights" }, ...this.sliders.map((s) => s.node));
    return panel("stack", "", this.tasks.node, run, this.samples, this.net, weights);
  }

  chainPanel() {
    this.chain = el("div", { class: "chain" });
    return panel("last", "The chain rule, in numbers", this.chain);
  }

  rulesPanel() {
    const rules = { fixed: "Fixed rate", adaptive: "Adaptive rate", every: "Try every direction" };
    this.rules = choice("Rule", rules, (rule) => this.setup({ rule }));
    const found = this.trainingPanel(this.rules.node, this.ratesSlider());
    this.lecture = el("tbody");
    found.append(table(["Rate", "In the lecture", "Here"], this.lecture));
    return found;
  }

  mapPanel() {
    this.canvas = el("canvas", { width: SIDE, height: SIDE });
    this.over = el("canvas", { role: "img", "aria-label": "Map of P over w₁ and w₂" });
    this.over.addEventListener("pointerdown", (e) => {
      this.over.setPointerCapture(e.pointerId);
      this.pick(e);
    });
    this.over.addEventListener("pointermove", (e) => {
      if (e.buttons) this.pick(e);
    });
    this.labels = PLACES.map((style) => el("span", { style }));
    const map = el("div", { class: "map" }, this.canvas, this.over, ...this.labels);
    onWidth(map, (width) => {
      this.mapWidth = width;
      this.drawMap();
    });
    return panel(
      "third",
      "P over the two weights",
      map,
      el(
        "p",
        { class: "small muted", style: "margin-top: 28px" },
        "Light is high. The line is the path of the weights. Tap or drag on the map to move them. Thresholds stay as" +
          " they are; when they learn, the map changes.",
      ),
    );
  }

  pick(event) {
    const { w1, w2 } = AXES[this.taskName],
      side = this.over.clientWidth;
    const at = ([low, high], part) =>
      Number((low + (high - low) * Math.min(1, Math.max(0, part))).toFixed(2));
    this.move({ 0: at(w1, event.offsetX / side), 2: at(w2, 1 - event.offsetY / side) });
  }

  draw() {
    this.tasks.set(this.taskName);
    this.rules.set(this.rule);
    this.drawTraining();
    this.rates.node.hidden = this.rule === "every";
    this.weights.forEach((w, k) => {
      this.sliders[k].set(w);
      this.sliders[k].node.hidden = !this.task.learns[k];
    });
    this.drawSamples();
    this.drawNet();
    this.drawChain();
    this.drawStatus();
    this.drawMap();
  }

  drawSamples() {
    const key = this.taskName;
    if (this.sampleKey !== key) {
      this.sampleKey = key;
      const inputs = this.task.samples.map(([x], k) => [k, show(x, key === "hill" ? 1 : 0)]);
      const take = (k) => {
        this.sample = Number(k);
        this.changed();
      };
      this.sampleChoice = choice("Sample", Object.fromEntries(inputs), take);
      this.samples.replaceChildren(el("span", { class: "small muted" }, "Input x"), this.sampleChoice.node);
    }
    this.sampleChoice.set(this.sample);
  }

  drawChain() {
    const [x, d] = this.task.samples[this.sample],
      f = factors(this.weights, [x, d]),
      w2 = this.weights[2];
    const one = (name, value, kind = "") =>
      el("span", { class: `factor ${kind}` }, el("span", {}, exact(value, 3)), el("small", {}, name));
    const shared = () => [one("d − z", f.error, "shared"), one("z(1 − z)", f.slopeZ, "shared")];
    const inner = () => [
      ...shared(),
      one("w₂", w2, "shared inner"),
      one("y(1 − y)", f.slopeY, "shared inner"),
    ];
    const rule = (name, parts, k) =>
      el(
        "div",
        { class: "rule" },
        el("b", {}, name),
        ...parts.map((part, i) => el("span", {}, i ? "×" : "=", part)),
        el("span", { class: "result" }, "= ", exact(f.gradient[k], 4)),
      );
    const thresholds = this.task.learns[1];
    this.chain.replaceChildren(
      rule("∂P/∂w₂", [...shared(), one("y", f.y)], 2),
      ...(thresholds ? [rule("∂P/∂T₂", [...shared(), one("of −T₂", -1)], 3)] : []),
      rule(
        "∂P/∂w₁",
        [...(thresholds ? inner() : [...shared(), one("w₂", w2), one("y(1 − y)", f.slopeY)]), one("x", x)],
        0,
      ),
      ...(thresholds ? [rule("∂P/∂T₁", [...inner(), one("of −T₁", -1)], 1)] : []),
      el(
        "p",
        { class: "small muted" },
        `For the input x = ${show(x, 1)}. Dashed: the factors that all products share. They are computed once.${thresholds ? " Dotted: shared by w₁ and T₁." : ""}`,
      ),
    );
  }

  drawStatus() {
    const { p } = slopes(this.weights, this.task.samples),
      { solvedAt } = this;
    const said = this.progress(
      this.rule === "every" ? "steps" : "iterations",
      this.task.close ? "At the top, P > −0.001," : "Right",
    );
    this.status.replaceChildren(...said, ` P = ${exact(p, 4)}, largest error ${show(this.error, 3)}.`);
    if (solvedAt !== null && this.rule === "fixed" && this.taskName === "repeat")
      this.here[this.rate] = solvedAt;
    this.lecture.replaceChildren(
      ...LECTURE.map(([rate, seen]) => {
        const go = button(String(rate), () => this.setup({ rate, rule: "fixed" }), {
          "aria-label": `Set the rate constant to ${rate}`,
        });
        return el(
          "tr",
          { class: this.rate === rate && this.rule === "fixed" ? "here" : "" },
          el("td", {}, go),
          el("td", {}, seen.join(", ")),
          el("td", {}, String(this.here[rate] ?? "–")),
        );
      }),
    );
    this.lecture.closest("table").hidden = this.taskName !== "repeat";
  }
}
