"""The lecture, alive: a page on which the lecture's nets and a net for digits learn as you watch.

The page is plain HTML, CSS and JavaScript, bundled into one file that makes no request. Its layers,
layers.js, are those of nets/layers: every forward has its backward directly below it.

    nets play                # writes the page and opens it
    nets export RUN          # writes a run's net as JSON, which the page can load
"""

from nets.play.bundle import page
from nets.play.weights import Exported, read, to_json

__all__ = ["Exported", "page", "read", "to_json"]
