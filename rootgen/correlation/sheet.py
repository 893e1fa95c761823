"""Contact sheets: all pairs of a model on one page, sets of images and the untrained net beneath one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen.correlation import maps
from rootgen.correlation.report import FIGURES, TITLES, CorrelatedPair, shown_score
from rootgen.errors import printable
from rootgen.figures import save as figures
from rootgen.figures.save import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAIRS = 192  # on a sheet; more are on further ones
COLUMNS = 8, 16  # of pairs side by side: of few pairs, of many
FEW = 64
PANEL, GAP, HEAD, MARGIN = 1.5, 0.25, 0.55, 0.5  # inches: a map, what is between two, above a column, around all
LEAST = 5.5  # inches: the width of a sheet
NOTE = "rows: the earlier layer; colours from 0 (dark) to the number above; beneath a map its block score"
LINES = 8  # of group borders on a map
LETTERS = 27  # of a name above a map


@dataclass(frozen=True)
class _Panel:
    """A matrix, shrunk, with its rows and columns before that, its colours' top, and the score that it is of."""

    matrix: np.ndarray
    size: tuple[int, int]
    top: float
    borders: maps.Borders
    score: str


@dataclass(frozen=True)
class _Column:
    """What is above a column, and its maps by the name of their row."""

    head: str
    panels: dict[str, _Panel]


class Sheet:
    """The maps of one `kind` (whitened, covariance, within) of all pairs and controls that were added.

    A column is a pair (of `within`, a layer), a row a set of images, trained or not; each column has a colour scale
    of its own, whose top is told. What is kept is small, however large the matrices are.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.net = kind, ""
        self._columns: dict[tuple[str, ...], _Column] = {}

    def add(self, found: Sequence[CorrelatedPair]) -> None:
        """Take in the pairs of one set of images."""
        for one in found:
            self.net = one.net
            for which, names in _matrices(one, self.kind):
                column = self._columns.setdefault(names, _Column("\n→ ".join(map(_short, names)), {}))
                for each, suffix in ((one, ""), (one.control, ", untrained")):
                    name = f"{one.row.images}{suffix}"
                    if each is not None and name not in column.panels:
                        column.panels[name] = _panel(each, which)

    def drawings(self) -> list[Drawing]:
        """The sheet, or several where the pairs are many."""
        columns = list(self._columns.values())
        title = f"{self.net}: |{TITLES[self.kind]}|" if self.net else f"|{TITLES[self.kind]}|"
        return [Drawing(_drawn(columns[start : start + PAIRS], title)) for start in range(0, len(columns), PAIRS)]


def _panel(one: CorrelatedPair, which: str) -> _Panel:
    matrix = one.matrix(which)
    score = shown_score(one.score) if which == FIGURES[0] and not math.isnan(one.score) else ""
    size = (matrix.shape[0], matrix.shape[1])
    return _Panel(maps.shrunk(matrix), size, maps.limit(matrix), one.borders(which), score)


def _matrices(one: CorrelatedPair, kind: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Which matrices of a pair are of a `kind`, and the layers that they are of."""
    if kind == "within":
        yield "within_earlier", one.layers[:1]
        yield "within_later", one.layers[1:]
    else:
        yield kind, one.layers


def _short(name: str) -> str:
    """A name that fits above a map: its beginning and its end."""
    name = printable(name)
    half = (LETTERS - 1) // 2
    return name if len(name) <= LETTERS else f"{name[:half]}…{name[-half:]}"


class _Page:
    """A figure whose parts are put at inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = figures.new(width, height)
        self.figure.set_layout_engine("none")  # to have it worked out takes minutes where parts are many

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        """Words at a point."""
        self.figure.text(x / self.width, 1 - y / self.height, words, ha="center", **look)

    def axes(self, left: float, bottom: float, side: float) -> Axes:
        """A square."""
        width, height = self.width, self.height
        return self.figure.add_axes((left / width, 1 - bottom / height, side / width, side / height))


def _drawn(columns: Sequence[_Column], title: str) -> Figure:
    """Bands of columns below each other."""
    rows = list(dict.fromkeys(name for column in columns for name in column.panels))
    wide = min(len(columns), COLUMNS[len(columns) > FEW])
    band = HEAD + len(rows) * (PANEL + GAP)
    page = _Page(max(wide * (PANEL + GAP) + 2 * MARGIN, LEAST), -(-len(columns) // wide) * band + 2 * MARGIN)
    page.text(page.width / 2, 0.25, printable(title), va="center", fontsize=11)
    page.text(page.width / 2, page.height - 0.2, NOTE, va="center", fontsize=8, color="0.35")
    for index, column in enumerate(columns):
        number, across = divmod(index, wide)
        top = MARGIN + number * band
        if not across:
            for row, name in enumerate(rows):
                middle = top + HEAD + row * (PANEL + GAP) + PANEL / 2
                words = printable(name).replace(", ", "\n")
                page.text(0.25, middle, words, rotation=90, va="center", fontsize=8)
        _draw_column(page, column, rows, left=MARGIN + across * (PANEL + GAP), top=top)
    return page.figure


def _draw_column(page: _Page, column: _Column, rows: Sequence[str], *, left: float, top: float) -> None:
    """A column's head and maps."""
    scale = max(panel.top for panel in column.panels.values())
    middle = left + PANEL / 2
    head = f"{column.head}\n0 to {scale:.2g}"
    page.text(middle, top + HEAD - 0.05, head, va="bottom", fontsize=7, linespacing=1.1)
    for row, name in enumerate(rows):
        if name in column.panels:
            panel, bottom = column.panels[name], top + HEAD + row * (PANEL + GAP) + PANEL
            axes = page.axes(left, bottom, PANEL)
            maps.show(axes, panel.matrix, scale, panel.borders, size=panel.size, lines=LINES, ticks=False)
            axes.set_anchor("S")
            axes.spines[:].set_linewidth(0.5)
            page.text(middle, bottom + 0.03, panel.score, va="top", fontsize=7)
