"""The page's numbers are those of nets: every value, factor and gradient, and every count of iterations."""

import json

import pytest
import torch

from nets.data.datasets import digits
from nets.layers.activations import Sigmoid
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import adapting, cross, hill, many, neuron, rate, reuse
from nets.lecture.two_weight import factors
from nets.losses import CrossEntropyLoss, Performance
from nets.play.bundle import part
from nets.play.weights import read

STATES = 100
STUCK = 16  # nets beside them that never learn, see test_iterations_at_fixed_rates


def close(page, ours, tolerance=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(page, dtype=torch.float64), ours.double(), rtol=tolerance, atol=tolerance
    )


def dense(width: int, bias: bool = True) -> Sequential:
    return Sequential(Linear(width, width, bias), Sigmoid(), Linear(width, width, bias), Sigmoid()).to(
        torch.float64
    )


def fill(net: Sequential, w: torch.Tensor):
    """Set a net of 2 layers from the page's list: each layer's weights, then its thresholds."""
    half = len(w) // 2
    for layer, own in zip(("0", "2"), (w[:half], w[half:])):
        weight, bias = net.params[f"{layer}.weight"], net.params[f"{layer}.bias"]
        weight.copy_(own[: weight.numel()].view_as(weight))
        bias.copy_(-own[weight.numel() :])


def as_list(grads) -> torch.Tensor:
    """Gradients in the order of the page: weights, then thresholds, of each layer."""
    return torch.cat([t for k in "02" for t in (grads[f"{k}.weight"].flatten(), -grads[f"{k}.bias"])])


def test_neuron(call):
    torch.manual_seed(0)
    states = torch.randint(-6, 7, (STATES, 3)) / 2  # halves, so that sums hit the threshold
    found = call(
        """(states, { neuron }) => states.map(([a, b, t]) => neuron.POINTS.map((x) =>
        [neuron.fires([a, b], t, x), neuron.firesWithout([a, b], t, x)]))""",
        states.tolist(),
    )
    layer = Linear(2, STATES).to(torch.float64)
    layer.params["weight"].copy_(states[:, :2])
    layer.params["bias"].copy_(-states[:, 2])
    ours = neuron.fires(layer, many.truth_table(2, "cpu")[0]).T.int()  # (states, 4)
    assert torch.equal(torch.tensor(found), ours[..., None].expand(-1, -1, 2))


def test_what_a_neuron_cannot_be(call):
    names = call("(_, { neuron }) => [neuron.NAMES.length, neuron.IMPOSSIBLE]", None)
    assert names == [16, neuron.impossible(2, "cpu").nonzero()[:, 0].tolist()]


def test_smallest_net(call):
    torch.manual_seed(0)
    states = torch.randn(STATES, 6, dtype=torch.float64) * 2  # w1, T1, w2, T2, x, d
    found = call(
        "(states, { chain }) => states.map((s) => chain.factors(s.slice(0, 4), s.slice(4)))", states.tolist()
    )
    net, loss = dense(1), Performance()
    for state, page in zip(states, found):
        fill(net, state[:4])
        z, saved = net.forward(state[4].view(1, 1))
        _, dz = loss(z, state[5].view(1, 1))
        close([page["z"], page["error"]], torch.cat([z, dz]).flatten())
        close(page["gradient"], as_list(net.backward(saved, dz)[1]))
    w1, _, w2, _, x, d = states.T
    for name, ours in (("error", "d − z"), ("slopeZ", "z(1 − z)"), ("y", "y"), ("slopeY", "y(1 − y)")):
        plain = call(
            f"(s, {{ chain }}) => s.map(([a, b, x, d]) => chain.factors([a, 0, b, 0], [x, d]).{name})",
            torch.stack([w1, w2, x, d], 1).tolist(),
        )
        close(plain, factors(w1, w2, x, d)[ours])


