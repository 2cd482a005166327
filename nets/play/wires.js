// Pictures of nets and curves in SVG, drawn for the width at hand, so that text keeps its size.

import { svg } from "./dom.js";

export const text = (x, y, string, attributes = {}) =>
  svg("text", { x, y, "text-anchor": "middle", ...attributes }, string);

export function arrow(x1, y1, x2, y2, kind = "") {
  const length = Math.hypot(x2 - x1, y2 - y1),
    ux = (x2 - x1) / length,
    uy = (y2 - y1) / length;
  const wing = (side) => `${x2 - 8 * ux - side * 4 * uy} ${y2 - 8 * uy + side * 4 * ux}`;
  return svg("path", { class: kind, d: `M${x1} ${y1} L${x2} ${y2} M${wing(1)} L${x2} ${y2} L${wing(-1)}` });
}

export function box(x, y, width, height, kind = "") {
  return svg("rect", { class: `node ${kind}`, x: x - width / 2, y: y - height / 2, width, height, rx: 8 });
}

export const circle = (x, y, r, kind = "") => svg("circle", { class: `node ${kind}`, cx: x, cy: y, r });

// A picture with a name for those who can't see it
export function picture(height, label) {
  return svg("svg", { role: "img", "aria-label": label, height });
}

// The largest error after every `stride`th pass, and now; with a line where the net counts as right
export function curve(node, width, height, { errors, stride, passes, now, solved }) {
  const left = 34,
    bottom = 20,
    top = 8,
    right = 8,
    most = Math.max(20, passes);
  const x = (k) => left + ((width - left - right) * k) / most;
  const y = (e) => top + (height - top - bottom) * (1 - Math.min(1, e));
  const every = Math.max(1, Math.floor(errors.length / (4 * width)));
  const points = errors.flatMap((e, i) =>
    i % every ? [] : [`${x(i * stride).toFixed(1)} ${y(e).toFixed(1)}`],
  );
  node.replaceChildren(
    svg("line", { x1: left, x2: width - right, y1: y(0), y2: y(0) }),
    svg("line", { x1: left, x2: width - right, y1: y(0.1), y2: y(0.1), "stroke-dasharray": "4 4" }),
    svg("path", {
      d: `M${[...points, `${x(passes)} ${y(now)}`].join("L")}`,
      style: "stroke: var(--backward); stroke-width: 2",
    }),
    text(left - 6, y(1) + 4, "1", { "text-anchor": "end", class: "faint" }),
    text(left - 6, y(0.1) + 4, "0.1", { "text-anchor": "end", class: "faint" }),
    text(left, height - 4, "0", { class: "faint" }),
    text(width - right, height - 4, `pass ${most}`, { "text-anchor": "end", class: "faint" }),
    text(left + (width - left - right) / 2, height - 4, "largest error", { class: "faint" }),
  );
  if (solved !== null)
    node.append(
      svg("line", { x1: x(solved), x2: x(solved), y1: top + 16, y2: y(0), style: "stroke: var(--good)" }),
    );
  node.setAttribute("aria-label", `Largest error by pass: now ${now.toFixed(3)} after ${passes} passes`);
}
