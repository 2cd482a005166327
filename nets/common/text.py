"""Names and messages as a terminal can show them."""


def printable(text) -> str:
    """The text, with control characters, newlines and bytes that aren't UTF-8 as escapes such as \\x1b."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
