"""The lecture: every claim of MIT 6.034's lecture on neural nets as an experiment.

    nets lecture [NAME ...] [--device D] [--seed N] [--out DIR]

An experiment is a function of a seed and a device, and returns a `Result`. page.py writes the
results as an HTML page. Source: MIT 6.034, Fall 2010 and 2015, Patrick Winston, lectures 12a and
12b, "Neural nets".
"""

from nets.lecture import adapting, approximator, cross, hill, neuron, rate, reuse, slope, two_weight

EXPERIMENTS = {
    "neuron": neuron.neuron,
    "threshold": neuron.threshold,
    "sigmoid": slope.sigmoid,
    "performance": slope.performance,
    "hill-climbing": hill.hill_climbing,
    "two-weight": two_weight.two_weight,
    "rate-constant": rate.rate_constant,
    "adaptive-rate": adapting.adaptive_rate,
    "symmetry": cross.symmetry,
    "cross": cross.cross,
    "reuse": reuse.reuse,
    "approximator": approximator.approximator,
}
