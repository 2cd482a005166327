// The layers for images (N, C, H, W): convolution, BatchNorm and pooling, each backward below its forward.

import { mapped, tensor } from "./layers.js";

// Calls visit(at, from, count, step, k, o, c) for every row of every place in a sliding window: y's places at, at + 1,
// …, of channel o are multiplied or compared with x's from, from + step, …; k is the place in the window, c the
// channel of x within its group.
function slide(x, y, { kernel, stride, padding, dilation }, inputsOf, visit) {
  const [n, channels, h, w] = x.shape,
    [, outputs, rows, columns] = y.shape;
  for (let s = 0; s < n; s++)
    for (let o = 0; o < outputs; o++) {
      const [start, end] = inputsOf(o);
      for (let c = start; c < end; c++)
        for (let i = 0; i < kernel[0]; i++)
          for (let j = 0; j < kernel[1]; j++) {
            const left = padding[1] - j * dilation[1]; // columns of padding to the left of the first window's j
            const first = Math.max(0, Math.ceil(left / stride[1]));
            const count = Math.min(columns, Math.floor((w - 1 + left) / stride[1]) + 1) - first;
            for (let p = 0; p < rows; p++) {
              const row = p * stride[0] + i * dilation[0] - padding[0];
              if (row < 0 || row >= h || count <= 0) continue;
              const at = ((s * outputs + o) * rows + p) * columns + first;
              const from = ((s * channels + c) * h + row) * w + first * stride[1] - left;
              visit(at, from, count, stride[1], i * kernel[1] + j, o, c - start);
            }
          }
    }
}

function outShape([n, , h, w], channels, { kernel, stride, padding, dilation }) {
  const size = (length, a) =>
    Math.floor((length + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a]) + 1;
  return [n, channels, size(h, 0), size(w, 1)];
}

// y_nopq = b_o + Σ_cij w_ocij · x_nc(sp+di)(sq+dj); each gradient is dy times the other factor, summed
export class Conv2d {
  constructor(params, options) {
    Object.assign(this, { params, windows: options, groups: options.groups });
  }

  inputsOf = (o) => {
    // the channels of x that output o sees: from, to
    const [outputs, inputs] = this.params.weight.shape;
    const group = Math.floor(o / (outputs / this.groups));
    return [group * inputs, (group + 1) * inputs];
  };

  forward(x) {
    const { weight: w, bias: b } = this.params,
      [outputs, inputs, kh, kw] = w.shape,
      area = kh * kw;
    const y = tensor(outShape(x.shape, outputs, this.windows)),
      places = y.shape[2] * y.shape[3];
    if (b)
      y.data.forEach((_, k) => {
        y.data[k] = b.data[Math.floor(k / places) % outputs];
      });
    const from = x.data,
      to = y.data;
    slide(x, y, this.windows, this.inputsOf, (at, start, count, step, k, o, c) => {
      const weight = w.data[(o * inputs + c) * area + k];
      for (let q = 0; q < count; q++) to[at + q] += weight * from[start + q * step];
    });
    return [y, x];
  }

  backward(x, dy) {
    const { weight: w, bias: b } = this.params,
      [outputs, inputs, kh, kw] = w.shape,
      area = kh * kw;
    const dx = tensor(x.shape),
      dw = tensor(w.shape),
      db = tensor([outputs]);
    slide(x, dy, this.windows, this.inputsOf, (at, start, count, step, k, o, c) => {
      const place = (o * inputs + c) * area + k,
        weight = w.data[place];
      let sum = 0;
      for (let q = 0; q < count; q++) {
        const g = dy.data[at + q],
          from = start + q * step;
        dx.data[from] += weight * g;
        sum += x.data[from] * g;
      }
      dw.data[place] += sum;
    });
    const places = dy.shape[2] * dy.shape[3];
    dy.data.forEach((g, k) => {
      db.data[Math.floor(k / places) % outputs] += g;
    });
    return [dx, b ? { weight: dw, bias: db } : { weight: dw }];
  }
}

