"""Words and tables for people: shapes, sizes and percentages as text, and tables in plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rootgen.errors import RootgenError, printable

SIZE_MAX = 2**31 - 1  # Caffe keeps sizes and counts in a C int


def shape_text(shape: Sequence[int]) -> str:
    """A shape as errors and tables show it: 1x3x224x224; a scalar is ()."""
    return "x".join(map(str, shape)) or "()"


def parse_shape(value: str, axes: int | None = None) -> tuple[int, ...]:
    """The shape that a word such as 3x224x224 gives."""
    parts = value.lower().split("x")
    if not all(part.isdecimal() and len(part) < 11 and 0 < int(part) <= SIZE_MAX for part in parts):
        raise RootgenError(f"'{value}' is no shape", hint="sizes of 1 or more with x between, as 3x224x224")
    if axes is not None and len(parts) != axes:
        raise RootgenError(f"'{value}' has {len(parts)} sizes, not {axes}", hint="channels, height, width: 3x224x224")
    return tuple(map(int, parts))


def percent_change(old: int, new: int) -> str:
    """The change from `old` to `new` in percent."""
    return f"{100 * (new - old) / old:+.1f}%" if old else "-"


def byte_size(count: int) -> str:
    """Bytes in a unit that suits them."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> str:
    """Plain text table: first column left-aligned, columns of numbers right-aligned, two spaces between.

    What cells, names from files often, hold beyond printable characters is shown as escapes.
    """
    header = [printable(cell) for cell in header]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [i > 0 and all(_numeric(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    lines = [line(header), line(["-" * w for w in widths]), *(line(row) for row in cells)]
    return "\n".join([printable(title), *lines] if title else lines) + "\n"


def _numeric(cell: str) -> bool:
    """Whether a cell reads as a number, perhaps with a unit, a sign or nothing in it."""
    return cell in ("", "-") or cell.lstrip("+-.")[:1].isdigit()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of one of the package's own CSV tables, by column."""
    import csv

    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
