"""PyTorch's own cases (tests/op_db.py): all that our layers take must pass, the rest be refused."""

import re
from functools import cache

import pytest
import torch

pytest.importorskip("expecttest", reason="torch's own cases need expecttest")
from tests import op_db

PAGE = op_db.PAGE.read_text(encoding="utf-8")
MANY = 60  # an operator with more cases than these is sampled, but with --deep
examine = cache(op_db.examine)


def passes(name, outcome):
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert 0 < outcome.passed == outcome.supported <= outcome.offered
    for reason in outcome.refused:
        assert re.search(rf"^- `{re.escape(name)}`, [\d,]+: {re.escape(reason)}$", PAGE, re.MULTILINE), reason


def listed(name) -> int:
    """How many cases torch offers, as the page has it."""
    return int(re.search(rf"^\| `{re.escape(name)}` \| ([\d,]+)", PAGE, re.MULTILINE)[1].replace(",", ""))


@pytest.mark.parametrize("name", op_db.ADAPTERS)
def test_supported_cases_pass_and_refused_ones_are_documented(name):
    every = 1 if listed(name) <= MANY else 17  # no divisor of the lists' periods: options of all kinds
    passes(name, op_db.examine(name, every) if every > 1 else examine(name))


@pytest.mark.deep
@pytest.mark.parametrize("name", [name for name in op_db.ADAPTERS if listed(name) > MANY])
def test_every_case_of_a_long_list_passes(name):
    passes(name, examine(name))


@pytest.mark.deep
def test_the_page_has_the_live_counts():
    """`python -m tests.op_db --write` brings it up to date."""
    version = re.search(r"torch (\d+\.\d+\.\d+)", PAGE)[1]
    if torch.__version__.split("+")[0] != version:
        pytest.skip(f"the page is of torch {version}, this is {torch.__version__}")
    live = op_db.report({name: examine(name) for name in op_db.ADAPTERS})
    on_page = [line for line in PAGE.splitlines() if line.startswith(("| `", "| all", "- `"))]
    assert on_page == [line for line in live.splitlines() if line.startswith(("| `", "| all", "- `"))]


@pytest.mark.parametrize("name", ["conv2d", "max_pool2d", "avg_pool2d", "gelu"])
def test_what_torch_refuses_is_refused_in_one_line(name):
    """By the layer, in one line: never by a traceback out of torch."""
    name = f"nn.functional.{name}"
    cases = list(op_db.OPS[name].error_inputs("cpu"))
    assert cases
    for case in cases:
        with pytest.raises(op_db.REFUSED) as refused:
            op_db.forward(op_db.ADAPTERS[name], case.sample_input, "reference")
        assert "\n" not in str(refused.value) and refused.type is not op_db.Unsupported


@pytest.mark.parametrize(
    "name, layer, wrong",
    [
        ("relu", op_db.ReLU, lambda self, saved, dy: (dy, {})),
        (
            "dropout",
            op_db.Dropout,
            lambda self, saved, dy: (dy if isinstance(saved, torch.Size) else dy * saved, {}),
        ),
        ("avg_pool2d", op_db.AvgPool2d, lambda self, saved, dy: (torch.zeros(saved).double(), {})),
    ],
)
def test_a_wrong_backward_does_not_pass(name, layer, wrong, monkeypatch):
    monkeypatch.setattr(layer, "backward", wrong)
    outcome = op_db.examine(f"nn.functional.{name}")
    assert outcome.wrong and "dx" in outcome.wrong[0] and outcome.passed < outcome.supported


def test_a_wrong_loss_does_not_pass(monkeypatch):
    right = op_db.MSELoss.__call__

    def half(self, z, d):
        loss, dz = right(self, z, d)
        return loss, dz / 2

    monkeypatch.setattr(op_db.MSELoss, "__call__", half)
    assert op_db.examine("nn.functional.mse_loss").passed == 0


def test_torchs_test_module_leaves_its_flags_settable():
    """Torch's test module forbids it to the whole process that imports it."""
    torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark
