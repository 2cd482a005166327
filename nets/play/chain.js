// The world's smallest net: x → ×w1 −T1 → σ → y → ×w2 −T2 → σ → z, as in nets/lecture.
//
// Weights are [w1, T1, w2, T2]. A threshold T is −bias. Samples are pairs [x, d]: input and wanted output.

import { fma } from "./exp.js";
import { sigmoid } from "./layers.js";
import { Adaptive } from "./adaptive.js";

export const SOLVED = 0.1; // a net is right when its largest error is smaller, as in the lecture
export const LECTURE = [
  [0.5, [694, 823]],
  [5, [57, 67]],
  [50, [124, 117]],
]; // rate, iterations in the lecture
const START = [-1, 0, 1, 0],
  TOP = [3, 0, -4, 0]; // of the hill in nets/lecture/hill.py

export function forward([w1, t1, w2, t2], x) {
  const p1 = w1 * x - t1,
    y = sigmoid(p1),
    p2 = w2 * y - t2,
    z = sigmoid(p2);
  return { p1, y, p2, z };
}

// The chain rule in numbers: every factor, and the derivatives as their products
export function factors(weights, [x, d]) {
  const { p1, y, p2, z } = forward(weights, x),
    w2 = weights[2];
  const error = d - z,
    slopeZ = z * (1 - z),
    slopeY = y * (1 - y);
  const dp2 = error * slopeZ; // shared by all four: computed once
  const dp1 = dp2 * w2 * slopeY; // shared by w1 and T1
  return {
    p1,
    y,
    p2,
    z,
    error,
    slopeZ,
    slopeY,
    dp2,
    dy: dp2 * w2,
    dp1,
    gradient: [dp1 * x, -dp1, dp2 * y, -dp2],
  };
}

// P of all samples, and its gradient
export function slopes(weights, samples) {
  let p = 0;
  const gradient = [0, 0, 0, 0];
  for (const sample of samples) {
    const f = factors(weights, sample);
    p += f.error * f.error;
    f.gradient.forEach((g, k) => {
      gradient[k] += g;
    });
  }
  return { p: -0.5 * p, gradient };
}

export const chainPerformance = (weights, samples) =>
  -0.5 * samples.reduce((sum, [x, d]) => sum + (forward(weights, x).z - d) ** 2, 0);

export const largestError = (weights, samples) =>
  Math.max(...samples.map(([x, d]) => Math.abs(forward(weights, x).z - d)));

// The tasks: their samples, which weights learn, whether a step looks at one sample, and the P that is close enough
export const TASKS = {
  repeat: {
    samples: [
      [0, 0],
      [1, 1],
    ],
    learns: [1, 1, 1, 1],
    one: true,
  },
  hill: {
    samples: Array.from({ length: 9 }, (_, k) => [k / 2 - 2, forward(TOP, k / 2 - 2).z]),
    learns: [1, 0, 1, 0],
    one: false,
    start: START,
    top: TOP,
    close: -1e-3,
  },
};

// Trains one net; a step is a pass over all samples
export class Trainer {
  constructor(weights, task, rule, rate, length = 0.1) {
    Object.assign(this, { weights: [...weights], task, rule, rate, length, passes: 0, solvedAt: null });
    this.learned = [0, 1, 2, 3].filter((k) => task.learns[k]);
    this.adaptive = rule === "adaptive" ? new Adaptive(this.pick(weights), rate) : null;
    this.rightAtStart = this.right();
  }

  pick(all) {
    return this.learned.map((k) => all[k]);
  }
  put(own) {
    this.learned.forEach((k, i) => {
      this.weights[k] = own[i];
    });
  }
  right() {
    const { samples, close } = this.task;
    return close
      ? chainPerformance(this.weights, samples) > close
      : largestError(this.weights, samples) < SOLVED;
  }

  step() {
    ({ fixed: this.follow, adaptive: this.adapt, every: this.tryAll })[this.rule].call(this);
    this.passes++;
    const right = this.right() || (this.rule === "adaptive" && this.rightAtStart); // it looks before it steps
    if (right && this.solvedAt === null) this.solvedAt = this.passes;
  }

  // w ← w + r·∂P/∂w, rounded once as by torch, after every sample as in the lecture or after all of them
  follow() {
    const { samples, one } = this.task;
    for (const batch of one ? samples.map((s) => [s]) : [samples]) {
      const { gradient } = slopes(this.weights, batch);
      this.put(this.pick(this.weights).map((w, i) => fma(this.rate, gradient[this.learned[i]], w)));
    }
  }

  adapt() {
    const { p, gradient } = slopes(this.weights, this.task.samples);
    this.put(this.adaptive.step(this.pick(this.weights), this.pick(gradient), p));
  }

  // A step down, none or up for every weight: move to the best of 3^n − 1 neighbors, if it is better
  tryAll() {
    let best = this.pick(this.weights),
      most = chainPerformance(this.weights, this.task.samples);
    const own = best,
      copy = [...this.weights];
    for (let code = 1; code < 3 ** own.length; code++) {
      const way = (i) => [0, -1, 1][Math.floor(code / 3 ** (own.length - 1 - i)) % 3];
      const moved = own.map((w, i) => w + way(i) * this.length);
      this.learned.forEach((k, i) => {
        copy[k] = moved[i];
      });
      const p = chainPerformance(copy, this.task.samples);
      if (p > most) [best, most] = [moved, p];
    }
    this.put(best);
  }
}

// Passes until right, 0 if not within cap
export function passesUntilRight(weights, task, rule, rate, cap) {
  const trainer = new Trainer(weights, task, rule, rate);
  while (trainer.solvedAt === null && trainer.passes < cap) trainer.step();
  return trainer.solvedAt ?? 0;
}

// P on a grid of (w1, w2), row by row, with the thresholds as they are. For the eye only: Math.exp is ten times faster
export function grid([, t1, , t2], samples, w1s, w2s) {
  const quick = (a) => 1 / (1 + Math.exp(-a));
  const ys = w1s.map((w1) => samples.map(([x]) => quick(w1 * x - t1))),
    ds = samples.map(([, d]) => d);
  return w2s.map((w2) =>
    ys.map((y) => {
      let sum = 0;
      for (let k = 0; k < ds.length; k++) sum += (quick(w2 * y[k] - t2) - ds[k]) ** 2;
      return -0.5 * sum;
    }),
  );
}
