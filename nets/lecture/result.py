"""The result of an experiment: a claim of the lecture, and its measurement."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass
class Result:
    """claim, formula, note and the sentences of `found` may contain simple HTML (<sub>, <sup>, <i>).

    held      did the claim hold? Computed from the figures
    figures   every measured number, ready for JSON; the same seed gives the same figures
    table     rows of cells; the first row is the head, and the numbers are among the figures
    pictures  (name, caption, figure); the first one has the experiment's name
    timings   measured seconds, and what is fitted to them; they vary from run to run
    timed     sentences about the timings
    """

    title: str
    claim: str
    formula: str
    held: bool
    found: list[str]
    figures: dict
    pictures: list[tuple[str, str, Figure]]
    table: list[list] = field(default_factory=list)
    note: str = ""
    timings: dict = field(default_factory=dict)
    timed: list[str] = field(default_factory=list)
