"""The one exception that reaches the person at the terminal, and how it is worded; arguments of Python calls held
against what they have to be: another kind is a TypeError that names the argument, a value out of range a RootgenError.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from operator import index
from os import PathLike, fspath
from typing import Any

_LIKELY = 0.75  # of difflib's ratio, 2 M / T: below it, guesses are more often wrong than right
_LEAST = 0.66  # one slip in a name of three letters
_NUMBER = re.compile(r"\d+")

_LONG_WORD = re.compile(r"(\S{300})\S{100,}")


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
        text = self.what if self.hint is None else f"{self.what} ({self.hint})"
        text = _LONG_WORD.sub(r"\1...", text)  # a name in a file may be as long as the file
        return printable(text if self.where is None else f"{self.where}: {text}")


@contextmanager
def standing_for(file: object, where: object, *, lines: bool = True) -> Iterator[None]:
    """Have errors about `file`, written for the moment, speak of `where`; without `lines`, of no line in it."""
    pattern = re.compile(re.escape(str(file)) + ("" if lines else r"(:\d+)?"))
    try:
        yield
    except RootgenError as error:
        error.what = pattern.sub(lambda _: str(where), error.what)
        error.where = error.where and pattern.sub(lambda _: str(where), error.where)
        raise


def printable(text: str) -> str:
    """`text` on one line, with what steers a terminal or is no character at all written as escapes.

    A name in a file may hold anything: line breaks, control codes, marks that turn the direction of writing, half
    of a surrogate pair, what no XML may contain.
    """
    if text.isprintable():
        return text
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


MOST = 2**31 - 1  # what Caffe's int32 fields hold


def wrong_type(name: str, value: object, wanted: str) -> TypeError:
    """The error for an argument of a Python call that is of another kind than `wanted`; it names the argument."""
    article = "an" if type(value).__name__[0].lower() in "aeiou" else "a"
    return TypeError(f"{name} is {article} {type(value).__name__}, not {wanted}")


def integer(name: str, value: Any) -> int:
    """The argument `name` as an int: NumPy's count, True and 8.0 do not."""
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise wrong_type(name, value, "a whole number")


def whole(name: str, value: object, least: int = 1, most: int = MOST) -> int | None:
    """The argument `name` as an int from `least` to `most`; None, which leaves it open, stays None."""
    if value is None:
        return None
    number = integer(name, value)
    if not least <= number <= most:
        raise RootgenError(f"{name} is {number}, but has to be from {least} to {most}")
    return number


def above_zero(name: str, value: object) -> float | None:
    """The argument `name` as a finite float above 0; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong_type(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not 0 < number < float("inf"):
        raise RootgenError(f"{name} is {number}, but has to be a number above 0")
    return number


def word(name: str, value: object, choices: Collection[str] = ()) -> str | None:
    """The argument `name` as text, one of `choices` where there are any; None stays None."""
    if value is not None and not isinstance(value, str):
        raise wrong_type(name, value, "text")
    if choices and value is not None and value not in choices:
        raise RootgenError(f"no {name} '{value}'", hint=did_you_mean(value, choices))
    return value


def path(name: str, value: object) -> str | None:
    """The argument `name` as a path; None stays None."""
    if value is None:
        return None
    found = fspath(value) if isinstance(value, (str, PathLike)) else None
    if not isinstance(found, str):
        raise wrong_type(name, value, "a path")
    return found


def needed_path(name: str, value: object) -> str:
    """The argument `name` as a path; prototxt given for one is told apart from a file that is not there."""
    place = path(name, value)
    if place is None:
        raise wrong_type(name, value, "a path")
    if "\n" in place and "{" in place:
        raise RootgenError(f"{name} is text and no path", hint="rootgen.parse takes the text of a net")
    return place


def paths(name: str, value: object) -> list[str]:
    """The argument `name`, a path or several, as paths; None is none."""
    if value is None:
        return []
    if isinstance(value, (str, PathLike)):
        return [needed_path(name, value)]
    if not isinstance(value, Iterable):
        raise wrong_type(name, value, "a path or several")
    return [needed_path(f"an element of {name}", one) for one in value]


def flag(name: str, value: object) -> bool:
    """The argument `name` as a bool."""
    if not isinstance(value, bool):
        raise wrong_type(name, value, "True or False")
    return value


def several(name: str, value: object, wanted: str = "a list of names") -> tuple[str, ...]:
    """The argument `name` as strings: a sequence of them and not one string, whose letters it would be."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise wrong_type(name, value, wanted)
    words = tuple(value)
    for one in words:
        if not isinstance(one, str):
            raise wrong_type(f"an element of {name}", one, "text")
    return words
