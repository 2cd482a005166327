"""The claims at reduced size: a test fails when its claim is broken."""

import torch

from nets.lecture.reuse import dense, every_path, formula, multiplications, reuse


def test_the_reuse_claim_holds():
    found = reuse(paths=((2, 5), (3, 4)), rounds=0)
    assert found.held
    assert found.figures["largest_relative_difference"] < 1e-12
    for row in found.figures["compared"][1:]:  # the multiplications of the sum over paths, by formula
        width, depth, paths, literal, ours, _ = row
        assert paths == width**depth and literal == paths * (3 * depth - 1 + width)
        assert ours == formula(width, depth, 1)


def test_the_reuse_claim_fails_without_some_paths():
    def all_but_one(net, x, d):
        dw, count = every_path(net, x, d)
        dw[0] *= 0.999
        return dw, count

    assert not reuse(paths=((2, 3),), rounds=0, rule=all_but_one).held


def test_work_grows_with_depth_and_the_square_of_width():
    def work(width, depth):
        net, x = dense(width, depth, "cpu"), torch.rand(3, width, dtype=torch.float64)
        return multiplications(net, x, x)

    assert work(8, 6) == 3 * work(8, 2)
    assert work(24, 2) == 9 * work(8, 2)
