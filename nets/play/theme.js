// Light or dark: as the system says, until the button says otherwise.

import { button } from "./dom.js";

const system = window.matchMedia("(prefers-color-scheme: dark)");
let chosen = null;

export const theme = () => chosen ?? (system.matches ? "dark" : "light");
export const chosenTheme = () => chosen;

export function setTheme(name) {
  chosen = name === "dark" || name === "light" ? name : null;
  document.documentElement.dataset.theme = theme();
}

export function themeButton(changed) {
  const node = button("", () => {
    setTheme(theme() === "dark" ? "light" : "dark");
    name();
    changed();
  });
  const name = () => {
    node.textContent = theme() === "dark" ? "Light" : "Dark";
  };
  system.addEventListener("change", () => {
    setTheme(chosen);
    name();
    changed();
  });
  name();
  return { node, name };
}
