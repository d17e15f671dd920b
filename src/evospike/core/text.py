"""Texts that come from elsewhere, made fit for an error message and for a terminal."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from typing import Any

LONGEST = 80
"""Characters of one text or number within a quoted value."""

_KEPT = "\n\t"
_SPACE = re.compile(r"\s")


def harmless(text: str) -> str:
    """A text without what could command a terminal or hide in it: control characters, marks of direction and halves of
    characters become '?'. Line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT or unicodedata.category(c) == "Zs" else "?" for c in text)


def shown(value: Any) -> str:
    """A value as an error quotes it: as Python writes it, but short, however long, deep or large it is."""
    return _QUOTED.repr(value)


def shortened(text: str) -> str:
    """The start of a name, as an error shows it: in one line."""
    line = _SPACE.sub(" ", text[: LONGEST + 1])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


class _Quoted(reprlib.Repr):
    """`reprlib` with other lengths; and a whole number too long for Python to write is described."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = LONGEST
        self.maxlist = self.maxtuple = self.maxdict = 10

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length()} bits"


_QUOTED = _Quoted()
