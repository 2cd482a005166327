// A net from the JSON of `nets export`.

import { AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool, MaxPool2d } from "./images.js";
import { Dropout, Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh, tensor } from "./layers.js";

const LAYERS = {
  AvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  GlobalAvgPool,
  Linear,
  MaxPool2d,
  ReLU,
  Sigmoid,
  Tanh,
};
const BUFFERS = ["running_mean", "running_var"];

function decode({ shape, float32 }) {
  const bytes = Uint8Array.from(atob(float32), (c) => c.charCodeAt(0)),
    view = new DataView(bytes.buffer);
  return tensor(
    shape,
    Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true)),
  );
}

function build({ type, options, tensors }) {
  if (!Object.hasOwn(LAYERS, type)) throw new Error(`this page has no layer ${type}`);
  const all = Object.entries(tensors).map(([name, about]) => [name, decode(about)]);
  const params = Object.fromEntries(all.filter(([name]) => !BUFFERS.includes(name)));
  const buffers = Object.fromEntries(all.filter(([name]) => BUFFERS.includes(name)));
  const layer = new LAYERS[type](params, options, buffers);
  layer.type = type;
  return layer;
}

// {net, name, classes, shape, mean, std}; an Error says what is wrong
export function loadNet(about) {
  if (about?.format !== 1) throw new Error("this is not a file of nets export");
  const { name, classes, shape, mean, std } = about;
  return { net: new Sequential(about.layers.map(build)), name, classes, shape, mean, std };
}

// The pixels (H·W bytes, the same for every channel) as the net takes them: (x / 255 − mean) / std
export function toInput({ shape: [channels, height, width], mean, std }, pixels) {
  const x = tensor([1, channels, height, width]),
    area = height * width;
  x.data.forEach((_, k) => {
    const c = Math.floor(k / area);
    x.data[k] = (pixels[k % area] - mean[c] * 255) / (std[c] * 255);
  });
  return x;
}
