"""Numbers and names in print: their units, their digits, and how LaTeX and Markdown hold them unharmed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evospike.core.units import Unit

MISSING = "--"

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{\char96}",
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "τ": r"$\tau$",
    "µ": r"$\mu$",
    "…": r"\ldots{}",
    "–": r"\textendash{}",
    "’": "'",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""Characters that LaTeX would take for something else, and those of ours that plain fonts lack. A bracket or a star
after the end of a row would belong to that end."""

_MELTING = re.compile(r"([-'])(?=\1)")
"""Two of these side by side would become another character."""

_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$&#!]")


def count_unit(values: Iterable[float | None]) -> Unit:
    """Millions where that leaves every count three digits, else ones."""
    known = [abs(value) for value in values if value]
    return Unit("M", 1e6) if known and min(known) >= 1e6 else Unit("", 1.0)


def count_text(value: float | None, unit: Unit) -> str | None:
    """A count in its unit: whole, or with two digits behind the point."""
    if value is None:
        return None
    return f"{unit.of(value):,.0f}" if unit.size == 1 else f"{unit.of(value):,.2f}"


def share_text(value: float | None, spread: float | None = None, digits: int = 2) -> str | None:
    """A share as per cent without its sign, and half of its interval where there is one."""
    if value is None:
        return None
    text = f"{100 * value:.{digits}f}".replace("-", "−")
    return text if spread is None else f"{text} ± {100 * spread:.{digits}f}"


def number_text(value: float | None, digits: int = 4) -> str | None:
    """Significant digits."""
    return None if value is None else f"{value:.{digits}g}".replace("-", "−")


def one_line(text: object) -> str:
    """A text without what cannot be printed: line ends, control characters, halves of characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def latex(text: str | None) -> str:
    """A text as LaTeX prints it as it is; what is missing as a dash."""
    if text is None:
        return MISSING
    return _MELTING.sub(r"\1{}", "".join(_TEX.get(character, character) for character in one_line(text)))


def markdown(text: str | None) -> str:
    """A text as Markdown shows it as it is, also within a table; what is missing as two hyphens."""
    return MISSING if text is None else _MARKDOWN.sub(r"\\\g<0>", one_line(text))
