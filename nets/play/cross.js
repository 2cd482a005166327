// Two inputs, two neurons, two outputs, with cross connections: the net of nets/lecture/cross.py.
//
// Weights are a list of 12: [w11, w12, w21, w22, T1, T2] of the first layer, then the same of the second;
// w12 leads from node 2 to node 1. Without cross connections w12 and w21 stay 0.

import { fma } from "./exp.js";
import { Linear, Sequential, Sigmoid, performance, tensor } from "./layers.js";
import { SOLVED } from "./chain.js";

export const INPUTS = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
];
const CROSSING = [1, 2, 7, 8];

export const crossNet = (w) =>
  new Sequential(
    [0, 6].flatMap((from) => [
      new Linear({
        weight: tensor([2, 2], w.slice(from, from + 4)),
        bias: tensor(
          [2],
          w.slice(from + 4, from + 6).map((t) => -t),
        ),
      }),
      new Sigmoid(),
    ]),
  );

export const withoutCross = (w) => w.map((v, k) => (CROSSING.includes(k) ? 0 : v));

// For input number k, or all four: the values of every column, its slopes, P and the gradient of the weights.
// table: the wanted outputs, [[z1, z2] for each of the four inputs]
export function crossPass(w, table, links = true, k = null) {
  const rows = k === null ? [0, 1, 2, 3] : [k];
  const x = tensor(
    [rows.length, 2],
    rows.flatMap((r) => INPUTS[r]),
  );
  const d = tensor(
    [rows.length, 2],
    rows.flatMap((r) => table[r]),
  );
  const own = crossNet(links ? w : withoutCross(w)),
    values = [x.data],
    back = [];
  const [z, saved] = own.forward(x, (i, y) => {
    values.push(y.data);
  });
  const [p, dz] = performance(z, d);
  const [dx, grads] = own.backward(saved, dz, (i, dy) => {
    back[i] = dy.data;
  });
  let gradient = [grads[0], grads[2]].flatMap((g) => [...g.weight.data, ...[...g.bias.data].map((v) => -v)]);
  if (!links) gradient = withoutCross(gradient);
  return { values, back, dx: dx.data, p, dz: dz.data, gradient, error: Math.max(...dz.data.map(Math.abs)) };
}

export const crossStep = (w, table, rate, links) => {
  const { gradient } = crossPass(w, table, links);
  return w.map((v, k) => fma(rate, gradient[k], v));
};

// Passes until right, 0 if not within cap; one step uses all four inputs
export function crossPasses(w, table, rate, cap, links = true) {
  let at = links ? w : withoutCross(w);
  for (let passes = 1; passes <= cap; passes++) {
    at = crossStep(at, table, rate, links);
    if (crossPass(at, table, links).error < SOLVED) return passes;
  }
  return 0;
}

// Every layer gets the same weight everywhere: the two neurons are one, and stay one
export const equalStart = (w) =>
  [0, 6].flatMap((from) => [...Array(4).fill(w[from]), w[from + 4], w[from + 4]]);

// How far the two hidden neurons are apart: their incoming and outgoing weights
export const apart = (w) =>
  Math.max(
    ...[
      [0, 2],
      [1, 3],
      [4, 5],
      [6, 7],
      [8, 9],
    ].map(([a, b]) => Math.abs(w[a] - w[b])),
  );

// Paths from the first layer's nodes to the outputs, and the multiplications of a backward for one sample
export const paths = (width, depth) => width ** depth;
export const byPaths = (width, depth) => width ** depth * (3 * depth - 1 + width);
export const byBackprop = (width, depth) => 2 * depth * width ** 2;
