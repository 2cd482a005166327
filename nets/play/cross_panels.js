// Scene 3, its panels: the net, the truth table, the training, the weights, and the count of paths.

import { button, choice, column, el, onWidth, panel, row, show, slider, svg, table } from "./dom.js";
import { picture } from "./wires.js";
import { SOLVED } from "./chain.js";
import { INPUTS, apart, byBackprop, byPaths, crossPass, equalStart, paths } from "./cross.js";
import { CrossPictures, STAGES } from "./cross_pictures.js";

const LABELS = ["w₁₁", "w₁₂", "w₂₁", "w₂₂", "T₁", "T₂", "v₁₁", "v₁₂", "v₂₁", "v₂₂", "S₁", "S₂"];
const TABLES = {
  // z1 and z2 for the inputs 00, 01, 10, 11
  adder: ["Half adder", "00101001"],
  repeat: ["Repeat", "00011011"],
  swap: ["Swap", "00100111"],
  andor: ["And, or", "00010111"],
  xor: ["Xor twice", "00111100"],
};

export class CrossPanels extends CrossPictures {
  build() {
    const left = column(this.netPanel(), this.weightsPanel());
    const equal = button("Equal start", () => {
      this.restart(equalStart(this.weights));
      this.changed();
    });
    const middle = column(this.tablePanel(), this.trainingPanel(this.runRow(equal), this.ratesSlider()));
    this.node = el("div", { class: "grid main" }, left, middle, column(this.pathsPanel()));
  }

  netPanel() {
    this.net = picture(300, "");
    this.says = el("p", { "aria-live": "polite", style: "min-height: 3em" });
    const inputs = Object.fromEntries(INPUTS.map((x, k) => [k, x.join(" ")]));
    this.samples = choice("Input", inputs, (k) => {
      this.sample = Number(k);
      this.changed();
    });
    const go = (way) => {
      this.stage = (this.stage + way + STAGES.length) % STAGES.length;
      this.changed();
    };
    const steps = row(
      button("◀", () => go(-1), { "aria-label": "Column before" }),
      button("▶", () => go(1), { "aria-label": "Next column" }),
      button("Play", () => this.playThrough()),
    );
    onWidth(this.net, (width) => {
      this.netWidth = width;
      this.drawNet();
    });
    const mark = (style, name) => el("span", {}, el("i", { style }), name);
    const legend = el(
      "p",
      { class: "legend" },
      mark("border-color: var(--forward)", "values, forward"),
      mark("border-color: var(--backward)", "slopes, backward"),
      mark("border-color: var(--shared); border-top-style: dashed", "used again"),
    );
    const input = row(el("span", { class: "small muted" }, "Input"), this.samples.node);
    return panel("stack", "", input, steps, this.says, this.net, legend);
  }

  weightsPanel() {
    this.sliders = LABELS.map((label, k) =>
      slider(label, { min: -10, max: 10 }, (value) => {
        this.restart(Object.assign([...this.weights], { [k]: value }));
        this.changed();
      }),
    );
    return panel(
      "last",
      "Weights and thresholds",
      el("div", { class: "weights" }, ...this.sliders.map((s) => s.node)),
    );
  }

  tablePanel() {
    const names = Object.fromEntries(Object.entries(TABLES).map(([k, [name]]) => [k, name]));
    this.presets = choice("Truth table", names, (k) => this.setup({ table: TABLES[k][1] }));
    this.rows = el("tbody");
    const links = { with: "With cross connections", without: "Without" };
    this.linksChoice = choice("Cross connections", links, (v) => this.setup({ links: v === "with" }));
    const rows = table(["x₁ x₂", "want z₁", "want z₂", "z₁", "z₂", ""], this.rows);
    return panel("stack second", "The truth table to learn", this.presets.node, rows, this.linksChoice.node);
  }