@pytest.mark.parametrize("links", [True, False], ids=["cross", "no cross"])
def test_cross_net(call, links):
    torch.manual_seed(0)
    states = torch.randn(STATES, 12, dtype=torch.float64) * 2
    tables = torch.randint(0, 2, (STATES, 4, 2))
    found = call(
        """({ states, tables, links }, { cross }) => states.map((w, k) => [null, 0, 1, 2, 3].map((row) => {
        const { values, back, dx, p, gradient } = cross.crossPass(w, tables[k], links, row);
        return { values: values.map((v) => [...v]), back: back.map((v) => [...v]), dx: [...dx], p, gradient };
        }))""",
        {"states": states.tolist(), "tables": tables.tolist(), "links": links},
    )
    net, loss, x = dense(2), Performance(), many.truth_table(2, "cpu")[0]
    cut = torch.eye(2, dtype=torch.float64)
    for state, table, passes in zip(states, tables, found):
        fill(net, state)
        for name in ("0.weight", "2.weight") if not links else ():
            net.params[name].mul_(cut)
        for rows, page in zip((slice(None), *(slice(k, k + 1) for k in range(4))), passes):
            values, back = [x[rows]], []
            z, saved = net.forward(values[0])
            p, dy = loss(z, table[rows].double())
            for layer in net:
                values.append(layer.forward(values[-1])[0])
            dx, grads = net.backward(saved, dy, keep=True)
            for layer, kept in reversed(list(zip(net, saved))):
                back.insert(0, dy)
                dy, _ = layer.backward(kept, dy)
            if not links:
                grads = {k: g * cut if k.endswith("weight") else g for k, g in grads.items()}
            close(page["p"], p)
            close([v for vs in page["values"] for v in vs], torch.cat([v.flatten() for v in values]))
            close([v for vs in page["back"] for v in vs], torch.cat([v.flatten() for v in back]))
            close(page["dx"], dx.flatten())
            close(page["gradient"], as_list(grads))


def with_stuck(net, starts: int):
    """The first `starts` nets, and STUCK ones whose gradient is 0."""

    def change(t):
        stuck = torch.zeros(STUCK, *t.shape[1:], dtype=t.dtype)
        return torch.cat([t[:starts], stuck - 400 if t is net.params["2.bias"] else stuck])

    return many.map_params(net, change)


def starts_of(net, starts: int) -> list:
    parts = [sign * net.params[name].flatten(1)[:starts] for name, sign in ORDER]
    return torch.cat(parts, 1).tolist()


ORDER = (("0.weight", 1), ("0.bias", -1), ("2.weight", 1), ("2.bias", -1))


@pytest.mark.parametrize("rate_constant", list(rate.LECTURE))
def test_iterations_at_fixed_rates(call, rate_constant):
    """At 50 the last bit of a sigmoid matters. torch computes the last few numbers of a tensor with another
    exp than the rest, hence the stuck nets at its end."""
    net, _ = rate.nets_at((rate_constant,), STATES, 0, "cpu")
    net, x = with_stuck(net, STATES), rate.task("cpu")
    starts = starts_of(net, STATES)
    rates, cap = torch.full((STATES + STUCK,), rate_constant, dtype=torch.float64), 1000
    ours = many.train(net, x, x, rates, cap, batch=1)[:STATES].tolist()
    function = f"""(starts, {{ chain }}) => starts.map((w) =>
        chain.passesUntilRight(w, chain.TASKS.repeat, "fixed", {rate_constant}, {cap}))"""
    assert call(function, starts) == ours
    assert sum(n > 0 for n in ours) > 60


@pytest.mark.parametrize("first", [0.005, 0.5, 50.0, 500.0])
def test_iterations_of_the_adaptive_rate(call, first):
    net, _ = rate.nets_at((first,), STATES, 0, "cpu")
    net = with_stuck(net, STATES)
    starts, rates = starts_of(net, STATES), torch.full((STATES + STUCK,), first, dtype=torch.float64)
    ours = adapting.train_adaptively(net, rates, 60, "cpu")[:STATES].tolist()
    function = f"""(starts, {{ chain }}) => starts.map((w) =>
        chain.passesUntilRight(w, chain.TASKS.repeat, "adaptive", {first}, 60))"""
    assert call(function, starts) == ours


def test_steps_up_the_hill(call):
    ours = hill.hill_climbing(layers=(1,), repeats=1).figures["steps_to_the_top"]
    function = """(_, { chain }) => ["every", "fixed"].map((rule) =>
        chain.passesUntilRight(chain.TASKS.hill.start, chain.TASKS.hill, rule, 1.5, 500))"""
    assert call(function, None) == [ours["every direction"], ours["gradient"]]


