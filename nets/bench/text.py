"""Tables of a benchmark's results, one column for each form."""

from nets.report.tables import count, grid, number, or_dash, size

DIRECTIONS = ("forward_ms", "backward_ms")


def header(conf, device: str, facts: dict, torch_version: str) -> str:
    threads = facts["forms"][0]["threads"]
    where = f"{device}, {threads} threads" if device == "cpu" else device
    steps = "one step" if facts["steps"] == 1 else f"{facts['steps']} steps"
    again = ", activations recomputed" if conf.net.recompute else ""
    lines = [
        f"{conf.name}, {facts['parameters']:,} parameters, batches of {conf.train.batch_size}"
        f" in {conf.train.dtype}, {conf.net.backend} kernels{again}, on {where}, torch {torch_version}",
        "Timed: forward, loss, backward and update, with the batch on the device. Batching is not timed.",
        f"{facts['rounds']} rounds. In each round every form, in a process of its own, runs {steps}"
        " after one warmup step.",
        "Medians and quartiles over the rounds.",
    ]
    for result in facts["forms"]:
        if result["parts"]:
            lines.append(f"{result['form']}: {result['parts']}")
    lines.append(
        f"A step needs at least {count(facts['flops'])}FLOP and moves at least {size(facts['fewest_bytes'])}."
        f" The machine's best rate is {count(facts['peak_flop_per_s'])}FLOP/s."
    )
    return "\n".join(lines)


def table(facts: dict) -> str:
    """The results of a race."""
    results = facts["forms"]
    on_cuda = facts["device"] != "cpu"
    process = "reserved by the allocator" if on_cuda else "peak memory of process"
    lines = [
        ("ms per step", lambda r: number(r["median_ms"])),
        ("", lambda r: f"{number(r['low_ms'])}–{number(r['high_ms'])}"),
    ]
    if "ratio" in results[0]:
        lines += [
            (f"time / {results[0]['baseline']}'s", lambda r: f"{r['ratio']:.2f}"),
            ("", lambda r: f"{r['ratio_low']:.2f}–{r['ratio_high']:.2f}"),
        ]
    lines += [
        ("samples per second", lambda r: f"{r['samples_per_s']:,.0f}"),
        ("peak memory of tensors", lambda r: size(r["total_bytes"])),
        ("  weights, momentum, batch", lambda r: size(r["persistent_bytes"])),
        ("  added by the step", lambda r: size(r["peak_bytes"])),
        (process, lambda r: size(r["resident_bytes"])),
        *([] if on_cuda else [("  after loading torch", lambda r: size(r["loaded_bytes"]))]),
        ("kernels launched" if on_cuda else "operators, kernels", lambda r: f"{r['launches']:,}"),
        ("useful arithmetic per second", lambda r: f"{count(r['flop_per_s'])}FLOP"),
        ("  of the machine's best", lambda r: f"{r['share_of_peak']:.1%}"),
        ("bytes moved", lambda r: size(r["moved_bytes"])),
        ("  / fewest possible", lambda r: or_dash(r["moved_over_fewest"], lambda v: f"{v:.1f}")),
        ("compile time", lambda r: or_dash(r["compile_s"], lambda v: f"{v:.1f} s")),
        (f"loss in step {len(results[0]['losses'])}", lambda r: f"{r['losses'][-1]:.5g}"),
    ]
    names = [_side_and_mode(r["form"]) for r in results]
    heads = [["", *(side for side, _ in names)], ["", *(mode for _, mode in names)]]
    return grid([*heads, *([name, *map(show, results)] for name, show in lines)])


def _side_and_mode(form: str) -> tuple[str, str]:
    """("manual", "compiled-graph") of "manual-compiled-graph", ("autograd", "+keep") of "autograd+keep"."""
    side = "manual" if form.startswith("manual") else "autograd"
    return side, form.removeprefix(side).removeprefix("-")


def profiles(found: dict) -> str:
    """The time by layer, eager forms side by side, and by kernel, one table for each other form."""
    parts = [_layer_table(eager) for eager in _same_layers(found)]
    parts += [_kernel_table(name, p["kernels"]) for name, p in found.items() if "kernels" in p]
    return "\n\n".join(parts)


def _same_layers(found: dict) -> list[dict]:
    """The profiles by layer, in groups with the same layers: fused layers have other names."""
    groups: dict[tuple, dict] = {}
    for name, p in found.items():
        if "layers" in p:
            groups.setdefault(tuple(layer["layer"] for layer in p["layers"]), {})[name] = p
    return list(groups.values())


def _layer_table(profiles: dict[str, dict]) -> str:
    found = list(profiles.values())
    names = [v for name in profiles for v in (name, "")]
    lines = [["", *names], ["ms", *["forward", "backward"] * len(found)]]
    for places in zip(*(p["layers"] for p in found)):
        lines.append([places[0]["layer"], *(number(layer[k]) for layer in places for k in DIRECTIONS)])
    totals = [number(sum(layer[k] for layer in p["layers"])) for p in found for k in DIRECTIONS]
    lines.append(["all layers", *totals])
    rest = ("loss and the rest", "rest_ms"), ("update", "update_ms"), ("step, clocks included", "step_ms")
    lines += [[label, *(v for p in found for v in (number(p[key]), ""))] for label, key in rest]
    return grid(lines)


def _kernel_table(name: str, kernels: list[dict], most: int = 12) -> str:
    lines = [[number(k["ms"]), str(k["launches"]), _short(k["kernel"])] for k in kernels[:most]]
    rest = sum(k["ms"] for k in kernels[most:])
    lines += [[number(rest), "", f"{len(kernels) - most} others"]] if rest else []
    return grid([["ms", "launches", name], *lines], left=(2,))


def scaling(found: dict) -> str:
    """The exponents with which time and memory grow."""
    names = [f["form"] for f in next(iter(found.values()))["points"][0]["forms"]]
    lines = [["", "sizes", "arithmetic", *(f"{n} {what}" for n in names for what in ("ms", "memory"))]]
    for what, axis in found.items():
        sizes = ", ".join(f"{p['size']:g}" for p in axis["points"])
        fits = [axis["exponents"][n][k] for n in names for k in ("ms", "memory")]
        lines.append([what, sizes, f"{axis['exponents']['flops']:.2f}", *(f"{e:.2f}" for e in fits)])
    return grid(lines)


def _short(name: str) -> str:
    return name if len(name) <= 88 else f"{name[:60]} … {name[-25:]}"
