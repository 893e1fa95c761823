"""The one exception that reaches the person at the terminal, and how it is worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RootgenError(Exception):
    """One line a person can act on: where it is, what was found, what to do.

    `what` gives the values found and the rule they break, `where` the file (and layer or line), and
    `hint` what to do about it. The command line prints `str(error)` and exits with 1.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        text = text if self.hint is None else f"{text} ({self.hint})"
        return printable(text)


def printable(text: str) -> str:
    """`text` on one line, with what steers a terminal or is no character at all written as escapes.

    A name in a file may hold anything: line breaks, control codes, marks that turn the direction of writing, half
    of a surrogate pair, what no XML may contain.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Hint naming the nearest known spelling of `name`, or the known names where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if names else "none are known"
