"""The pictures of the lecture are readable on a phone."""

import pytest
from matplotlib.text import Text
from PIL import Image

from nets.lecture import EXPERIMENTS, page
from nets.lecture.adapting import adaptive_rate
from nets.lecture.approximator import FUNCTIONS, approximator
from nets.lecture.cross import cross, symmetry
from nets.lecture.hill import hill_climbing
from nets.lecture.neuron import neuron, threshold
from nets.lecture.rate import rate_constant
from nets.lecture.reuse import reuse
from nets.lecture.slope import performance, sigmoid
from nets.lecture.two_weight import two_weight

PICTURES = [
    lambda: neuron(),
    lambda: threshold(most=4, neurons=20),
    lambda: sigmoid(),
    lambda: performance(),
    lambda: two_weight(draws=3),
    lambda: hill_climbing(layers=(1,), repeats=1),
    lambda: rate_constant(starts=20, rates=(0.5, 5.0, 50.0), cap=1000),
    lambda: adaptive_rate(starts=5, rates=(0.5, 5.0), fixed=(5.0, 20.0), cap=500),
    lambda: symmetry(starts=3, passes=20),
    lambda: cross(starts=1, passes=20),
    lambda: reuse(paths=((2, 3),), rounds=0),
    lambda: approximator(steps=20, functions=dict(list(FUNCTIONS.items())[:1])),
]


@pytest.mark.parametrize("experiment", PICTURES, ids=list(EXPERIMENTS))
def test_pictures_are_readable_on_a_phone_and_say_what_is_to_be_seen(experiment, tmp_path):
    """A phone's column is 361 CSS pixels wide. Text has at least 12; a pixel is two of the picture's."""
    for name, _, figure in experiment().pictures:
        file = tmp_path / f"{name}.png"
        data = page._png(figure, file)
        width, _ = Image.open(file).size
        assert file.read_bytes() == data and width >= 2 * 480
        phone = 361 / (72 * figure.get_figwidth())  # CSS pixels a point
        small = [t for t in figure.findobj(Text) if t.get_text() and t.get_fontsize() * phone < 12]
        assert [(t.get_text(), t.get_fontsize()) for t in small] == []
        words = figure.get_label().split()
        assert len(words) > 15 and figure.get_label().endswith(".")
