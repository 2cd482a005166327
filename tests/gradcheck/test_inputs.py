"""Kinds of inputs that differ from those that are given."""

import torch

from nets.gradcheck import check
from nets.gradcheck.inputs import KINDS, others

X = torch.randn(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_kind_differs_and_keeps_the_signs():
    kinds = dict(others([X, "text", X], [0], 0))
    assert kinds.keys() == KINDS.keys()
    for kind, (changed, text, kept) in kinds.items():
        assert text == "text" and kept is X and not torch.equal(changed, X)
        assert torch.equal(changed.sign(), X.sign()) or kind == "zeros"
    assert kinds["ties"][0].abs().unique().numel() == 2 and (kinds["zeros"][0] == 0).any()


def test_a_mistake_far_from_the_given_numbers_is_found():
    def backward(dy, x):
        return torch.where(x < -20, 0, 2 * x * dy)

    report = check((lambda x: x * x, backward), X)
    assert not report.ok and "times)" in report.first_bad
    assert check((lambda x: x * x, backward), X, others=False).ok
