// The map of P over w1 and w2: colors from dark (low) to light (high), and lines of equal P.

const CIVIDIS = [[0, 32, 76], [0, 49, 106], [60, 77, 110], [102, 104, 112], [138, 134, 120], [176, 165, 111], [216, 200, 90], [255, 233, 69]];
export const LEVELS = [-3, -2, -1.5, -1, -0.7, -0.5, -0.4, -0.3, -0.2, -0.1, -0.05, -0.02, -0.01, -0.003, -0.001, 0];

// The color of P: as many shades between two levels near the top as far below it
function shade(p) {
  const k = LEVELS.findIndex((level) => p <= level), below = Math.max(0, k - 1);
  const part = k > 0 ? (p - LEVELS[below]) / (LEVELS[k] - LEVELS[below]) : 0;
  const at = ((below + part) / (LEVELS.length - 1)) * (CIVIDIS.length - 1), i = Math.min(CIVIDIS.length - 2, Math.floor(at));
  return CIVIDIS[i].map((v, c) => v + (at - i) * (CIVIDIS[i + 1][c] - v));
}

// Fills the canvas of n × n pixels with the values p[row][column], the lowest row at the bottom
export function fill(canvas, p) {
  const n = p.length, c = canvas.getContext("2d"), image = c.createImageData(n, n);
  p.forEach((row, r) => row.forEach((value, k) => {
    const at = 4 * ((n - 1 - r) * n + k);
    image.data.set([...shade(value), 255], at);
  }));
  c.putImageData(image, 0, 0);
}

// Lines of equal P by marching squares, in units of the grid: calls segment(x1, y1, x2, y2)
export function lines(p, segment) {
  const n = p.length;
  for (const level of LEVELS)
    for (let r = 0; r + 1 < n; r++)
      for (let k = 0; k + 1 < n; k++) {
        const corners = [[k, r], [k + 1, r], [k + 1, r + 1], [k, r + 1]], cuts = [];
        corners.forEach(([x, y], i) => {
          const [x2, y2] = corners[(i + 1) % 4], a = p[y][x] - level, b = p[y2][x2] - level;
          if (a < 0 !== b < 0) cuts.push(x + ((x2 - x) * a) / (a - b), y + ((y2 - y) * a) / (a - b));
        });
        if (cuts.length >= 4) segment(...cuts.slice(0, 4));
      }
}
