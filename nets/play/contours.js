// The map of P over w1 and w2: colors from dark (low) to light (high), and lines of equal P.

const CIVIDIS = [
  [0, 32, 76],
  [0, 49, 106],
  [60, 77, 110],
  [102, 104, 112],
  [138, 134, 120],
  [176, 165, 111],
  [216, 200, 90],
  [255, 233, 69],
];
export const LEVELS = [
  -3, -2, -1.5, -1, -0.7, -0.5, -0.4, -0.3, -0.2, -0.1, -0.05, -0.02, -0.01, -0.003, -0.001, 0,
];

// The color of P: as many shades between two levels near the top as far below it
function shade(p) {
  const k = LEVELS.findIndex((level) => p <= level),
    below = Math.max(0, k - 1);
  const part = k > 0 ? (p - LEVELS[below]) / (LEVELS[k] - LEVELS[below]) : 0;
  const at = ((below + part) / (LEVELS.length - 1)) * (CIVIDIS.length - 1),
    i = Math.min(CIVIDIS.length - 2, Math.floor(at));
  return CIVIDIS[i].map((v, c) => v + (at - i) * (CIVIDIS[i + 1][c] - v));
}

// Fills the canvas of n × n pixels with the values p[row][column], the lowest row at the bottom
export function fill(canvas, p) {
  const n = p.length,
    c = canvas.getContext("2d"),
    image = c.createImageData(n, n);
  p.forEach((row, r) =>
    row.forEach((value, k) => {
      const at = 4 * ((n - 1 - r) * n + k),
        [red, green, blue] = shade(value);
      [image.data[at], image.data[at + 1], image.data[at + 2], image.data[at + 3]] = [red, green, blue, 255];
    }),
  );
  c.putImageData(image, 0, 0);
}

// Lines of equal P by marching squares, in units of the grid: calls segment(x1, y1, x2, y2)
export function lines(p, segment) {
  for (let r = 0; r + 1 < p.length; r++)
    for (let k = 0; k + 1 < p.length; k++) {
      const values = [p[r][k], p[r][k + 1], p[r + 1][k + 1], p[r + 1][k]];
      const low = Math.min(...values),
        high = Math.max(...values);
      for (const level of LEVELS) if (low < level && level <= high) cut(k, r, values, level, segment);
    }
}

// The line of one level through the square at (k, r), from side to side
function cut(k, r, values, level, segment) {
  const corners = [
      [k, r],
      [k + 1, r],
      [k + 1, r + 1],
      [k, r + 1],
    ],
    ends = [];
  values.forEach((value, i) => {
    const next = (i + 1) % 4,
      a = value - level,
      b = values[next] - level;
    if (a < 0 === b < 0) return;
    const part = a / (a - b),
      [x, y] = corners[i];
    ends.push(x + part * (corners[next][0] - x), y + part * (corners[next][1] - y));
  });
  segment(...ends.slice(0, 4));
}
