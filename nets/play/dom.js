// Small helpers: elements, controls and numbers.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
}

// A number for people: "−0.250"
export const show = (value, digits = 3) =>
  value
    .toFixed(digits)
    .replace(/^-(?=.*[1-9])/, "−")
    .replace("-", "");

// The same, but a very small one is "3.1e−7" and not 0
export const exact = (value, digits) =>
  value !== 0 && Math.abs(value) < 10 ** -digits
    ? value.toExponential(1).replaceAll("-", "−")
    : show(value, digits);

export const button = (text, onclick, attributes = {}) =>
  el("button", { type: "button", onclick, ...attributes }, text);

export const press = (node, on) => node.setAttribute("aria-pressed", on ? "true" : "false");

// One of several: options {value: text}. Returns {node, set(value)}
export function choice(label, options, onchange) {
  const buttons = Object.entries(options).map(([value, text]) =>
    button(text, () => onchange(value), { role: "radio", "data-value": value }),
  );
  const node = el("div", { class: "choice", role: "radiogroup", "aria-label": label }, ...buttons);
  node.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const next = buttons[(buttons.indexOf(document.activeElement) + way + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
  const set = (value) =>
    buttons.forEach((b) => {
      const on = b.dataset.value === String(value);
      b.setAttribute("aria-checked", on ? "true" : "false");
      b.tabIndex = on ? 0 : -1;
    });
  return { node, set };
}

// A slider with its number beside it. log: the slider is logarithmic. Returns {node, set(value)}
export function slider(label, { min, max, step = 0.01, log = false, digits = 2, long = false }, onchange) {
  const to = log ? Math.log10 : (v) => v,
    from = log ? (v) => Number((10 ** v).toPrecision(3)) : (v) => v;
  const input = el("input", {
    type: "range",
    min: to(min),
    max: to(max),
    step: log ? 0.02 : step,
    "aria-label": label,
    oninput: () => {
      const value = from(Number(input.value));
      put(value);
      onchange(value);
    },
  });
  const output = el("output");
  const put = (value) => {
    output.value = log ? String(value) : show(value, digits);
    input.setAttribute("aria-valuetext", output.value);
  };
  const node = el("label", { class: long ? "slider long" : "slider" }, el("span", {}, label), input, output);
  return {
    node,
    input,
    set: (value) => {
      input.value = to(value);
      put(value);
    },
  };
}

export const row = (...children) => el("div", { class: "row" }, ...children);
export const column = (...children) => el("div", { class: "column" }, ...children);

// A box of the page; title may be ""
export const panel = (kind, title, ...children) =>
  el("div", { class: `panel ${kind}` }, ...(title ? [el("h3", {}, title)] : []), ...children);

export const table = (head, body) =>
  el(
    "div",
    { class: "scroll" },
    el("table", {}, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", {}, text)))), body),
  );

// Calls draw(width) now and whenever the node's width changes
export function onWidth(node, draw) {
  let last = 0;
  new ResizeObserver(() => {
    if (node.clientWidth && node.clientWidth !== last) draw((last = node.clientWidth));
  }).observe(node);
}

// The canvas's context, with one unit a CSS pixel, cleared
export function context(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const c = canvas.getContext("2d");
  c.setTransform(scale, 0, 0, scale, 0, 0);
  return c;
}

export const color = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const list = (values) => values.map((v) => String(v)).join(",");

// Numbers from "1,2.5,…", or null unless there are `count` finite ones
export function numbers(text, count) {
  const values = (text ?? "").split(",").map((v) => (v.trim() === "" ? NaN : Number(v)));
  return values.length === count && values.every(Number.isFinite) ? values : null;
}

// The number in a text, between min and max, or other if there is none
export function number(text, min, max, other) {
  const value = text === undefined || text === "" ? NaN : Number(text);
  return Number.isFinite(value) ? Math.min(max, Math.max(min, value)) : other;
}
