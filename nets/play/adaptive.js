// The rule of nets/optim/adaptive.py: the rates grow after good steps, and bad steps are undone.
//
// ρ is the actual increase of P over the predicted one, Σ rate·slope².
//   ρ < 0.15: the step is undone, and every rate is halved.
//   else:     every rate grows by 1 / (1 − ρ), at most 50 times; that of a weight whose slope changed sign is halved.
// No step predicts a gain of more than |P|, no weight moves by more than 2, and no rate is over 1000 times the smallest.

const MIN_GAIN = 0.15,
  MAX_MOVE = 2,
  SHRINK = 0.5,
  GROW = 50,
  MAX_RATIO = 1000;

export class Adaptive {
  constructor(weights, rate) {
    this.rate = weights.map(() => rate);
    this.kept = [...weights];
    this.slope = weights.map(() => 0);
    this.promised = 0;
    this.value = -Infinity;
  }

  // From the weights, the gradient of P there, and P: the new weights
  step(weights, gradient, p) {
    const gain = p - this.value,
      accepted = gain >= MIN_GAIN * this.promised;
    const growth = gain <= this.promised ? Math.min(this.promised / (this.promised - gain), GROW) : GROW;
    if (accepted) this.value = p;
    weights.forEach((w, k) => {
      const agreement = Math.sign(gradient[k]) * Math.sign(this.slope[k]);
      const pays = accepted && agreement >= 0;
      this.rate[k] *= pays ? (agreement > 0 ? growth : 1) : SHRINK;
      if (accepted) [this.kept[k], this.slope[k]] = [w, gradient[k]];
    });
    const most = MAX_RATIO * Math.min(...this.rate);
    this.rate = this.rate.map((r, k) => Math.min(r, most, MAX_MOVE / Math.abs(this.slope[k])));
    const promised = this.rate.reduce((sum, r, k) => sum + r * this.slope[k] * this.slope[k], 0);
    const possible = Math.abs(this.value),
      scale = promised > possible ? possible / promised : 1;
    this.rate = this.rate.map((r) => r * scale);
    this.promised = promised * scale;
    return this.kept.map((w, k) => w + this.rate[k] * this.slope[k]);
  }
}
