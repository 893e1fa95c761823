"""The one exception that reaches the person at the terminal, and how it is worded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LIKELY = 0.75  # of difflib's ratio, 2 M / T: below it, guesses are more often wrong than right
_LEAST = 0.66  # one slip in a name of three letters
_NUMBER = re.compile(r"\d+")


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
        # A name in a damaged file may hold anything; a line break or a control code would not stay one line.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UnknownNameError(RootgenError):
    """A `name` that the caller gave and that is none of `known`: wrong usage at the command line, exit code 2."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(what, hint=did_you_mean(name, known))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Hint naming the known spelling that `name` is most likely a slip of, or the known names where none is likely."""
    names = sorted(known)
    likely = nearest(name, names)
    if likely is not None:
        return f"did you mean '{likely}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if names else "none are known"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name among `known` that `name` is most likely a slip of; None where a guess would likely be wrong.

    Case aside, three quarters of the letters agree, or all but one slip (a letter more, less, other, or two swapped)
    in a name of three letters or more. Where numbers differ (resnet18, resnet152) there is that one slip at most.
    """
    spellings: dict[str, str] = {}
    for spelling in known:
        spellings.setdefault(spelling.casefold(), spelling)
    typed = name.casefold()
    for near in difflib.get_close_matches(typed, spellings, n=max(1, len(spellings)), cutoff=_LEAST):
        slip = _one_slip(typed, near)
        same_numbers = _NUMBER.findall(typed) == _NUMBER.findall(near)
        if slip or (same_numbers and difflib.SequenceMatcher(None, near, typed).ratio() >= _LIKELY):
            return spellings[near]
    return None


def _one_slip(a: str, b: str) -> bool:
    """Whether `a` becomes `b` by one letter more, less or other, or by a swap of two that are side by side."""
    start = _same(a, b)
    end = min(_same(a[::-1], b[::-1]), len(a) - start, len(b) - start)
    x, y = a[start : len(a) - end], b[start : len(b) - end]
    return (len(x) <= 1 and len(y) <= 1) or (len(x) == 2 and x == y[::-1])


def _same(a: str, b: str) -> int:
    """How many letters `a` and `b` have in common from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
