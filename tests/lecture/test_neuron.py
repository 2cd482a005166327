"""The claims at reduced size: a test fails when its claim is broken."""

import torch

from nets.lecture.neuron import every_neuron, neuron, threshold


def test_the_neuron_claim_holds():
    found = neuron(sizes=(1, 2, 3))
    assert found.held
    assert [row[2] for row in found.table[1:]] == [4, 14, 104]  # OEIS A000609, threshold functions
    assert found.figures["impossible_with_two_inputs"] == ["0110", "1001"]
    assert every_neuron(2, "cpu")[0].dtype == torch.bool  # all or none


def test_the_threshold_claim_holds():
    found = threshold(most=6, neurons=50)
    assert found.held and found.figures["differ"] == 0 < found.figures["ties"]
    assert (
        sum(row[4] for row in found.table[1:]) == found.figures["ties"]
    )  # with ≥ it would be another neuron
