"""Tables: what a race found, a column a form."""

import re

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def header(conf, device: str, facts: dict, torch_version: str) -> str:
    threads = facts["forms"][0]["threads"]
    where = f"{device}, {threads} threads" if device == "cpu" else device
    steps = "one step" if facts["steps"] == 1 else f"{facts['steps']} steps"
    again = ", activations computed again" if conf.net.recompute else ""
    lines = [
        f"{conf.name}, {facts['parameters']:,} parameters, batches of {conf.train.batch_size}"
        f" in {conf.train.dtype}, {conf.net.backend} kernels{again}, on {where}, torch {torch_version}",
        f"Timed: forward, loss, backward and update of a batch that is on the device already; not batching."
        f" {facts['rounds']} rounds, in",
        f"each of which every form, in a process of its own, does {steps} after one to get warm."
        " Medians, and quartiles.",
    ]
    for row in facts["forms"]:
        if row["parts"]:
            lines.append(f"{row['form']}: {row['parts']}")
    lines.append(
        f"A step needs {count(facts['flops'])}FLOP and moves {size(facts['fewest_bytes'])} at least;"
        f" the machine's best is {count(facts['peak_flop_per_s'])}FLOP/s."
    )
    return "\n".join(lines)


def table(facts: dict) -> str:
    """The race."""
    rows = facts["forms"]
    on_cuda = facts["device"] != "cpu"
    process = "reserved by the allocator" if on_cuda else "peak memory of process"
    lines = [
        ("ms a step", lambda r: number(r["median_ms"])),
        ("", lambda r: f"{number(r['low_ms'])}–{number(r['high_ms'])}"),
    ]
    if "ratio" in rows[0]:
        lines += [
            (f"time / {rows[0]['against']}'s", lambda r: f"{r['ratio']:.2f}"),
            ("", lambda r: f"{r['ratio_low']:.2f}–{r['ratio_high']:.2f}"),
        ]
    lines += [
        ("samples a second", lambda r: f"{r['pictures_per_s']:,.0f}"),
        ("peak memory of tensors", lambda r: size(r["total_bytes"])),
        ("  weights, momentum, batch", lambda r: size(r["standing_bytes"])),
        ("  the step, above that", lambda r: size(r["peak_bytes"])),
        (process, lambda r: size(r["resident_bytes"])),
        *([] if on_cuda else [("  when it had loaded torch", lambda r: size(r["loaded_bytes"]))]),
        ("kernels launched" if on_cuda else "operators, kernels", lambda r: f"{r['launches']:,}"),
        ("useful arithmetic a second", lambda r: f"{count(r['flop_per_s'])}FLOP"),
        ("  of the machine's best", lambda r: f"{r['share_of_peak']:.1%}"),
        ("bytes moved", lambda r: size(r["moved_bytes"])),
        ("  over the fewest possible", lambda r: _or_dash(r["moved_over_fewest"], lambda v: f"{v:.1f}")),
        ("to compile", lambda r: _or_dash(r["compile_s"], lambda v: f"{v:.1f} s")),
        (f"loss in step {len(rows[0]['losses'])}", lambda r: f"{r['losses'][-1]:.5g}"),
    ]
    names = [re.match(r"(\w+)[-]?(.*)", r["form"]).groups() for r in rows]  # a side, over its way
    heads = [["", *(side for side, _ in names)], ["", *(way for _, way in names)]]
    return grid([*heads, *([name, *map(show, rows)] for name, show in lines)])


def profiles(found: dict) -> str:
    """Where the time goes: the layers of the eager forms beside each other; kernels, a form each."""
    parts, groups = [], {}  # forms whose layers are the same stand side by side; fused ones have others
    for name, p in found.items():
        if "layers" in p:
            groups.setdefault(tuple(row["layer"] for row in p["layers"]), {})[name] = p
    for eager in groups.values():
        names = [v for name in eager for v in (name, "")]
        heads = [["", *names], ["ms", *["forward", "backward"] * len(eager)]]
        labels = [row["layer"] for row in next(iter(eager.values()))["layers"]]
        lines = heads
        for i, label in enumerate(labels):
            rows = [p["layers"][i] for p in eager.values()]
            lines.append([label, *(number(r[k]) for r in rows for k in ("forward_ms", "backward_ms"))])
        both = [
            ["all layers", *(number(sum(r[k] for r in p["layers"])) for p in eager.values() for k in WAYS)],
            ["loss and the rest", *(v for p in eager.values() for v in (number(p["rest_ms"]), ""))],
            ["update", *(v for p in eager.values() for v in (number(p["update_ms"]), ""))],
            ["step, with clocks in it", *(v for p in eager.values() for v in (number(p["step_ms"]), ""))],
        ]
        parts.append(grid(lines + both))
    for name, p in found.items():
        if "kernels" in p:
            rows = [[number(k["ms"]), str(k["launches"]), _short(k["kernel"])] for k in p["kernels"][:12]]
            rest = sum(k["ms"] for k in p["kernels"][12:])
            rows += [[number(rest), "", f"{len(p['kernels']) - 12} others"]] if rest else []
            parts.append(grid([["ms", "launches", name], *rows], left=(2,)))
    return "\n\n".join(parts)


WAYS = ("forward_ms", "backward_ms")


def scaling(found: dict) -> str:
    """Exponents: time and memory grow as size to which power."""
    names = [f["form"] for f in next(iter(found.values()))["points"][0]["forms"]]
    lines = [["", "sizes", "arithmetic", *(f"{n} {what}" for n in names for what in ("ms", "memory"))]]
    for what, axis in found.items():
        sizes = ", ".join(f"{p['size']:g}" for p in axis["points"])
        fits = [axis["exponents"][n][k] for n in names for k in ("ms", "memory")]
        lines.append([what, sizes, f"{axis['exponents']['flops']:.2f}", *(f"{e:.2f}" for e in fits)])
    return grid(lines)


def grid(lines: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    """Aligned columns: numbers to the right; columns `left` are words."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    sides = ["<" if i in left else ">" for i in range(len(widths))]
    rows = ("  ".join(f"{c:{side}{w}}" for c, side, w in zip(line, sides, widths)) for line in lines)
    return "\n".join(row.rstrip() for row in rows)


def number(v: float) -> str:
    """Three digits at least, and no more after the point than they need."""
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}" if v >= 1 else f"{v:.3f}"


def count(v: float) -> str:
    for unit, prefix in UNITS:
        if v >= unit:
            return f"{number(v / unit)} {prefix}"
    return f"{v:.0f} "


def size(v: float | None) -> str:
    return _or_dash(v, lambda v: f"{count(v)}B")


def _or_dash(v, show) -> str:
    return "–" if v is None else show(v)


def _short(name: str) -> str:
    return name if len(name) <= 88 else f"{name[:60]} … {name[-25:]}"
