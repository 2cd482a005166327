"""`python train.py` is the same as `nets train`: see nets/commands/train.py."""

import sys

from nets.commands import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
