"""Optional dependencies: the extras of pyproject.toml."""

import importlib

from nets.common.errors import UsageError


def require(module: str, extra: str, purpose: str):
    """The imported module of an extra. UsageError, which names the extra, if it isn't installed.

    purpose: what needs it, the start of the error.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UsageError(
            f"{purpose}: needs {package}; install it with `pip install {package}`,"
            f" or with the project's extra [{extra}]"
        ) from None