@pytest.mark.parametrize("links", [True, False], ids=["cross", "no cross"])
def test_iterations_of_the_cross_net(call, links):
    torch.manual_seed(0)
    starts, cap, x = 20, 600, many.truth_table(2, "cpu")
    tasks = torch.tensor([[6, 1], [3, 5], [5, 3], [1, 7]]).repeat_interleave(starts, 0)
    d = cross.wanted(tasks, "cpu").transpose(1, 2)  # (nets, 4, 2)
    net = many.chain(len(d), (2, 2, 2), "cpu")
    states = [sign * net.params[name].flatten(1) for name, sign in ORDER]
    w = torch.cat(states, 1)  # the order of the page
    rates = torch.full((len(d),), 4.0, dtype=torch.float64)
    if links:
        ours = many.train(net, x, d, rates, cap)
    else:  # two of the simplest nets, each with its own input and output
        halves = many.chain(2 * len(d), (1, 1, 1), "cpu")
        own = w[:, [[0, 4, 6, 10], [3, 5, 9, 11]]].view(-1, 4)
        for k, (name, sign) in enumerate(ORDER):
            halves.params[name].copy_(sign * own[:, k].view(-1, 1, 1))
        split_x, split_d = (t.expand(len(d), -1, -1).transpose(1, 2).reshape(-1, 4, 1) for t in (x, d))
        both = many.train(halves, split_x, split_d, rates.repeat_interleave(2), cap).view(-1, 2)
        ours = torch.where((both == 0).any(1), 0, both.amax(1))
    function = f"""({{ states, tables }}, {{ cross }}) => states.map((w, k) =>
        cross.crossPasses(w, tables[k], 4, {cap}, {str(links).lower()}))"""
    assert call(function, {"states": w.tolist(), "tables": d.tolist()}) == ours.tolist()
    assert (ours > 0).any()


def test_equal_starts_never_part(call):
    function = """(starts, { cross }) => starts.map((w) => {
        let at = cross.equalStart(w);
        for (let k = 0; k < 300; k++) at = cross.crossStep(at, [[0, 0], [1, 0], [1, 0], [0, 1]], 2, true);
        return cross.apart(at);
        })"""
    assert call(function, torch.randn(10, 12).tolist()) == [0] * 10


def test_paths_and_multiplications(call):
    sizes = [(2, 3), (3, 4), (4, 3)]
    found = call(
        "(s, { cross: c }) => s.map(([w, d]) => [c.paths(w, d), c.byPaths(w, d), c.byBackprop(w, d)])",
        sizes,
    )
    for (width, depth), page in zip(sizes, found):
        net, x = reuse.dense(width, depth, "cpu"), torch.rand(1, width, dtype=torch.float64)
        _, count = reuse.every_path(net, x, x)
        assert page == [width**depth, count, reuse.multiplications(net, x, x)]


def test_digits_net(call, request):
    """Logits as nets computes them in float32, and the gradients of pixels and weights in float64."""
    states = STATES if request.config.getoption("--deep") else 20
    exported, generator = read(), torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (states // 2, 8, 8, 1), generator=generator, dtype=torch.uint8)
    images = torch.cat([digits(None).test_x[: states // 2], noise])
    targets = torch.randint(0, 10, (states,), generator=generator)
    function = """({ about, images, targets }, { loaded, layers }) => {
        const all = loaded.loadNet(about);
        return images.map((pixels, k) => {
          const [z, saved] = all.net.forward(loaded.toInput(all, pixels));
          const [loss, dz] = layers.crossEntropy(z, targets[k]), [dx, grads] = all.net.backward(saved, dz);
          const weighted = ({ data }) => data.reduce((sum, v, i) => sum + v * Math.cos(i), 0);
          const sums = grads.flatMap((g) => Object.keys(g).sort().map((name) => weighted(g[name])));
          return { z: [...z.data], loss, dx: [...dx.data], sums };
        });
        }"""
    given = {"about": json.loads(part("digits.json")), "images": images.flatten(1).tolist()}
    found = call(function, given | {"targets": targets.tolist()})
    x = ((images.permute(0, 3, 1, 2).float() - exported.mean * 255) / (exported.std * 255)).float()
    close([page["z"] for page in found], exported.net(x), 1e-5)
    net = exported.net.to(torch.float64)
    mean, std = exported.mean.double(), exported.std.double()
    x = (images.permute(0, 3, 1, 2).double() - mean * 255) / (std * 255)
    for k, page in enumerate(found):
        z, saved = net.forward(x[k : k + 1])
        loss, dz = CrossEntropyLoss()(z, targets[k : k + 1])
        dx, grads = net.backward(saved, dz)
        close(page["loss"], loss)
        close(page["z"], z[0])
        close(page["dx"], dx.flatten())
        close(page["sums"], torch.stack([weighted(g) for _, g in sorted(grads.items(), key=by_layer)]))


def weighted(g: torch.Tensor) -> torch.Tensor:
    """Σ g_i cos i: one number that depends on every one of a gradient."""
    g = g.flatten()
    return (g * torch.arange(len(g), dtype=torch.float64).cos()).sum()


def by_layer(item):
    layer, name = item[0].split(".")
    return int(layer), name
