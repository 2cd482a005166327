// Scene 2, its pictures: the net with its values and slopes, and the map of P with the path.

import { color, context, show } from "./dom.js";
import { arrow, box, circle, text } from "./wires.js";
import { fill, lines } from "./contours.js";
import { factors, grid } from "./chain.js";
import { TrainingScene } from "./training.js";

export const SIDE = 72; // places of the map in each direction
export const AXES = { repeat: { w1: [-10, 10], w2: [-10, 10] }, hill: { w1: [-2, 6], w2: [-7, 3] } };

export class ChainPictures extends TrainingScene {
  drawNet() {
    const width = this.width,
      [x, d] = this.task.samples[this.sample];
    if (!width) return;
    const f = factors(this.weights, [x, d]),
      thresholds = this.task.learns[1],
      [w1, t1, w2, t2] = this.weights;
    const at = (k) => 24 + ((width - 56) * k) / 5,
      y = 88,
      parts = [];
    const names = ["x", "p₁", "y", "p₂", "z"],
      values = [x, f.p1, f.y, f.p2, f.z],
      back = [null, f.dp1, f.dy, f.dp2, f.error];
    for (let k = 0; k < 5; k++) {
      const from = at(k),
        to = at(k + 1);
      parts.push(arrow(from + 16, y, to - (k === 4 ? 22 : 16), y));
      if (k === 0 || k === 2)
        parts.push(
          text((from + to) / 2, y + 32, `w${k ? "₂" : "₁"} ${show(k ? w2 : w1, 1)}`),
          ...(thresholds
            ? [text((from + to) / 2, y + 48, `T${k ? "₂" : "₁"} ${show(k ? t2 : t1, 1)}`, { class: "faint" })]
            : []),
        );
      if (k === 1 || k === 3) parts.push(text((from + to) / 2, y - 8, "σ", { class: "strong halo" }));
    }
    names.forEach((name, k) => {
      parts.push(
        circle(at(k), y, 15),
        text(at(k), y + 5, name),
        text(at(k), y - 30, show(values[k], 2), { class: "value" }),
      );
      if (back[k] !== null) parts.push(text(at(k), y + 70, show(back[k], 3), { class: "slope" }));
    });
    parts.push(
      box(at(5), y, 44, 36),
      text(at(5), y - 2, "P"),
      text(at(5), y + 13, `d ${show(d, d % 1 ? 1 : 0)}`),
      text(at(5), y - 30, show(-0.5 * f.error ** 2, 2), { class: "value" }),
    );
    parts.push(
      text(12, 20, "forward: the values →", { class: "value", "text-anchor": "start" }),
      text(width - 8, 186, "← backward: the slopes ∂P/∂…", { class: "slope", "text-anchor": "end" }),
    );
    this.net.replaceChildren(...parts);
    this.net.setAttribute(
      "aria-label",
      `x = ${show(x, 1)} gives y = ${show(f.y)}, z = ${show(f.z)}; wanted is d = ${show(d)}`,
    );
  }

  drawMap() {
    const side = this.mapWidth,
      axes = AXES[this.taskName],
      [, t1, , t2] = this.weights;
    if (!side) return;
    const key = [this.taskName, t1.toFixed(3), t2.toFixed(3)].join();
    if (key !== this.gridKey) {
      const spread = ([low, high]) =>
        Array.from({ length: SIDE }, (_, k) => low + ((high - low) * k) / (SIDE - 1));
      this.p = grid(this.weights, this.task.samples, spread(axes.w1), spread(axes.w2));
      fill(this.canvas, this.p);
      this.gridKey = key;
      [axes.w1[0], axes.w1[1], "w₁ →", axes.w2[0], axes.w2[1], "w₂"].forEach((v, k) => {
        this.labels[k].textContent = typeof v === "number" ? show(v, 0) : v;
      });
    }
    const c = context(this.over, side, side),
      scale = side / (SIDE - 1);
    c.beginPath();
    lines(this.p, (x1, y1, x2, y2) => {
      c.moveTo(x1 * scale, side - y1 * scale);
      c.lineTo(x2 * scale, side - y2 * scale);
    });
    c.strokeStyle = "rgba(255,255,255,.35)";
    c.stroke();
    const at = (v, [low, high]) => (side * (v - low)) / (high - low);
    const point = (w) => [at(w[0], axes.w1), side - at(w[2], axes.w2)];
    for (const [style, width] of [
      ["#000", 5],
      ["#fff", 2.5],
    ]) {
      c.beginPath();
      [...this.path.items, this.weights].forEach((w, k) =>
        k ? c.lineTo(...point(w)) : c.moveTo(...point(w)),
      );
      [c.strokeStyle, c.lineWidth, c.lineJoin] = [style, width, "round"];
      c.stroke();
    }
    this.dot(c, point(this.begin), "#fff", 4);
    if (this.task.top) this.dot(c, point(this.task.top), color("good"), 6);
    this.dot(c, point(this.weights), "#ff8c3a", 7);
    this.over.setAttribute(
      "aria-label",
      `Map of P: w₁ = ${show(this.weights[0], 2)}, w₂ = ${show(this.weights[2], 2)}`,
    );
  }

  dot(c, [x, y], fillStyle, radius) {
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    [c.fillStyle, c.strokeStyle, c.lineWidth] = [fillStyle, "#000", 2];
    c.fill();
    c.stroke();
  }
}
