"""Are hand-written gradients right? Manual against autograd against finite differences.

    check(layer, x)             a Report: its table, its rows, who is guilty
    assert_gradients(layer, x)  the same in a test: fails with the table
    breaches(layer, x)          the contract alone: sentences on what a layer does wrong

`nets gradcheck --help` is the command. Read measure.py (how far apart is too far),
differences.py, contract.py, report.py, alone.py, module.py and check.py, then precision.py, targets.py,
picture.py.
"""

from nets.gradcheck.check import check
from nets.gradcheck.contract import breaches
from nets.gradcheck.measure import compare
from nets.gradcheck.report import Report, Row

__all__ = ["Report", "Row", "assert_gradients", "breaches", "check", "compare"]


def assert_gradients(layer, x, **options):
    """For a test of a layer of your own: AssertionError with the report's table where it is off.

    x and options as in `check`; call it for each mode (layer.train(), layer.eval()).
    """
    __tracebackhide__ = True  # pytest then shows the test's line, and the table
    report = check(layer, x, **options)
    if not report.ok:
        raise AssertionError("\n" + report.table())
