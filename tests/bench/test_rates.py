"""nets rates: a row for each convolution."""

import pytest


def test_rates_of_every_convolution(capsys):
    from nets.commands import rates
    from nets.kernels import native

    if native.library() is None:
        pytest.skip("no compiler")

    rates.main(["cifar10", "--batch", "2", "--times", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [a, "→", b] for a, b in [("24", "64"), ("64", "64"), ("64", "256"), *[("256", "256")] * 3]
    ]
    assert all(float(v.replace(",", "")) > 0 for line in lines[1:] for v in line.split()[-6:])
