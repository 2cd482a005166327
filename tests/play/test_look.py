"""The page's looks: sizes, contrasts, colors and names, at two widths, dark and light."""

import re

import pytest

from nets.play.bundle import part
from tests.play.engine import SCENES, settle

LOOKS = [(width, theme) for width in (390, 1600) for theme in ("light", "dark")]

LOOK = """() => {
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, v, k) => sum + v * linear(c[k] / 255), 0);
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const behind = (node) => { // of a text in SVG: the filled shape under its middle, if there is one
    const box = node.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    const drawn = node.ownerSVGElement?.querySelectorAll("rect, circle, polygon") ?? [];
    const shapes = [...drawn].filter((s) => {
      const b = s.getBoundingClientRect(), fill = getComputedStyle(s).fill;
      return fill !== "none" && b.left <= x && x <= b.right && b.top <= y && y <= b.bottom && s.isPointInFill(
        new DOMPoint(x, y).matrixTransform(s.getScreenCTM().inverse()));
    });
    return shapes.length ? parse(getComputedStyle(shapes.at(-1)).fill) : ground(node);
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].map((n) => (n.nodeType === 3 ? n.textContent.trim() : "")).join("");
    if (!own || node.closest("script, style, .skip") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), inSvg = node instanceof SVGElement;
    const text = parse(inSvg ? style.fill : style.color), back = inSvg ? behind(node) : ground(node);
    const [a, b] = [luminance(text), luminance(back)].sort((x, y) => y - x);
    found.push({ own, size: parseFloat(style.fontSize), contrast: (a + 0.05) / (b + 0.05) });
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return { found, wide };
}"""


@pytest.mark.deep
@pytest.mark.parametrize("width, theme", LOOKS)
@pytest.mark.parametrize("name", SCENES)
def test_text_is_large_and_in_contrast_and_nothing_is_cut_off(tab, name, width, theme):
    page = tab(f"scene={name}&theme={theme}&bar=3", width)
    settle(page)
    page.click("summary")
    look = page.evaluate(LOOK)
    assert len(look["found"]) > 30 and look["wide"] == 0
    assert [t for t in look["found"] if t["size"] < 12] == []
    assert [t for t in look["found"] if t["contrast"] < 4.5] == []


@pytest.mark.deep
@pytest.mark.parametrize("name", SCENES)
def test_every_control_and_picture_has_a_name(tab, name):
    page = tab(f"scene={name}")
    settle(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, [role=img], [tabindex='0']")]
        .filter((n) => !(n.getAttribute("aria-label") || (n.closest("label") ?? n).textContent.trim()))
        .map((n) => n.outerHTML)"""
    )
    assert nameless == []


def simulated(color, matrix):
    """A color (r, g, b) in 0 to 1, linear, as somebody with a color deficiency sees it."""
    linear = [((v + 0.055) / 1.055) ** 2.4 if v > 0.04045 else v / 12.92 for v in color]
    return [sum(m * v for m, v in zip(row, linear)) for row in matrix]


# Machado, Oliveira and Fernandes 2009, severity 1
DEFICIENCIES = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_forward_and_backward_differ_for_the_color_blind(kind, theme):
    for pair in (("forward", "backward"), ("lower", "raise")):
        hexes = [re.findall(rf"--{name}: #([0-9a-f]{{6}})", part("style.css"))[theme] for name in pair]
        colors = [[int(h[k : k + 2], 16) / 255 for k in (0, 2, 4)] for h in hexes]
        a, b = (simulated(c, DEFICIENCIES[kind]) for c in colors)
        assert sum((u - v) ** 2 for u, v in zip(a, b)) ** 0.5 > 0.15, pair
