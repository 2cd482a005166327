// The page: one scene at a time, its state in the address, keys, and the loop that runs it.

import { el } from "./dom.js";
import { codePanel } from "./code.js";
import { chosenTheme, setTheme, themeButton } from "./theme.js";
import { NeuronScene } from "./scene_neuron.js";
import { ChainScene } from "./scene_chain.js";
import { CrossScene } from "./scene_cross.js";
import { DigitsScene } from "./scene_digits.js";

const main = document.getElementById("scene"),
  nav = document.querySelector("nav");
const frames = { count: 0, work: [] }; // for the tests: frames drawn while running, and the milliseconds each took
let current = null,
  dirty = false,
  written = "";

const changed = () => {
  dirty = true;
};
setTheme(null);
const scenes = [NeuronScene, ChainScene, CrossScene, DigitsScene].map((Scene) => new Scene(changed));
const links = scenes.map((scene, k) =>
  el(
    "a",
    { href: `#scene=${scene.name}` },
    el("small", {}, String(k + 1)),
    el("span", { class: "long-title" }, scene.title),
    el("span", { class: "short" }, scene.short),
  ),
);
links.forEach((link, k) =>
  link.addEventListener("click", (event) => {
    event.preventDefault();
    open(scenes[k]);
  }),
);
nav.append(...links);
const look = themeButton(() => {
  scenes.forEach((s) => {
    s.gridKey = null;
  });
  changed();
});
document.querySelector(".tools").append(look.node);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

function open(scene) {
  if (current) current.running = false;
  current = scene;
  const code = codePanel(() => scene.code());
  scene.updateCode = code.update;
  main.replaceChildren(el("h2", {}, scene.title), el("p", { class: "lead" }, scene.lead), scene.node);
  scene.node.querySelector(".code")?.remove();
  scene.node.append(code.node);
  links.forEach((link, k) => {
    if (scenes[k] === scene) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.title = `${scene.title} – Neural nets, alive`;
  changed();
}

function write() {
  // at most every 400 ms: browsers limit how often an address may change
  const state = {
    scene: current.name,
    ...current.state(),
    ...(chosenTheme() ? { theme: chosenTheme() } : {}),
  };
  const hash = Object.entries(state)
    .map(([k, v]) => `${k}=${encodeURIComponent(v).replaceAll("%2C", ",")}`)
    .join("&");
  if (hash === written) return;
  written = hash;
  history.replaceState(null, "", `#${hash}`);
}

function read() {
  const query = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const scene = scenes.find((s) => s.name === query.scene) ?? scenes[1];
  setTheme(query.theme);
  look.name();
  scene.load(query);
  open(scene);
}

function loop() {
  requestAnimationFrame(loop);
  if (!current.running && !dirty) return;
  const begin = performance.now(),
    running = current.running;
  if (running) current.frame();
  dirty = false;
  current.draw();
  if (!current.running) current.updateCode();
  if (!running) return;
  frames.count++;
  frames.work.push(performance.now() - begin);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("pre, [type=file]")) return;
  const k = "1234".indexOf(event.key),
    free = !event.target.closest("button, summary");
  if (k >= 0) open(scenes[k]);
  else if (event.key === " " && free && current.toggle) current.toggle();
  else if (event.key === "s" && current.stepOnce) current.stepOnce();
  else if (event.key === "n") {
    current.running = false;
    current.fresh();
    changed();
  } else return;
  event.preventDefault();
});
addEventListener("hashchange", () => {
  if (location.hash.slice(1) !== written) read();
});
addEventListener("pagehide", () => write());
setInterval(() => {
  if (!dirty) write();
}, 400);
read();
loop();
globalThis.play = { modules, scenes, frames, write }; // for the tests
