"""The console command `nets`: `nets COMMAND …` runs nets/commands/COMMAND.py.

A command's module has `parser()` and `main(argv)`. It is imported only when its command runs.
"""

import importlib
import signal
import sys

# command -> one line for `nets --help` and for the command's own help
COMMANDS = {
    "train": "Train a config's net with hand-written backward passes.",
    "eval": "Test a finished run again, or classify images with it.",
    "gradcheck": "Compare hand-written gradients with autograd and with finite differences.",
    "summary": "Print a net's layers: output shapes, parameters, multiplications, saved bytes.",
    "watch": "Show a run's curves while it trains, in the terminal or as an image.",
    "lecture": "Run the lecture's claims as experiments and write a page about them.",
    "play": "Open a page on which the lecture's nets, and a net for digits, learn as you watch.",
    "export": "Write a run's net as JSON, for the page of nets play.",
    "bench": "Time a train step, by hand and by autograd, of the same net on the same data.",
    "rates": "Measure the GFLOP/s of each 3 × 3 convolution of a config on this CPU.",
    "same-curve": "Compare the losses of the first steps, by hand and by autograd.",
    "survive": "Kill and resume a run many times, and check that it ends bit-identical.",
    "soak": "Train for many steps, and check that memory, files and threads do not grow.",
    "enlarge": "Scale a tree of small images up to a tree of larger ones.",
    "stream-bench": "Measure how long training waits for streamed images, by worker count.",
    "distributed-bench": "Time sums over processes, and how much of them backward hides.",
    "distributed-plan": "Estimate the time of a train step on many GPUs.",
}


def main(argv: list[str] | None = None) -> None:
    """Run a command: argv is its name and its arguments, sys.argv's by default."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback
    from nets.commands import cli

    signal.signal(signal.SIGINT, before)
    argv = sys.argv[1:] if argv is None else argv
    with cli.one_line_errors():
        if not argv or argv[0] in ("-h", "--help"):
            print(usage())
        elif argv[0] == "--version":
            print(_version())
        else:
            with cli.signals_end_at_once():  # importing torch takes seconds
                command = load(argv[0])
            command.main(argv[1:])


def load(name: str):
    """The module of a command. UsageError for an unknown name."""
    from nets.common.errors import UsageError, nearest

    if name not in COMMANDS:
        raise UsageError(f'"{name}" is not a command of nets{nearest(name, COMMANDS)} (see nets --help)')
    return importlib.import_module(f"nets.commands.{name.replace('-', '_')}")


def usage() -> str:
    """What `nets --help` prints: all commands, one a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, about in COMMANDS.items()]
    head = ["usage: nets COMMAND [ARGUMENT ...]", "", "Nets with hand-written backward passes.", ""]
    return "\n".join([*head, *lines, "", "`nets COMMAND --help` describes a command's arguments."])


def _version() -> str:
    from nets import __version__

    return f"nets {__version__}"
