"""A net as a Mermaid flowchart."""

from nets.commands.summary import main
from nets.layers.activations import ReLU, Tanh
from nets.layers.arithmetic import Add, Mul
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph
from nets.layers.linear import Linear
from nets.layers.parameter import Parameter
from nets.report.drawing import mermaid


def test_a_row_is_a_row_of_boxes():
    assert mermaid(Sequential(Tanh(), Sequential(ReLU()))).splitlines() == [
        "flowchart TD",
        '  n1(["x"])',
        '  n2["Tanh()"]',
        "  n1 --> n2",
        '  n3["ReLU()"]',
        "  n2 --> n3",
        '  n4(["y"])',
        "  n3 --> n4",
    ]


def test_a_residual_ends_in_a_sum_of_its_paths():
    for net, arrows in (
        (Residual(Tanh()), ["n2 --> n3", "n1 --> n3"]),
        (Residual(Tanh(), ReLU()), ["n2 --> n4"]),
    ):
        text = mermaid(net)
        assert '["+"]' in text and all(arrow in text for arrow in arrows)


def test_a_graph_has_its_inputs_outputs_and_values():
    nodes = {
        "a": (Linear(2, 2), "one"),
        "w": (Parameter((2,)), "a"),
        "p": (Mul(), "a", "w"),
        "s": (Add(), "p", "two"),
    }
    text = mermaid(Graph(nodes, ("one", "two"), ("p", "s")))
    assert text.count('(["y"])') == 2 and '(["one"])' in text and '(["two"])' in text
    assert '  n4["Parameter(shape=(2,), trained=True)"]' in text and "--> n4" not in text
    assert "  n3 --> n5" in text and "  n4 --> n5" in text and "  n2 --> n6" in text


def test_the_command_draws_a_config(capsys):
    main(["cifar10_resnet", "--graph"])
    out = capsys.readouterr().out
    assert out.startswith("flowchart TD\n") and "Conv2d(3" in out and out.count('["+"]') == 2
