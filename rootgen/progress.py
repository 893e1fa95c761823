"""How far long work is, told by library code to whoever shows it; silent unless somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

T = TypeVar("T")
Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


def silent(what: str, done: int, total: int) -> None:
    """The Report of those who do not care."""


def tracked(items: Collection[T], what: str, report: Report = silent) -> Iterator[T]:
    """Yield `items`, telling `report` after each."""
    for done, item in enumerate(items, 1):
        yield item
        report(what, done, len(items))
