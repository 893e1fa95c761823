"""Words and tables for people: shapes, sizes and percentages as text, and tables in plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


def quantity(count: int) -> str:
    """A count with three digits in a unit that suits it: 455 k, 103 M, 2.11 G; below ten thousand all of it."""
    if count < 10_000:
        return f"{count:,}"
    value, unit = float(count), ""
    for larger in ("k", "M", "G", "T", "P"):
        if float(f"{value:.3g}") < 1000:
            break
        value, unit = value / 1000, larger
    return f"{float(f'{value:.3g}'):.12g} {unit}".rstrip()


def byte_size(count: int) -> str:
    """Bytes in a unit that suits them."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"


@dataclass(frozen=True)
class Table:
    """Cells under a header, shown as plain text, Markdown, CSV or HTML; each cell is the text that `str` gives.

    In all but CSV the first column is left-aligned, and columns of numbers are right-aligned.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str | None = None

    def plain(self) -> str:
        """Columns with two spaces between; ends with a line break."""
        header, cells, right = self._header(), self._cells(), self._right()
        widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]

        def line(row: Sequence[str]) -> str:
            parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
            return "  ".join(parts).rstrip()

        lines = [line(header), line(["-" * w for w in widths]), *(line(row) for row in cells)]
        return "\n".join([printable(self.title), *lines] if self.title else lines) + "\n"

    def markdown(self) -> str:
        """A table of GitHub's Markdown, its title in bold above; ends with a line break."""

        def line(row: Sequence[str]) -> str:
            return "| " + " | ".join(map(escaped_markdown, row)) + " |"

        rule = "|" + "|".join("---:" if right else "---" for right in self._right()) + "|"
        lines = [line(self._header()), rule, *(line(row) for row in self._cells())]
        return "\n".join([f"**{escaped_markdown(self.title)}**", "", *lines] if self.title else lines) + "\n"

    def csv(self) -> str:
        """The header and a line per row, without the title; ends with a line break."""
        import csv
        import io

        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([list(self.header), *self.rows])
        return out.getvalue()

    def html(self) -> str:
        """A <table>, its title as the caption; ends with a line break."""
        from html import escape

        right = self._right()

        def line(row: Sequence[str], tag: str) -> str:
            parts = (
                f'<{tag} style="text-align: {"right" if r else "left"}">{escape(cell)}</{tag}>'
                for cell, r in zip(row, right, strict=True)
            )
            return f"<tr>{''.join(parts)}</tr>"

        caption = [f"<caption>{escape(printable(self.title))}</caption>"] if self.title else []
        head = f"<thead>{line(self._header(), 'th')}</thead>"
        body = ["<tbody>", *(line(row, "td") for row in self._cells()), "</tbody>"]
        return "\n".join(["<table>", *caption, head, *body, "</table>"]) + "\n"

    def __str__(self) -> str:
        return self.plain().rstrip("\n")

    def _repr_html_(self) -> str:
        return self.html()

    def _header(self) -> list[str]:
        return [printable(name) for name in self.header]

    def _cells(self) -> list[list[str]]:
        """What is shown: names from files may hold more than printable characters."""
        return [[printable(str(cell)) for cell in row] for row in self.rows]

    def _right(self) -> list[bool]:
        """Per column, whether it holds numbers."""
        cells = self._cells()
        return [i > 0 and all(_numeric(row[i]) for row in cells) for i in range(len(self.header))]


class Shown:
    """What a call gives back to look at: `str` and `repr` are its tables as text, and a notebook shows them as HTML."""

    def tables(self) -> list[Table]:
        """The tables that show it."""
        raise NotImplementedError

    def __str__(self) -> str:
        return joined(self.tables()).rstrip("\n")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(table.html() for table in self.tables())


def joined(tables: Iterable[Table]) -> str:
    """Tables as plain text, an empty line between."""
    return "\n".join(table.plain() for table in tables)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> str:
    """The plain text of a Table."""
    return Table(header, list(rows), title).plain()


def escaped_markdown(text: str) -> str:
    """`text` on one line, with what would begin markup or end a cell of a table escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", printable(" ".join(text.split())))


def _numeric(cell: str) -> bool:
    """Whether a cell reads as a number, perhaps with a unit, a sign or nothing in it."""
    return cell in ("", "-") or cell.lstrip("+-.")[:1].isdigit()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of one of the package's own CSV tables, by column."""
    import csv

    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
