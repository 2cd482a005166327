"""nets summary: the table that it prints."""

from pathlib import Path

import pytest

from nets.commands import cli
from nets.commands import summary as command
from nets.common.errors import UsageError

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.toml"))


ALEXNET = next(p for p in CONFIGS if p.stem == "alexnet")


def shown(capsys, *args):
    command.main([*map(str, args)])
    return capsys.readouterr().out.splitlines()


def test_table_of_alexnet(capsys):
    lines = shown(capsys, ALEXNET)
    assert lines[0].split() == ["layer", "output", "parameters", "multiplications", "saved", "bytes"]
    assert lines[1].split() == [
        "0",
        "(Conv2d)",
        *["1", "×", "96", "×", "55", "×", "55"],
        "34,944",
        "105,415,200",
        "602,112",
    ]
    assert lines[-1].split() == ["all", "60,965,224", "724,406,816", "4,468,512"]
    assert len(lines) == 25


def test_a_batch_multiplies_all_but_the_parameters(capsys):
    one = shown(capsys, ALEXNET)[-1].replace(",", "").split()[1:]
    many = shown(capsys, ALEXNET, "--batch", 128)[-1].replace(",", "").split()[1:]
    factors = [int(b) / int(a) for a, b in zip(one, many)]
    assert factors == [1, 128, 128]


def test_recompute_keeps_less(capsys):
    path = CONFIGS[0].with_name("cifar10.toml")
    whole, less = (
        int(shown(capsys, path, *more)[-1].replace(",", "").split()[-1])
        for more in (("--set", "net.recompute=false"), ("--set", "net.recompute=true"))
    )
    assert less < 0.8 * whole


def test_layers_inside_blocks_have_nested_names(capsys):
    lines = shown(capsys, CONFIGS[0].with_name("cifar10_resnet.toml"))
    assert any(line.startswith("7.body.3 (Conv2d)") for line in lines)


def test_wrong_arguments_are_usage_errors(capsys):
    with pytest.raises(UsageError, match="--batch: must be at least 1"):
        shown(capsys, ALEXNET, "--batch", 0)
    with pytest.raises(SystemExit) as left, cli.one_line_errors():
        shown(capsys, ALEXNET, "--set", "train.rat=1")
    assert left.value.code == 2
