"""Options that follow from the sizes of the inputs."""

import torch

from nets.layers.sizes import Computed, Size, num_inputs, resolve


def test_sizes_follow_the_inputs():
    xs = (torch.ones(6, 4), torch.ones(2, 3))
    option = (Size(0), -1, Computed("*", Size(1, 1), Computed("%", Size(0), 4)), [slice(None, Size(1))])
    assert resolve(option, xs) == (6, -1, 6, [slice(None, 4)])
    assert (
        num_inputs(Computed("+", Size(0), Size(0, 1))) == num_inputs(option) == 2
        and num_inputs((1, slice(Size(0), None))) == 1
        and num_inputs(()) == 1
    )
    assert str(option[0]) == "size(0)" and str(option[2]) == "(size(1 of input 1) * (size(0) % 4))"
    assert [Computed(o, 7, 2).of(xs) for o in ("+", "-", "*", "//", "%")] == [9, 5, 14, 3, 1]
