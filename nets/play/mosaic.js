// Activations, slopes and pixels as pictures.

import { color } from "./dom.js";

function rgb(name) {
  const hex = color(name);
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

// A tensor (1, C, H, W) as tiles, or (1, K) as one row of numbers in several lines. Without a tensor: empty, of the size of `like`
export function paintMosaic(canvas, tensor, like = tensor) {
  const [, channels, h = 1, w = 1] = like.shape,
    across = channels === 1 ? 1 : Math.ceil(Math.sqrt(channels * 2)),
    down = Math.ceil(channels / across);
  const gap = h > 1 ? 1 : 0;
  canvas.width = across * (w + gap) - gap;
  canvas.height = down * (h + gap) - gap;
  if (!tensor) return;
  const c = canvas.getContext("2d"),
    image = c.createImageData(canvas.width, canvas.height);
  const most = tensor.data.reduce((m, v) => Math.max(m, Math.abs(v)), 0) || 1;
  const [zero, up, downward] = [rgb("track"), rgb("raise"), rgb("lower")];
  tensor.data.forEach((v, k) => {
    const channel = Math.floor(k / (h * w)),
      row = Math.floor((k % (h * w)) / w),
      column = k % w;
    const x = (channel % across) * (w + gap) + column,
      y = Math.floor(channel / across) * (h + gap) + row;
    const end = v > 0 ? up : downward,
      part = Math.sqrt(Math.abs(v) / most);
    image.data.set(
      [...zero.map((from, i) => from + part * (end[i] - from)), 255],
      4 * (y * canvas.width + x),
    );
  });
  c.putImageData(image, 0, 0);
}

// Bytes as ink: dark on light, as drawn; with the strokes and the keyboard's cursor over them
export function paintPixels(canvas, bytes, h, w, strokes = null, cursor = null) {
  const scale = strokes ? Math.max(1, Math.round(512 / w)) : 1;
  canvas.width = w * scale;
  canvas.height = h * scale;
  const c = canvas.getContext("2d"),
    [paper, ink] = [rgb("paper"), rgb("ink")];
  bytes.forEach((v, k) => {
    c.fillStyle = `rgb(${paper.map((from, i) => from + (v / 255) * (ink[i] - from)).join(" ")})`;
    c.fillRect((k % w) * scale, Math.floor(k / w) * scale, scale, scale);
  });
  if (!strokes) return;
  c.strokeStyle = color("backward");
  [c.lineWidth, c.lineCap, c.lineJoin] = [10, "round", "round"];
  for (const stroke of strokes) {
    c.beginPath();
    stroke.forEach(([x, y], k) => c[k ? "lineTo" : "moveTo"](x * canvas.width, y * canvas.height));
    if (stroke.length === 1) c.lineTo(stroke[0][0] * canvas.width + 1, stroke[0][1] * canvas.height);
    c.stroke();
  }
  if (cursor) {
    [c.strokeStyle, c.lineWidth] = [color("shared"), 6];
    c.strokeRect(cursor[0] * scale + 3, cursor[1] * scale + 3, scale - 6, scale - 6);
  }
}
