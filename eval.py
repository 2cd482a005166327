"""`python eval.py` is the same as `nets eval`: see nets/commands/eval.py."""

import sys

from nets.commands import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
