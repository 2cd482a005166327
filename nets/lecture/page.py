"""The page: the results as one self-contained HTML file, with pictures and numbers beside it."""

import base64
import html
import json
import re
from pathlib import Path

from nets.common.files import write_text
from nets.lecture.result import Result
from nets.report.figure import save

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fdfcf9; color: #1d1d1b; font: 17px/1.6 Georgia, 'Times New Roman', serif; }
main { max-width: 44rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 1rem 0 .4rem; }
h2 { font-size: 1.45rem; line-height: 1.25; margin: 4rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid #d9d4c7; }
h2 small { color: #6b675d; font-weight: normal; margin-right: .5em; }
p { margin: .7rem 0; }
sub, sup { line-height: 0; }
a { color: #26547c; }
.lead { color: #4c4a44; }
.formula { margin: 1.1rem 0; padding: .8rem 1rem; background: #f1eee4; border-radius: 6px; overflow-x: auto;
  font: italic 1.12rem/1.7 Cambria, Georgia, serif; text-align: center; }
.verdict { display: inline-block; padding: .05rem .6rem; border-radius: 1rem;
  font: 600 .85rem/1.6 system-ui, sans-serif; }
.held { background: #dcebdd; color: #1d5427; } .not { background: #f6dcdc; color: #8a1c27; }
figure { margin: 1.6rem 0; text-align: center; }
figure img { width: 100%; max-width: 30rem; height: auto; }
figcaption, .note { color: #4c4a44; font-size: .93rem; }
.note { border-left: 3px solid #d9d4c7; padding-left: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem auto; font: .88rem/1.45 system-ui, sans-serif; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4dfd2; }
th { vertical-align: bottom; font-weight: 600; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
nav ol { columns: 2; padding-left: 1.4rem; font-size: .95rem; }
footer { margin-top: 4rem; border-top: 1px solid #d9d4c7; color: #4c4a44; font-size: .88rem; }
@media (max-width: 560px) {
  body { font-size: 16px; } main { padding: 1rem .9rem 3rem; }
  h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; }
  nav ol { columns: 1; } th, td { padding: .25rem .4rem; } table { font-size: .8rem; }
  .formula { font-size: 1rem; padding: .6rem; }
}
"""


def line(name: str, result: Result) -> str:
    """A result for the terminal: the claim, and below it the measurement."""
    head = f"{'held    ' if result.held else 'NOT held'}  {name}: {_plain(result.claim)}"
    return "\n".join([head, *(f"            {_plain(f)}" for f in result.found + result.timed)])


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", text.replace("<sub>", "").replace("<sup>", "^")))


def number(value) -> str:
    """A cell of a table as HTML."""
    if isinstance(value, float):
        return _typeset(f"{value:.4g}")
    return f"{value:,}" if isinstance(value, int) else "–" if value is None else html.escape(str(value))


def _typeset(text: str) -> str:
    """Typographic numbers: 1.5·10⁻¹¹ for 1.5e-11, a real minus sign, no line break beside a sign."""
    text = re.sub(r"(\d)e([-+]\d+)", lambda m: f"{m[1]}·10<sup>{int(m[2])}</sup>", text)
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    return re.sub(r" ([=−<>]|&[lg]t;) ", "\u00a0\\1\u00a0", text)


def _table(table: list[list]) -> str:
    if not table:
        return ""
    head = "".join(f"<th>{number(cell)}</th>" for cell in table[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{number(cell)}</td>" for cell in row) + "</tr>" for row in table[1:]
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _section(k: int, name: str, result: Result, pictures: list[bytes]) -> str:
    parts = [f'<h2 id="{name}"><small>{k}</small>{result.title}</h2>']
    parts.append(f'<p>{_typeset(result.claim)} <span class="verdict {"held" if result.held else "not"}">'
                 f"{'the claim held' if result.held else 'the claim did not hold'}</span></p>")  # fmt: skip
    parts.append(f'<div class="formula">{result.formula}</div>')
    parts += [f"<p>{_typeset(text)}</p>" for text in result.found]
    for (_, caption, figure), png in zip(result.pictures, pictures):
        data = base64.b64encode(png).decode()
        alt = html.escape(str(figure.get_label()))
        parts.append(f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
                     f"<figcaption>{_typeset(caption)}</figcaption></figure>")  # fmt: skip
    parts.append(_table(result.table))
    parts += [f"<p>{_typeset(text)} <i>(Times vary from run to run.)</i></p>" for text in result.timed]
    if result.note:
        parts.append(f'<p class="note">{_typeset(result.note)}</p>')
    return "\n".join(parts)


def _png(figure, path: Path) -> bytes:
    """Write the figure to a file; the file's bytes."""
    save(figure, path, dpi=240)  # at least two pixels of the picture for one of the page
    return path.read_bytes()


def _facts(r: Result) -> dict:
    """A result's part of result.json."""
    timings = r.timings | {"found": [_plain(f) for f in r.timed]} if r.timings else {}
    verdict = {"held": r.held, "claim": _plain(r.claim), "found": [_plain(f) for f in r.found]}
    return verdict | {"figures": r.figures, "table": r.table, "timings": timings}


def write(out: Path, results: dict[str, Result], facts: dict):
    """Write index.html, a PNG for every picture, and result.json with every number to folder `out`.

    facts: seed, device, versions, and the seconds of each experiment.
    """
    pictures = {
        name: [_png(figure, out / f"{file}.png") for file, _, figure in r.pictures]
        for name, r in results.items()
    }
    held = sum(r.held for r in results.values())
    experiments = {name: _facts(result) for name, result in results.items()}
    seconds = facts["seconds"]
    facts = {k: v for k, v in facts.items() if k != "seconds"} | {
        "claims": len(results),
        "claims_held": held,
        "experiments": experiments,
        "timings": {"seconds": seconds, "total": round(sum(seconds.values()), 2)},
    }
    write_text(out / "result.json", json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    links = "".join(f'<li><a href="#{name}">{r.title}</a></li>' for name, r in results.items())
    sections = "\n".join(
        _section(k + 1, name, r, pictures[name]) for k, (name, r) in enumerate(results.items())
    )
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Neural nets: a lecture as experiments</title><style>{STYLE}</style></head><body><main>
<h1>Neural nets: a lecture as experiments</h1>
<p class="lead">MIT's course 6.034 has a lecture on neural nets (Patrick Winston, 2010 and 2015, lectures 12a
and 12b). The lecture makes claims. A threshold is a weight. A step has no slope. A rate constant can be too
large. On this page each claim is an experiment. The experiments run on layers whose derivatives are written
by hand. {held} of the {len(results)} claims held.</p>
<nav><ol>{links}</ol></nav>
{sections}
<footer><p>Seed {facts["seed"]}, on {facts["device"]}, PyTorch {facts["versions"]["torch"]}. The same seed
gives the same figures, except for times and for the verdict that depends on them. All numbers are in
<code>result.json</code> beside this page. Source of the claims: MIT 6.034, Fall 2010 and 2015, Patrick
Winston, lectures 12a and 12b, “Neural nets”.</p></footer>
</main></body></html>
"""
    write_text(out / "index.html", text)
