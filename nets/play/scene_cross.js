// Scene 3, two neurons with cross connections: values flow forward, slopes flow back, and results are used again.

import { list, number, numbers } from "./dom.js";
import { crossCode } from "./code.js";
import { History } from "./history.js";
import { SOLVED } from "./chain.js";
import { crossPass, crossStep, withoutCross } from "./cross.js";
import { CrossPanels } from "./cross_panels.js";
import { STAGES } from "./cross_pictures.js";
import { CAP } from "./training.js";

export class CrossScene extends CrossPanels {
  name = "cross";
  title = "Two neurons with cross connections";
  short = "Cross";
  lead =
    "Two inputs, two neurons, two outputs. Every neuron feeds both outputs. Choose a truth table, or make your own, and let the net learn it. Then go through forward and backward, one column at a time.";

  constructor(changed) {
    super();
    this.changed = changed;
    Object.assign(this, { table: "00101001", links: true, rate: 4, sample: 2, stage: 0, width: 3, depth: 6 });
    this.restart([1.1, -0.6, 0.3, 1.4, 0.2, -0.5, -1.2, 0.8, 0.7, 1.3, 0.4, -0.1]);
    this.build();
  }

  get wanted() {
    return [0, 1, 2, 3].map((k) => [Number(this.table[2 * k]), Number(this.table[2 * k + 1])]);
  }

  restart(weights = this.start) {
    this.start = weights;
    this.begin = this.links ? [...weights] : withoutCross(weights);
    this.weights = [...this.begin];
    this.passes = 0;
    this.solvedAt = null;
    this.error = crossPass(this.weights, this.wanted, this.links).error;
    this.errors = new History(this.error);
  }

  fresh() {
    this.restart(this.weights.map(() => Number((4 * Math.random() - 2).toFixed(3))));
    this.changed();
  }
  step() {
    this.weights = crossStep(this.weights, this.wanted, this.rate, this.links);
    this.passes++;
    this.error = crossPass(this.weights, this.wanted, this.links).error;
    this.errors.push(this.error);
    if (this.error < SOLVED && this.solvedAt === null) this.solvedAt = this.passes;
  }

  state() {
    return {
      d: this.table,
      w: list(this.begin),
      n: this.passes,
      links: this.links ? 1 : 0,
      rate: this.rate,
      speed: this.speed,
      sample: this.sample,
      stage: this.stage,
      wide: this.width,
      deep: this.depth,
    };
  }

  load(q) {
    if (/^[01]{8}$/.test(q.d ?? "")) this.table = q.d;
    this.links = q.links !== "0";
    this.readTraining(q);
    for (const [key, name, low, high] of [
      ["sample", "sample", 0, 3],
      ["stage", "stage", 0, STAGES.length - 1],
      ["wide", "width", 2, 10],
      ["deep", "depth", 1, 12],
    ])
      this[name] = Math.round(number(q[key], low, high, this[name]));
    this.restart(numbers(q.w, 12)?.map((w) => Math.max(-100, Math.min(100, w))) ?? this.start);
    for (let k = number(q.n, 0, CAP, 0); k >= 1; k--) this.step();
  }

  code() {
    return crossCode({
      weights: this.begin,
      table: this.wanted,
      links: this.links,
      rate: this.rate,
      cap: CAP,
    });
  }

  playThrough() {
    clearInterval(this.timer);
    this.stage = 1;
    this.changed();
    this.timer = setInterval(() => {
      this.stage = (this.stage + 1) % STAGES.length;
      if (this.stage === 0 || !this.node.isConnected) clearInterval(this.timer);
      this.changed();
    }, 1600);
  }
}
