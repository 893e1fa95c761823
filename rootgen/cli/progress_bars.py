"""Progress bars for the terminal: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from rootgen.progress import Report

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def progress(*, unit: str = "", fields: Sequence[str] = ()) -> Progress:
    """A progress display on stderr (a context manager: `add_task`, `update`, `advance`); silent off a terminal.

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
    return Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True)


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
