"""The error of from_torch: everything that has no layer, how often, and where."""

from nets.common.errors import ModuleError

PLACES, KINDS = 3, 8  # how many are named


class Problems:
    """What isn't supported, collected while a module is converted.

    Every kind has its places: the name of the module, and the line of its forward if there is one.
    """

    def __init__(self):
        self.found: dict[str, dict[str, None]] = {}  # a dict as an ordered set

    def add(self, what: str | Exception, name: str, line: str = ""):
        """Add a problem of the module `name`, at a line of source."""
        place = name or "itself"
        self.found.setdefault(str(what), {})[f"{place}, {line}" if line else place] = None

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def error(self, kind: str) -> ModuleError:
        """The error for a module of this class: one line, or a line for each problem, at most ten in all."""
        lines = [f"{what} ({_places(list(places))})" for what, places in self.found.items()]
        if len(lines) == 1:
            return ModuleError(f"no layer here is for a part of {kind}: {lines[0]}")
        rest = [f"and {len(lines) - KINDS} more kinds"] if len(lines) > KINDS else []
        return ModuleError(
            "\n  ".join([f"no layer here is for these parts of {kind}:", *lines[:KINDS], *rest])
        )


def _places(places: list[str]) -> str:
    """The first places, and the number of the others."""
    shown = "; ".join(places[:PLACES])
    return f"{shown}; and {len(places) - PLACES} more places" if len(places) > PLACES else shown
