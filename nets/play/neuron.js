// The lecture's neuron, a summer and a threshold box: z = 1 if Σ w·x > T, else 0.

export const POINTS = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
];

export const sum = (weights, x) => weights.reduce((total, w, i) => total + w * x[i], 0);

export const fires = (weights, threshold, x) => (sum(weights, x) - threshold > 0 ? 1 : 0);

// The same neuron without a threshold: w0 = T on an input that is always −1
export const firesWithout = (weights, threshold, x) => (sum([threshold, ...weights], [-1, ...x]) > 0 ? 1 : 0);

// The outputs for inputs 00, 01, 10, 11 as a number from 0 to 15
export const table = (weights, threshold) =>
  POINTS.reduce((code, x) => 2 * code + fires(weights, threshold, x), 0);

export const NAMES = [
  "never",
  "and",
  "x₁ not x₂",
  "x₁",
  "x₂ not x₁",
  "x₂",
  "xor",
  "or",
  "nor",
  "same",
  "not x₂",
  "x₁ or not x₂",
  "not x₁",
  "x₂ or not x₁",
  "nand",
  "always",
];
export const IMPOSSIBLE = [6, 9]; // (0,1) + (1,0) = (0,0) + (1,1): one pair would need a sum over 2T, the other at most 2T
