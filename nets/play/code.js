// What is on the screen as Python that runs: `pip install -e .` and paste it.

import { button, el } from "./dom.js";

const rows = (values) => `[${values.map((row) => `[${row.join(", ")}]`).join(", ")}]`;

export function neuronCode({ weights, threshold }) {
  return `import torch
from nets import Linear

neuron = Linear(2, 1).to(torch.float64)
neuron.params["weight"][:] = torch.tensor([${weights.join(", ")}])
neuron.params["bias"][:] = ${-threshold}  # the threshold is -bias
x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
print((neuron(x) > 0).int().flatten().tolist())
`;
}

const STEPS = {
  fixed: (one) =>
    one
      ? `    for k in range(len(x)):  # an update after each sample
        z, saved = net.forward(x[k : k + 1])
        p, dz = loss(z, d[k : k + 1])
        optimizer.step(net.backward(saved, dz)[1])`
      : `    z, saved = net.forward(x)
    p, dz = loss(z, d)
    optimizer.step(net.backward(saved, dz)[1])`,
  adaptive: () => `    z, saved = net.forward(x)
    p, dz = loss(z, d)
    optimizer.step(net.backward(saved, dz)[1], loss=p)`,
  every: () => `    start = [w.item() for w in net.params.values()]
    best, most = start, loss(net(x), d)[0]
    for ways in itertools.product([0, -1, 1], repeat=len(start)):  # 3^n - 1 neighbors, and no step
        moved = [w + way * 0.1 for w, way in zip(start, ways)]
        put(moved)
        p = loss(net(x), d)[0]
        if p > most:
            best, most = moved, p
    put(best)`,
};

export function chainCode({ weights: [w1, t1, w2, t2], task, rule, rate, close, cap }) {
  const bias = task.learns[1] === 1,
    optimizer = rule === "adaptive" ? "Adaptive" : "SGD";
  const values = bias ? [w1, -t1, w2, -t2] : [w1, w2],
    option = bias ? "" : ", bias=False";
  const right = close ? `loss(net(x), d)[0] > ${close}` : "(net(x) - d).abs().max() < 0.1";
  return `import itertools

import torch
from nets import SGD, Adaptive, Linear, Performance, Sequential, Sigmoid

net = Sequential(Linear(1, 1${option}), Sigmoid(), Linear(1, 1${option}), Sigmoid()).to(torch.float64)
x = torch.tensor(${rows(task.samples.map(([x]) => [x]))}, dtype=torch.float64)
d = torch.tensor(${rows(task.samples.map(([, d]) => [d]))}, dtype=torch.float64)
loss = Performance()


def put(values):
    for w, value in zip(net.params.values(), values):
        w.fill_(value)


put([${values.join(", ")}])${bias ? "  # w1, -T1, w2, -T2" : "  # w1, w2"}
z, saved = net.forward(x)
p, dz = loss(z, d)
print("P", p.item())
_, grads = net.backward(saved, dz)
for name in net.params:
    print(name, grads[name].item())

optimizer = ${optimizer}(net.params, lr=${rate}, maximize=True)
for passes in range(1, ${cap + 1}):
${STEPS[rule](task.one)}
    if ${right}:
        print("right after", passes, "passes")
        break
`;
}

export function crossCode({ weights: w, table, links, rate, cap }) {
  const layer = (from) => `torch.tensor(${rows([w.slice(from, from + 2), w.slice(from + 2, from + 4)])})`;
  const bias = (from) =>
    `torch.tensor([${w
      .slice(from + 4, from + 6)
      .map((t) => -t)
      .join(", ")}])`;
  const step = links
    ? `        net.params[name] += ${rate} * g`
    : `        mask = torch.eye(2) if name.endswith("weight") else 1  # no cross connections
        net.params[name] += ${rate} * g * mask`;
  return `import torch
from nets import Linear, Performance, Sequential, Sigmoid

torch.set_default_dtype(torch.float64)
net = Sequential(Linear(2, 2), Sigmoid(), Linear(2, 2), Sigmoid())
net.load_state_dict({
    "0.weight": ${layer(0)},
    "0.bias": ${bias(0)},  # -T
    "2.weight": ${layer(6)},
    "2.bias": ${bias(6)},
})
x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
d = torch.tensor(${rows(table)}, dtype=torch.float64)
loss = Performance()
for passes in range(${cap + 1}):
    z, saved = net.forward(x)
    p, dz = loss(z, d)
    if passes == 0:
        print("P", p.item())
    elif dz.abs().max() < 0.1:
        print("right after", passes, "passes")
        break
    _, grads = net.backward(saved, dz)
    for name, g in grads.items():
${step}
`;
}

export function digitsCode({ pixels, shape: [channels, height, width], file, target, rate, steps }) {
  const source = file ? `read("${file.replace(/[\\"]/g, "")}")` : "read()  # the digits net of the page";
  const train =
    steps && target !== null
      ? `
loss = CrossEntropyLoss()
optimizer = SGD(net.params, lr=${rate})
for step in range(${steps}):
    z, saved = net.forward(x)
    _, dz = loss(z, torch.tensor([${target}]))
    optimizer.step(net.backward(saved, dz)[1])
`
      : "";
  return `import torch
from nets import SGD, CrossEntropyLoss
from nets.play import read

net, classes, shape, mean, std = ${source}
pixels = torch.tensor([${pixels.join(", ")}])
x = pixels.view(1, ${height}, ${width}).expand(${channels}, -1, -1) / 255
x = ((x - mean[:, None, None]) / std[:, None, None])[None]
${train}
p = net(x).softmax(1)[0]
for k in p.argsort(descending=True)[:5].tolist():
    print(classes[k], f"{p[k]:.4f}")
`;
}

// The panel with the code, which is made when it is opened
export function codePanel(make) {
  const pre = el("pre", { tabindex: 0, "aria-label": "Python code" }),
    details = el("details", { class: "panel code" });
  const copy = button("Copy", async () => {
    pre.textContent = make();
    try {
      await navigator.clipboard.writeText(pre.textContent);
      copy.textContent = "Copied";
    } catch {
      // a page from the disk may have no clipboard
      getSelection().selectAllChildren(pre);
      copy.textContent = "Selected";
    }
    setTimeout(() => {
      copy.textContent = "Copy";
    }, 1500);
  });
  details.append(el("summary", {}, "This, in Python"), el("div", { class: "row" }, copy), pre);
  const update = () => {
    if (details.open) pre.textContent = make();
  };
  details.addEventListener("toggle", update);
  return { node: details, update };
}