// Evaluation: y = γ(x − μ)r + β with the running averages, which are constants; r = 1/√(σ² + ε)
export class BatchNorm2d {
  constructor(params, { eps }, buffers) {
    Object.assign(this, { params, eps, buffers });
  }

  channel(shape) {
    const places = shape[2] * shape[3];
    return (k) => Math.floor(k / places) % shape[1];
  }
  rstd(c) {
    return 1 / Math.sqrt(this.buffers.running_var.data[c] + this.eps);
  }
  normalized(x, c) {
    return (x - this.buffers.running_mean.data[c]) * this.rstd(c);
  }

  forward(x) {
    const { weight: gamma, bias: beta } = this.params,
      of = this.channel(x.shape);
    const y = mapped(x, (v, k) => {
      const c = of(k),
        normal = this.normalized(v, c);
      return gamma ? gamma.data[c] * normal + beta.data[c] : normal;
    });
    return [y, x];
  }

  backward(x, dy) {
    const { weight: gamma } = this.params,
      of = this.channel(x.shape);
    const dgamma = tensor([x.shape[1]]),
      dbeta = tensor([x.shape[1]]);
    const dx = mapped(dy, (g, k) => {
      const c = of(k);
      dgamma.data[c] += g * this.normalized(x.data[k], c);
      dbeta.data[c] += g;
      return g * (gamma ? gamma.data[c] : 1) * this.rstd(c);
    });
    return [dx, gamma ? { weight: dgamma, bias: dbeta } : {}];
  }
}

// The first maximum of each window wins; the winner gets the window's dy
export class MaxPool2d {
  params = {};
  constructor(params, options) {
    this.windows = options;
  }

  forward(x) {
    const y = tensor(outShape(x.shape, x.shape[1], this.windows)),
      winner = new Int32Array(y.data.length);
    y.data.fill(-Infinity);
    slide(
      x,
      y,
      this.windows,
      (o) => [o, o + 1],
      (at, start, count, step) => {
        for (let q = 0; q < count; q++) {
          const from = start + q * step;
          if (x.data[from] > y.data[at + q]) [y.data[at + q], winner[at + q]] = [x.data[from], from];
        }
      },
    );
    return [y, { winner, shape: x.shape }];
  }

  backward({ winner, shape }, dy) {
    const dx = tensor(shape);
    dy.data.forEach((g, k) => {
      dx.data[winner[k]] += g;
    });
    return [dx, {}];
  }
}

// The mean of each window; padding counts as zeros
export class AvgPool2d {
  params = {};
  constructor(params, options) {
    this.windows = options;
    this.area = options.kernel[0] * options.kernel[1];
  }

  forward(x) {
    const y = tensor(outShape(x.shape, x.shape[1], this.windows));
    slide(
      x,
      y,
      this.windows,
      (o) => [o, o + 1],
      (at, start, count, step) => {
        for (let q = 0; q < count; q++) y.data[at + q] += x.data[start + q * step] / this.area;
      },
    );
    return [y, x.shape];
  }

  backward(shape, dy) {
    const dx = tensor(shape);
    slide(
      dx,
      dy,
      this.windows,
      (o) => [o, o + 1],
      (at, start, count, step) => {
        for (let q = 0; q < count; q++) dx.data[start + q * step] += dy.data[at + q] / this.area;
      },
    );
    return [dx, {}];
  }
}

export class GlobalAvgPool {
  params = {};

  forward(x) {
    const [n, c, h, w] = x.shape,
      y = tensor([n, c]);
    x.data.forEach((v, k) => {
      y.data[Math.floor(k / (h * w))] += v / (h * w);
    });
    return [y, x.shape];
  }

  backward(shape, dy) {
    const places = shape[2] * shape[3],
      dx = tensor(shape);
    return [mapped(dx, (_, k) => dy.data[Math.floor(k / places)] / places), {}];
  }
}
