"""The files and folders of an image tree that are not read, by reason."""

import os

from nets.common.errors import printable

HIDDEN, SYSTEM = "hidden", "system folder"
BROKEN_LINK, LINKED_FOLDER = "broken link", "linked folder"
SPECIAL = "pipe, device or socket"
NO_CLASS = "not in a class folder"
# what operating systems, network drives and archives leave in folders
SYSTEM_FOLDERS = {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
SYSTEM_FOLDERS |= {"system volume information"}
NAMED = 3  # paths that are kept for each reason


def hidden_or_system(name: str) -> str:
    """Why nothing of this name is read, or ""."""
    return HIDDEN if name.startswith(".") else SYSTEM if name.casefold() in SYSTEM_FOLDERS else ""


class LeftOut:
    """Counts what is not read. A hidden, system or linked folder counts once, whatever it holds.

    counts  {reason: number of files and folders}
    first   {reason: its first paths, relative to the tree's root}
    """

    def __init__(self):
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[str]] = {}

    def add(self, reason: str, path: str):
        self.counts[reason] = self.counts.get(reason, 0) + 1
        first = self.first.setdefault(reason, [])
        if len(first) < NAMED:
            first.append(path)

    def add_ending(self, path: str):
        """A file whose ending is none of an image's."""
        ending = os.path.splitext(path)[1].lower()
        self.add(f"ending {printable(ending)}" if ending else "no ending", path)

    def facts(self) -> dict:
        """What result.json gets: {reason: {"count": …, "first": [paths]}}."""
        return {r: {"count": self.counts[r], "first": self.first[r]} for r in sorted(self.counts)}

    def line(self) -> str:
        """One line for the terminal, "" if nothing is left out."""
        parts = []
        for reason, fact in self.facts().items():
            more = ", …" if fact["count"] > len(fact["first"]) else ""
            parts.append(f"{reason}: {fact['count']} ({', '.join(map(printable, fact['first']))}{more})")
        return "; ".join(parts)
