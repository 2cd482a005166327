// The layers of nets/layers: every layer has a forward and, directly below it, its backward.
//
//   const [y, saved] = layer.forward(x)
//   const [dx, grads] = layer.backward(saved, dy)   // grads: the names of layer.params
//
// A tensor is {shape: [N, …], data: Float64Array}. The derivations are in the docstrings of nets/layers.

import { exp } from "./exp.js";

export function tensor(shape, data) {
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, data: data ? Float64Array.from(data) : new Float64Array(size) };
}

export const mapped = (x, f) => ({ shape: x.shape, data: x.data.map(f) });
export const sigmoid = (a) => 1 / (1 + exp(-a));

class Elementwise {
  params = {};
  forward(x) {
    const y = mapped(x, this.f);
    return [y, { x, y }];
  }
  backward({ x, y }, dy) {
    return [mapped(dy, (g, i) => this.slope(g, y.data[i], x.data[i])), {}];
  }
}

export class Sigmoid extends Elementwise {
  f = sigmoid;
  slope = (dy, y) => dy * (y * (1 - y));
}

export class Tanh extends Elementwise {
  f = Math.tanh;
  slope = (dy, y) => dy * ((1 - y) * (1 + y));
}

export class ReLU extends Elementwise {
  f = (x) => Math.max(x, 0);
  slope = (dy, y) => (y > 0 ? dy : 0);
}

export class Dropout extends Elementwise {
  // the page always evaluates: y = x
  f = (x) => x;
  slope = (dy) => dy;
}

// y_no = Σ_i x_ni W_oi + b_o
export class Linear {
  constructor(params) {
    this.params = params;
  }

  forward(x) {
    const { weight: w, bias: b } = this.params,
      [outputs, inputs] = w.shape,
      n = x.shape[0];
    const y = tensor([n, outputs]);
    for (let s = 0; s < n; s++)
      for (let o = 0; o < outputs; o++) {
        let sum = 0;
        for (let i = 0; i < inputs; i++) sum += x.data[s * inputs + i] * w.data[o * inputs + i];
        y.data[s * outputs + o] = b ? sum + b.data[o] : sum;
      }
    return [y, x];
  }

  backward(x, dy) {
    const { weight: w, bias: b } = this.params,
      [outputs, inputs] = w.shape,
      n = x.shape[0];
    const dx = tensor(x.shape),
      dw = tensor(w.shape),
      db = tensor([outputs]);
    for (let s = 0; s < n; s++)
      for (let o = 0; o < outputs; o++) {
        const g = dy.data[s * outputs + o];
        db.data[o] += g;
        for (let i = 0; i < inputs; i++) {
          dx.data[s * inputs + i] += g * w.data[o * inputs + i];
          dw.data[o * inputs + i] += g * x.data[s * inputs + i];
        }
      }
    return [dx, b ? { weight: dw, bias: db } : { weight: dw }];
  }
}

export class Flatten {
  params = {};
  forward(x) {
    return [{ shape: [x.shape[0], x.data.length / x.shape[0]], data: x.data }, x.shape];
  }
  backward(shape, dy) {
    return [{ shape, data: dy.data }, {}];
  }
}

// f_n(… f_2(f_1(x))); backward is the chain rule, from the last layer to the first
export class Sequential {
  constructor(layers) {
    this.layers = layers;
  }

  // watch(i, y) sees the output of every layer i
  forward(x, watch = () => {}) {
    const saved = this.layers.map((layer, i) => {
      const [y, s] = layer.forward(x);
      watch(i, y);
      x = y;
      return s;
    });
    return [x, saved];
  }

  // watch(i, dy) sees dL/dy of every layer i; grads are a list, one object for each layer
  backward(saved, dy, watch = () => {}) {
    const grads = [];
    for (let i = this.layers.length - 1; i >= 0; i--) {
      watch(i, dy);
      [dy, grads[i]] = this.layers[i].backward(saved[i], dy);
    }
    return [dy, grads];
  }
}

// P = −½‖d − z‖², dP/dz = d − z
export function performance(z, d) {
  const dz = mapped(z, (v, k) => d.data[k] - v);
  return [-0.5 * dz.data.reduce((sum, e) => sum + e * e, 0), dz];
}

export function softmax(z) {
  const most = Math.max(...z),
    e = [...z].map((v) => Math.exp(v - most)),
    sum = e.reduce((a, b) => a + b);
  return e.map((v) => v / sum);
}

// L = −log softmax(z)_target for one sample z (1, K), dL/dz = p − onehot
export function crossEntropy(z, target) {
  const p = softmax(z.data);
  return [-Math.log(p[target]), mapped(z, (_, k) => p[k] - (k === target ? 1 : 0))];
}

// w ← w + step·g for every parameter; step is the rate to maximize, −rate to minimize
export function update(layers, grads, step) {
  layers.forEach((layer, i) => {
    for (const name in layer.params) {
      const w = layer.params[name].data,
        g = grads[i][name].data;
      for (let k = 0; k < w.length; k++) w[k] += step * g[k];
    }
  });
}
