"""A drawing of a net as a Mermaid flowchart: every layer is a box, every value an arrow.

Source: the syntax of https://mermaid.js.org/syntax/flowchart.html, which GitHub and GitLab draw.
"""

from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph


def mermaid(net: Layer) -> str:
    """The flowchart as text. A Sequential is a row of boxes, and a Residual ends in a sum."""
    drawing = _Drawing()
    inputs = net.inputs if isinstance(net, Graph) else ("x",)
    ends = drawing.layer(net, [drawing.box(name, rounded=True) for name in inputs])
    for end in ends:
        drawing.arrow(end, drawing.box("y", rounded=True))
    return "\n".join(["flowchart TD", *drawing.lines])


class _Drawing:
    """The lines of a flowchart, in order."""

    def __init__(self):
        self.lines: list[str] = []
        self.boxes = 0

    def box(self, text: str, rounded: bool = False) -> str:
        """A new box; its id."""
        self.boxes += 1
        left, right = ("([", "])") if rounded else ("[", "]")
        safe = text.replace('"', "'").replace("\n", " ")
        self.lines.append(f'  n{self.boxes}{left}"{safe}"{right}')
        return f"n{self.boxes}"

    def arrow(self, start: str, end: str):
        """An arrow between two boxes."""
        self.lines.append(f"  {start} --> {end}")

    def layer(self, layer: Layer, sources: list[str]) -> list[str]:
        """Draw a layer that takes the values of these boxes; the boxes of its outputs."""
        if isinstance(layer, Sequential):
            for child in layer:
                sources = self.layer(child, sources)
            return sources
        if isinstance(layer, Residual):
            branches = [self.layer(child, sources)[0] for child in layer.children.values()]
            return self._joined("+", branches if len(branches) == 2 else [*branches, *sources])
        if isinstance(layer, Graph):
            return self._graph(layer, sources)
        return self._joined(repr(layer), sources)

    def _joined(self, text: str, sources: list[str]) -> list[str]:
        box = self.box(text)
        for source in sources:
            self.arrow(source, box)
        return [box]

    def _graph(self, graph: Graph, sources: list[str]) -> list[str]:
        boxes = dict(zip(graph.inputs, sources, strict=True))
        for name, names in graph.sources.items():
            layer = graph.children[name]
            (boxes[name],) = self.layer(layer, [] if layer.constant else [boxes[n] for n in names])
        outputs = (graph.outputs,) if isinstance(graph.outputs, str) else graph.outputs
        return [boxes[name] for name in outputs]
