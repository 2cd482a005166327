// Scene 3, its picture: the net with its values, its slopes, and what is used again at each stage.

import { show } from "./dom.js";
import { arrow, box, circle, text } from "./wires.js";
import { INPUTS, crossPass } from "./cross.js";
import { TrainingScene } from "./training.js";

// What each stage says, and which results it uses again
export const STAGES = [
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

export class CrossPictures extends TrainingScene {
  drawNet() {
    const width = this.netWidth,
      s = this.stage;
    if (!width) return;
    const { values, back, p, gradient } = crossPass(this.weights, this.wanted, this.links, this.sample);
    const columns = [28, 28 + (width - 82) * 0.4, 28 + (width - 82) * 0.8, width - 30],
      rows = [92, 222],
      r = 22,
      parts = [];
    const seen = (from) => s === 0 || s >= from;
    const edge = (layer, o, i) => {
      const k = 6 * layer + 2 * o + i,
        cut = !this.links && o !== i;
      const [x1, y1, x2, y2] = [columns[layer] + r, rows[i], columns[layer + 1] - r - 2, rows[o]];
      const forward = s === layer + 2,
        back = s === (layer ? 7 : 10),
        through = layer === 1 && s === 8;
      const kind = cut ? "cut" : forward ? "lit-line" : back ? "back-line" : through ? "reused-line" : "";
      if (!cut) parts.push(arrow(x1, y1, x2, y2, kind));
      const part = o === i ? 0.5 : 0.27,
        tx = x1 + part * (x2 - x1),
        ty = y1 + part * (y2 - y1) + (o === i ? (o ? 18 : -8) : 4);
      const string = back ? show(gradient[k], 3) : show(this.weights[k], 2);
      if (!cut) labels.push(text(tx, ty, string, { class: `halo ${back ? "slope" : "faint"}` }));
    };
    const labels = [];
    for (const layer of [0, 1]) for (const o of [0, 1]) for (const i of [0, 1]) edge(layer, o, i);
    const kinds = [
      // of the nodes of each column
      s === 1 ? "lit" : s === 10 ? "reused" : "",
      s === 2 ? "lit" : s === 7 ? "reused" : s === 8 || s === 9 ? "back" : s === 10 ? "reused" : "",
      s === 3 ? "lit" : s === 5 || s === 6 ? "back" : s === 7 || s === 8 ? "reused" : "",
    ];
    const slopes = [
      null,
      s === 8 ? back[1] : s === 0 || s > 8 ? back[0] : null,
      s === 5 ? back[3] : s === 0 || s > 5 ? back[2] : null,
    ];
    const named = [null, s === 8 ? "∂P/∂y" : "ε", s === 5 ? "d − z" : "δ"];
    for (const column of [0, 1, 2])
      for (const i of [0, 1]) {
        const x = columns[column],
          y = rows[i],
          value = values[2 * column][i],
          side = i ? 1 : -1;
        parts.push(circle(x, y, r, kinds[column]));
        if (seen(column + 1)) parts.push(text(x, y + 5, show(value, column ? 2 : 0), { class: "value" }));
        parts.push(text(x, y + (i ? 40 : -30), `${"xyz"[column]}${"₁₂"[i]}`, { class: "faint" }));
        if (slopes[column])
          parts.push(
            text(x, y + (side > 0 ? 58 : -48), `${named[column]} ${show(slopes[column][i], 3)}`, {
              class: "slope",
            }),
          );
      }
    const d = this.wanted[this.sample];
    for (const i of [0, 1]) {
      parts.push(
        arrow(
          columns[2] + r,
          rows[i],
          columns[3] - 4,
          i ? 190 : 124,
          s === 4 ? "lit-line" : s === 5 ? "back-line" : "",
        ),
      );
      parts.push(text(columns[3], i ? 222 : 92, `d ${d[i]}`, { class: "faint" }));
    }
    parts.push(
      box(columns[3], 157, 54, 48, s === 4 ? "lit" : s === 5 ? "back" : ""),
      text(columns[3], 153, "P"),
    );
    if (seen(4)) parts.push(text(columns[3], 170, show(p, 2), { class: "value" }));
    this.net.replaceChildren(...parts, ...labels);
    this.says.textContent = STAGES[s];
    this.net.setAttribute(
      "aria-label",
      `The net for inputs ${INPUTS[this.sample].join(" and ")}: outputs ${[...values[4]].map((v) => show(v, 2)).join(" and ")}, P = ${show(p, 3)}`,
    );
  }
}
