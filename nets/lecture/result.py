"""What an experiment hands back: a claim of the lecture, and what was measured of it."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass
class Result:
    """claim, formula, note and the lines of `found` may hold simple HTML (<sub>, <sup>, <i>).

    held      did the claim hold: computed from the figures
    figures   every number that was measured, ready for JSON; same seed, same figures
    timings   measured seconds and what is fitted to them: these vary from run to run;
              `timed` says them in words
    table     rows to show, the first of them the head; its numbers are among the figures
    pictures  (name, what it shows, figure); the first one's name is the experiment's
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
