// Scene 2, the world's smallest net: P over its weights, the chain rule in numbers, and the rate constant.

import { list, number, numbers } from "./dom.js";
import { chainCode } from "./code.js";
import { History } from "./history.js";
import { TASKS, Trainer, largestError } from "./chain.js";
import { ChainPanels } from "./chain_panels.js";
import { CAP } from "./training.js";

const START = [0.55, -0.35, -1.2, 0.6]; // w1, T1, w2, T2 when the page opens

export class ChainScene extends ChainPanels {
  name = "smallest";
  title = "The world’s smallest net";
  short = "Smallest";
  lead =
    "One input, two neurons in a row, one output. It starts with random weights and learns to repeat its input. Press Run. Then drag a weight and see what it does to the performance P = −½(d − z)², which is at most 0.";

  constructor(changed) {
    super();
    this.changed = changed;
    Object.assign(this, { taskName: "repeat", rule: "fixed", rate: 5, sample: 1 });
    Object.assign(this, { start: [...START], here: {} }); // here: rate -> iterations from this start
    this.restart();
    this.build();
  }

  get task() {
    return TASKS[this.taskName];
  }
  get weights() {
    return this.trainer.weights;
  }
  get passes() {
    return this.trainer.passes;
  }
  get solvedAt() {
    return this.trainer.solvedAt;
  }

  restart() {
    const weights = this.start;
    this.trainer = new Trainer(weights, this.task, this.rule, this.rate);
    this.begin = [...weights]; // where the path and the count begin
    this.path = new History([...weights]);
    this.error = largestError(weights, this.task.samples);
    this.errors = new History(this.error);
    this.gridKey = null;
  }

  fresh() {
    this.start =
      this.taskName === "hill"
        ? [...TASKS.hill.start]
        : [1, 2, 3, 4].map(() => Number((4 * Math.random() - 2).toFixed(3)));
    this.here = {};
    this.restart();
    this.changed();
  }

  move(change) {
    // some weights, by hand: a new start
    this.start = Object.assign([...this.weights], change);
    this.here = {};
    this.restart();
    this.changed();
  }

  setTask(name) {
    const hill = name === "hill";
    Object.assign(this, {
      taskName: name,
      sample: 1,
      running: false,
      start: hill ? [...TASKS.hill.start] : [...START],
    });
    this.setup({ rate: hill ? 1.5 : 5 });
  }

  step() {
    this.trainer.step();
    this.path.push([...this.weights]);
    this.error = largestError(this.weights, this.task.samples);
    this.errors.push(this.error);
  }

  state() {
    return {
      task: this.taskName,
      w: list(this.begin),
      n: this.passes,
      rule: this.rule,
      rate: this.rate,
      speed: this.speed,
      sample: this.sample,
    };
  }

  load(q) {
    if (q.task in TASKS) this.taskName = q.task;
    if (["fixed", "adaptive", "every"].includes(q.rule)) this.rule = q.rule;
    this.readTraining(q);
    this.sample = Math.round(
      number(q.sample, 0, this.task.samples.length - 1, Math.min(this.sample, this.task.samples.length - 1)),
    );
    this.start =
      numbers(q.w, 4)?.map((w) => Math.max(-100, Math.min(100, w))) ??
      (this.taskName === "hill" ? [...TASKS.hill.start] : this.start);
    this.restart();
    for (let k = number(q.n, 0, CAP, 0); k >= 1; k--) this.step();
  }

  code() {
    return chainCode({
      weights: this.begin,
      task: this.task,
      rule: this.rule,
      rate: this.rate,
      close: this.task.close,
      cap: CAP,
    });
  }
}
