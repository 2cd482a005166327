// Scene 1, its pictures: the neuron, and the line between the inputs for which it fires and the others.

import { show, svg } from "./dom.js";
import { arrow, box, circle, text } from "./wires.js";
import { POINTS, fires, sum } from "./neuron.js";

export class NeuronPictures {
  drawNet() {
    const width = this.width;
    if (!width) return;
    const out = fires(this.weights, this.threshold, this.inputs),
      total = sum(this.weights, this.inputs);
    const rows = this.asWeight ? [["−1", -1, this.threshold, "w₀ = T"]] : [];
    rows.push(...this.inputs.map((x, i) => [`x${"₁₂"[i]}`, x, this.weights[i], `w${"₁₂"[i]}`]));
    const at = { x: 26, w: width * 0.34, sum: width * 0.6, box: width * 0.8, z: width - 18 },
      middle = 125;
    const parts = [];
    rows.forEach(([name, x, w, label], i) => {
      const y = middle + (i - (rows.length - 1) / 2) * 84,
        lit = x ? "lit" : "";
      parts.push(
        arrow(at.x + 22, y, at.w - 34, y, lit && "lit-line"),
        arrow(at.w + 36, y, at.sum - 24, middle, lit && "lit-line"),
      );
      parts.push(
        circle(at.x, y, 22, lit),
        text(at.x, y + 5, x === -1 ? "−1" : x, { class: "strong" }),
        text(at.x, y - 28, name === "−1" ? "x₀" : name, { class: "faint" }),
      );
      parts.push(
        box(at.w, y, 72, 40),
        text(at.w, y - 2, label),
        text(at.w, y + 14, show(w, 2), { class: "value" }),
      );
      parts.push(
        text(
          (at.w + 36 + at.sum - 22) / 2 + (y === middle ? 0 : 8),
          (y + middle) / 2 + (y > middle ? 26 : y < middle ? -14 : -8),
          show(w * x, 2),
          { class: "value halo" },
        ),
      );
    });
    const shown = this.asWeight ? total - this.threshold : total,
      firing = out ? "lit" : "";
    parts.push(
      arrow(at.sum + 22, middle, at.box - 30, middle),
      arrow(at.box + 30, middle, at.z - 16, middle, out ? "lit-line" : ""),
    );
    parts.push(
      circle(at.sum, middle, 22),
      text(at.sum, middle + 6, "Σ", { class: "strong" }),
      text(at.sum, middle + 42, show(shown, 2), { class: "value halo" }),
    );
    parts.push(
      box(at.box, middle, 60, 48, firing),
      text(at.box, middle - 4, this.asWeight ? "> 0 ?" : "> T ?"),
      text(at.box, middle + 14, this.asWeight ? "" : show(this.threshold, 2), { class: "value" }),
    );
    parts.push(
      circle(at.z, middle, 16, firing),
      text(at.z, middle + 5, out, { class: "strong" }),
      text(at.z, middle - 26, "z", { class: "faint" }),
    );
    this.net.replaceChildren(...parts);
    this.net.setAttribute(
      "aria-label",
      `A neuron with inputs ${this.inputs.join(" and ")}: the sum is ${show(shown, 2)}, the output is ${out}`,
    );
  }

  drawPlane() {
    const width = this.planeWidth;
    if (!width) return;
    const size = Math.min(width - 40, 300),
      left = 34,
      [w1, w2] = this.weights,
      t = this.threshold;
    const x = (v) => left + (size * (v + 0.5)) / 2,
      y = (v) => size - (size * (v + 0.5)) / 2;
    const inside = clip(
      [
        [-0.5, -0.5],
        [1.5, -0.5],
        [1.5, 1.5],
        [-0.5, 1.5],
      ],
      (p) => w1 * p[0] + w2 * p[1] - t,
    );
    const dots = POINTS.flatMap((p) => {
      const on = fires(this.weights, t, p),
        here = p[0] === this.inputs[0] && p[1] === this.inputs[1];
      const flip = () => {
        this.inputs = [...p];
        this.changed();
      };
      return [
        svg("circle", {
          cx: x(p[0]),
          cy: y(p[1]),
          r: here ? 13 : 9,
          onclick: flip,
          style: `cursor: pointer; stroke: var(--forward); stroke-width: ${here ? 4 : 2}; fill: ${on ? "var(--forward)" : "var(--panel)"}`,
        }),
        text(x(p[0]), y(p[1]) - 18, `(${p.join(", ")}) ${on ? "fires" : "silent"}`, { class: "halo" }),
      ];
    });
    this.plane.setAttribute("height", size + 24);
    this.plane.replaceChildren(
      svg("rect", { x: left, y: 0, width: size, height: size, style: "fill: none; stroke: var(--line)" }),
      svg("polygon", {
        points: inside.map((p) => `${x(p[0])},${y(p[1])}`).join(" "),
        style: "fill: var(--forward-pale); stroke: var(--forward)",
      }),
      ...dots,
      text(left + size / 2, size + 18, "x₁ →", { class: "faint" }),
      text(16, size / 2, "x₂ ↑", { class: "faint" }),
    );
    this.plane.setAttribute(
      "aria-label",
      `The neuron fires for ${
        POINTS.filter((p) => fires(this.weights, t, p))
          .map((p) => `(${p})`)
          .join(", ") || "no input"
      }`,
    );
  }
}

// The part of a polygon where f > 0
function clip(points, f) {
  return points.flatMap((p, i) => {
    const q = points[(i + 1) % points.length],
      a = f(p),
      b = f(q);
    const cut = a > 0 !== b > 0 ? [p.map((v, k) => v + ((q[k] - v) * a) / (a - b))] : [];
    return a > 0 ? [p, ...cut] : cut;
  });
}
