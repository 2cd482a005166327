// From strokes to pixels, as the digits of the data set were made: a bitmap of thin squares, four by four of which
// are counted for one pixel of 0 to 16. Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits".

const FINE = 4,
  LEVELS = 16,
  DIGITS = "0123456789abcdefg"; // a level as one letter, for the page's address

// strokes: lists of points [x, y] in 0 to 1. Returns height × width levels; the drawing fills the image
export function rasterize(strokes, height, width) {
  const points = strokes.flat();
  const levels = Array(height * width).fill(0);
  if (!points.length) return levels;
  const [xs, ys] = [0, 1].map((k) => points.map((p) => p[k]));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const h = height * FINE,
    w = width * FINE,
    brush = h / 12;
  const scale = Math.min(
    (h - 2 * brush) / Math.max(bottom - top, 0.25),
    (w - 2 * brush) / Math.max(right - left, 0.25),
  );
  const place = ([x, y]) => [
    w / 2 + (x - (left + right) / 2) * scale,
    h / 2 + (y - (top + bottom) / 2) * scale,
  ];
  const fine = new Uint8Array(h * w);
  for (const stroke of strokes)
    stroke
      .map(place)
      .forEach((p, k, all) => segment(all[Math.max(0, k - 1)], p, (x, y) => dab(fine, h, w, x, y, brush)));
  fine.forEach((on, k) => {
    const y = Math.floor(k / w / FINE),
      x = Math.floor((k % w) / FINE);
    levels[y * width + x] += on;
  });
  return levels;
}

function segment([x1, y1], [x2, y2], visit) {
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(x2 - x1, y2 - y1)));
  for (let k = 0; k <= steps; k++) visit(x1 + ((x2 - x1) * k) / steps, y1 + ((y2 - y1) * k) / steps);
}

function dab(fine, h, w, x, y, r) {
  for (let j = Math.max(0, Math.floor(y - r)); j <= Math.min(h - 1, y + r); j++)
    for (let i = Math.max(0, Math.floor(x - r)); i <= Math.min(w - 1, x + r); i++)
      if ((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2 <= r * r) fine[j * w + i] = 1;
}

export const toBytes = (levels) => levels.map((v) => Math.round((v * 255) / LEVELS));
export const toText = (levels) => levels.map((v) => DIGITS[v]).join("");

// Levels from a text of `size` letters, or null
export function fromText(text, size) {
  const levels = [...(text ?? "")].map((c) => DIGITS.indexOf(c));
  return levels.length === size && !levels.includes(-1) ? levels : null;
}
