"""Checks hand-written gradients against autograd and against finite differences.

    check(layer, x)             a Report: its table, its rows, the tensors that are wrong
    check(f, *inputs)           the same for a torch.autograd.Function, a custom operator, a function that
                                uses them, a torch.nn.Module, or a pair (forward, backward) of functions
    assert_gradients(layer, x)  the same for a test: AssertionError with the table
    breaches(layer, x)          only the contract of a layer: sentences that say how it is broken

The command is `nets gradcheck`. A reading order: measure.py (how large a difference rounding can explain),
differences.py, probes.py, reference.py, trace.py, report.py, contract.py, single_layer.py, unjudged.py,
check.py, torch_module.py, precision.py. What isn't a layer: pairs.py, subject.py, transparent.py (the
sides), order.py, locate.py, inputs.py (the measurements), leaf.py, functions.py.
"""

from nets.gradcheck.check import check
from nets.gradcheck.contract import breaches
from nets.gradcheck.measure import compare
from nets.gradcheck.report import Report, Row

__all__ = ["Report", "Row", "assert_gradients", "breaches", "check", "compare"]


def assert_gradients(f, *inputs, **options):
    """AssertionError with the report's table unless check(f, *inputs, **options) is ok. For tests.

    One call checks one mode: call it after layer.train() and again after layer.eval().
    """
    __tracebackhide__ = True  # pytest then shows the line of the test instead of this one
    report = check(f, *inputs, **options)
    if not report.ok:
        raise AssertionError("\n" + report.table())
