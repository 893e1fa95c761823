"""Progress bars for the terminal: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rootgen.errors import printable
from rootgen.progress import Report

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


_shown: list[Progress] = []  # what stands on the terminal now


def say(text: str) -> None:
    """A line on stderr, whatever the names in it hold, above the bars that are shown there.

    Nobody who reads it any more ends no training.
    """
    text = printable(text)
    with suppress(OSError):
        if _shown:
            _shown[-1].console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr)


@contextmanager
def progress(*, unit: str = "", fields: Sequence[str] = ()) -> Iterator[Progress]:
    """A progress display on stderr (`add_task`, `update`, `advance`); silent off a terminal.

    `fields` name extra columns, each shown as `name value` from the task's keyword of that name.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        *(TextColumn(f"{name} {{task.fields[{name}]}}") for name in fields),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    disable = not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable, transient=True) as bar:
        if disable:
            yield bar
            return
        _shown.append(bar)
        try:
            yield bar
        finally:
            _shown.remove(bar)


def track(items: Collection[T], description: str, unit: str = "") -> Iterator[T]:
    """Yield `items` behind a progress bar."""
    with progress(unit=unit) as bar:
        task = bar.add_task(description, total=len(items))
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def bars(unit: str = "") -> Iterator[Report]:
    """A function for library code to report how far each piece of its work is; shown as one bar per piece."""
    with progress(unit=unit) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done)

        yield show
