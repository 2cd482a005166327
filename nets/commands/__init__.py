"""The console command: nets COMMAND …, which finds a command's module and runs its main()."""

import importlib
import sys

COMMANDS = {
    "gradcheck": "nets.commands.gradcheck",
    "bench": "nets.commands.bench",
    "lecture": "nets.commands.lecture",
    "watch": "nets.report.watch",
    "summary": "nets.report.summary",
    "survive": "nets.tools.survive",
    "soak": "nets.tools.soak",
    "enlarge": "nets.tools.enlarge",
    "stream-bench": "nets.tools.stream_bench",
}


def main():
    from nets.commands import cli

    name = sys.argv[1]
    sys.argv = [f"nets {name}", *sys.argv[2:]]
    with cli.one_line_errors():
        importlib.import_module(COMMANDS[name]).main()