  pathsPanel() {
    const set = (name) => (value) => {
      this[name] = value;
      this.changed();
    };
    this.widths = slider(
      "Neurons a layer",
      { min: 2, max: 10, step: 1, digits: 0, long: true },
      set("width"),
    );
    this.depths = slider("Layers", { min: 1, max: 12, step: 1, digits: 0, long: true }, set("depth"));
    this.pathRows = el("div", { class: "stack" });
    return panel(
      "stack third",
      "Why results are used again",
      this.widths.node,
      this.depths.node,
      this.pathRows,
      el(
        "p",
        { class: "small muted" },
        "The bars are logarithmic. Every path from a weight to the outputs adds to its" +
          " derivative. Path by path, the work grows exponentially with the layers. Backward uses the results of one" +
          " layer for the layer before it, so its work grows only linearly.",
      ),
    );
  }

  draw() {
    this.samples.set(this.sample);
    this.linksChoice.set(this.links ? "with" : "without");
    this.presets.set(Object.keys(TABLES).find((k) => TABLES[k][1] === this.table) ?? "");
    this.weights.forEach((w, k) => {
      this.sliders[k].set(w);
      this.sliders[k].input.disabled = !this.links && [1, 2, 7, 8].includes(k);
    });
    this.drawTable();
    this.drawNet();
    this.drawStatus();
    this.drawTraining();
    this.drawPaths();
  }

  drawTable() {
    const { values } = crossPass(this.weights, this.wanted, this.links),
      z = values[4];
    if (!this.cells) {
      const flip = (at) =>
        button("", () =>
          this.setup({ table: [...this.table].map((v, k) => (k === at ? 1 - v : v)).join("") }),
        );
      this.cells = INPUTS.map((x, k) => ({
        flips: [flip(2 * k), flip(2 * k + 1)],
        out: [el("td"), el("td")],
        mark: el("td"),
        row: el("tr"),
      }));
      this.cells.forEach(({ flips, out, mark, row }, k) =>
        row.append(el("td", {}, INPUTS[k].join(" ")), ...flips.map((f) => el("td", {}, f)), ...out, mark),
      );
      this.rows.replaceChildren(...this.cells.map((c) => c.row));
    }
    this.cells.forEach(({ flips, out, mark, row }, k) => {
      row.className = k === this.sample ? "here" : "";
      const errors = [0, 1].map((o) => {
        flips[o].textContent = this.table[2 * k + o];
        flips[o].setAttribute(
          "aria-label",
          `Wanted z${o + 1} for inputs ${INPUTS[k].join(" ")}: ${this.table[2 * k + o]}. Flip it`,
        );
        out[o].textContent = show(z[2 * k + o], 2);
        return Math.abs(z[2 * k + o] - this.table[2 * k + o]);
      });
      const right = Math.max(...errors) < SOLVED;
      mark.textContent = right ? "✓" : "✗";
      mark.setAttribute("aria-label", right ? "right" : "wrong");
      mark.className = right ? "good" : "muted";
    });
  }

  drawStatus() {
    const distance = apart(this.weights),
      same = distance === 0 && this.links;
    const two = same
      ? "The two neurons are exactly equal: they get the same gradient, so they never part, and both outputs see one neuron."
      : `The two neurons differ by up to ${show(distance, 2)}.`;
    this.status.replaceChildren(...this.progress("passes"), ` Largest error ${show(this.error, 3)}. ${two}`);
  }

  drawPaths() {
    this.widths.set(this.width);
    this.depths.set(this.depth);
    const [w, k] = [this.width, this.depth],
      counts = [
        ["paths", paths(w, k), "shared"],
        ["multiplications, path by path", byPaths(w, k), "backward"],
        ["multiplications of backward", byBackprop(w, k), "forward"],
      ];
    this.pathRows.replaceChildren(
      ...counts.map(([name, count, kind]) =>
        el(
          "div",
          {},
          el(
            "div",
            { class: "row spread small" },
            el("span", {}, name),
            el("span", { class: "number" }, count.toLocaleString("en")),
          ),
          svg(
            "svg",
            { height: 14, "aria-hidden": "true" },
            svg("rect", {
              width: `${Math.min(100, (100 * Math.log10(count + 1)) / 14)}%`,
              height: 14,
              rx: 4,
              style: `fill: var(--${kind})`,
            }),
          ),
        ),
      ),
    );
  }
}
