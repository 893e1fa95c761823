"""Progress bars and tables for the terminal. Bars go to stderr, and only where it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


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


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> str:
    """Plain text table: first column left-aligned, columns of numbers right-aligned, two spaces between."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [i > 0 and all(_numeric(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    lines = [line(header), line(["-" * w for w in widths]), *(line(row) for row in cells)]
    return "\n".join([title, *lines] if title else lines) + "\n"


def _numeric(cell: str) -> bool:
    """Whether a cell reads as a number, perhaps with a unit, a sign or nothing in it."""
    return cell in ("", "-") or cell.lstrip("+-.")[:1].isdigit()
