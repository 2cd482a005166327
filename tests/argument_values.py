"""Values for a command's arguments, mostly wrong in some way."""

import random
import string
from shlex import split

NUMBERS = split("0 -1 1 2 -0.5 1e3 .5 1. nan inf -inf 1_0 0x10 1e999 ٣ ½ ²")
NUMBERS += ["9" * 30, "-" + "9" * 30, "9" * 5000]
LISTS = split("1,2 1,,2 -1,3 4,3,8,8 [1] {} a=b")
DEVICES = split("auto cpu cuda cpu:0 cuda:99 cuda:-1 tpu")
SIGNS = ["", " ", "'", '"', "\\", *split("- -- = %s None True null 日本"), "é\u0301", "\u202e"]
SIGNS += ["\x1b[2J", "a\nb", "\x00", "a\0b", "\udcff", "a" * 5000]
PATHS = split("./../x . .. ~ ~/x ~nobody-here/x /dev/null /dev/full /dev/null/x /proc/self/mem")
FILES = split("folder folder/x file file/x pipe socket loop broken run tree image.png own.toml")
NAMES = split("digits two_weight Digits mine:make torchvision: torchvision:none os:getcwd : a:b:c")
WORDS = [*NUMBERS, *LISTS, *DEVICES, *SIGNS, *PATHS, *FILES, *NAMES]
KEYS = split("train.lr train.epochs seed net.layers net.layers.0 net.layers.-1.bias data.root data.source")
KEYS += ["", *split("name train x train.x.y eval.tta . data.size train.batch_size log.every_steps")]


def value(draw: random.Random, action) -> str:
    """A value for an argument: mostly wrong in some way."""
    kind = draw.random()
    if action.dest == "set" and kind < 0.7:
        return f"{draw.choice(KEYS)}{draw.choice(['=', '=', '=', '', ' = '])}{draw.choice(WORDS)}"
    if kind < 0.6:
        return draw.choice(WORDS)
    if kind < 0.7:
        return str(draw.randint(-(10 ** draw.randint(0, 40)), 10 ** draw.randint(0, 40)))
    if kind < 0.8:
        return repr(draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300))
    text = str(draw.choice([action.default, *(action.choices or ()), draw.choice(WORDS)]))
    signs = string.printable + "é日\u202e\udc80\U0001f600"
    for _ in range(draw.randint(1, 4)):
        place = draw.randint(0, len(text))
        text = text[:place] + draw.choice(["", draw.choice(signs)]) + text[place + draw.randint(0, 2) :]
    return text if not text.startswith("/") else "x" + text  # nothing is written outside the folder
