"""What the commands share: a parser whose errors are one line, common arguments, and exit codes."""

import argparse
import contextlib
import os
import signal
import sys
import threading

from nets.commands import COMMANDS, streams
from nets.common.errors import DataError, PeerError, Problem, Stopped, Terminated, UsageError, printable

LARGEST = 2**31 - 1  # of whole numbers; a seed may be larger
PIPE_CLOSED = 141  # as a shell names SIGPIPE


class _Parser(argparse.ArgumentParser):
    """Takes options and other arguments in any order; an error is a UsageError of one line."""

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        if any(a == "-h" or (a > "--" and "--help".startswith(a)) for a in args):
            return super().parse_args(args, namespace)  # the other way prints no defaults in the help
        for a in args:
            if a.startswith("--") and a.endswith("=--"):  # argparse would take it as an empty list
                self.error(f"argument {a[:-3]}: expected one argument")
        return self.parse_intermixed_args(args, namespace)

    def error(self, message):
        message = message if len(message) < 300 else f"{message[:200]} … {message[-80:]}"
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Formatter(argparse.HelpFormatter):
    """Keeps the description's paragraphs, and ends an argument's help with its default."""

    def _fill_text(self, text, width, indent):
        fill = super()._fill_text
        # a paragraph with indented lines is a table or a command: it stays as it is
        return "\n\n".join(p if "\n " in "\n" + p else fill(p, width, indent) for p in text.split("\n\n"))

    def _get_help_string(self, action):
        text = action.help or ""
        if not has_default(action) or "(default" in text:
            return text
        return text + " (default: %(default)s)"


def has_default(action: argparse.Action) -> bool:
    """Is there a default that the help must name? Not for a flag that is off or a list that is empty."""
    return (
        not any(action.default is none for none in (None, False, argparse.SUPPRESS)) and action.default != []
    )


def parser(command: str, details: str = "") -> argparse.ArgumentParser:
    """A parser for `nets COMMAND`. details: what the help says after the command's one line."""
    about = f"{COMMANDS[command]}\n\n{details}".strip()
    return _Parser(prog=f"nets {command}", description=about, formatter_class=_Formatter)


def add_config(parser: argparse.ArgumentParser, default: str | None = "digits") -> None:
    """CONFIG, which is required where default is None, and --set."""
    about = "name of a shipped config, such as cifar10, or path of a TOML file"
    if default is None:
        parser.add_argument("config", metavar="CONFIG", help=about)
    else:
        parser.add_argument("config", nargs="?", default=default, metavar="CONFIG", help=about)
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a key of the config, such as train.epochs=20; can be given several times",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (CUDA where available), cpu, cuda or cuda:N")


def add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root", type=path, metavar="DIR", help="folder of the data set (default: the config's)"
    )


def add_seed(parser: argparse.ArgumentParser, help: str, default: int | None = None) -> None:
    parser.add_argument("--seed", type=at_least(0, 2**63 - 1), default=default, metavar="N", help=help)


def at_least(least: int, most: int = LARGEST):
    """An argument's type: a whole number from `least` to `most`."""

    def whole(text: str) -> int:
        return _in_range(int(text), least, most)

    whole.__name__ = "whole number"  # as argparse names the type in its errors
    return whole


def between(least: float, most: float):
    """An argument's type: a number from `least` to `most`."""

    def number(text: str) -> float:
        return _in_range(float(text), least, most)

    return number


def _in_range(value, least, most):
    if least <= value <= most:
        return value
    bound = f"at most {most}" if value > most else f"at least {least}"
    raise argparse.ArgumentTypeError(f"must be {bound}, got {value}")


def path(text: str) -> str:
    """An argument's type: the path of a file or folder, with ~ expanded."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return os.path.expanduser(text)


def new_file(text: str) -> str:
    """An argument's type: the path of a file to write, in a folder that is there."""
    file = path(text)
    if os.path.isdir(file) or not os.path.isdir(os.path.dirname(file) or "."):
        problem = "is a folder" if os.path.isdir(file) else "no such folder"
        raise argparse.ArgumentTypeError(f"{text}: {problem}")
    return file


def load_config(args: argparse.Namespace, before=(), after=()):
    """The config of add_config's and add_data_root's arguments.

    before, after: more overrides "a.b=v", which --set overrides, and which override --set.
    """
    from nets.training import config
    from nets.training.toml import toml

    overrides = [*before, *args.set, *after]
    if getattr(args, "data_root", None) is not None:
        overrides.append(f"data.root={toml(args.data_root)}")
    return config.load(args.config, overrides)


@contextlib.contextmanager
def signals_end_at_once():
    """Around imports: a signal ends the process with one line. An exception could be lost in a library."""

    def leave(number, frame):
        streams.print_error(f"error: {Stopped(number)}")
        os._exit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # only there can handlers be set
    before = {kind: signal.signal(kind, leave) for kind in (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextlib.contextmanager
def one_line_errors():
    """Around a command's work: a problem becomes one line on stderr and an exit code."""

    def terminate(*_):
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    streams.accept_every_sign()
    try:
        yield
        streams.flush()
    except PeerError as e:
        _print(e)
        streams.end()
        os._exit(e.code)  # a thread of this process may wait for the dead process forever
    except Problem as e:
        _print(e)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a data loader's workers end now without a message
        raise SystemExit(e.code) from None
    except MemoryError:
        _leave("out of memory; a smaller train.batch_size needs less", UsageError.code)
    except RuntimeError as e:  # torch.OutOfMemoryError is one
        if type(e).__name__ == "OutOfMemoryError":
            _leave(f"out of device memory; a smaller train.batch_size needs less ({e})", UsageError.code)
        if "DataLoader worker" in str(e):  # raised by a signal handler, at any place
            _leave(f"data.num_workers: {e}; fewer workers need less memory", UsageError.code)
        if "can't allocate memory" not in str(e):
            raise
        _leave("out of memory; a smaller train.batch_size needs less", UsageError.code)
    except BrokenPipeError:  # `| head` has read enough
        raise SystemExit(PIPE_CLOSED) from None
    except OSError as e:
        _leave(f"{e.filename or 'file or standard output'}: {e.strerror or e}", DataError.code)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    finally:
        streams.end()


def _print(e: Problem):
    if not e.reported:
        streams.print_error("error: " + printable(str(e)))


def _leave(message: str, code: int):
    _print(Problem(message))
    raise SystemExit(code)
