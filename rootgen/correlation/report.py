"""What a correlation gives: matrices, figures of them, and scores; and these as files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen import errors
from rootgen.correlation import maps
from rootgen.correlation.whitening import Blocks, Correlation
from rootgen.errors import printable
from rootgen.figures import save as figures
from rootgen.figures.save import Drawing
from rootgen.files import replacing, safe_name, write_text
from rootgen.text import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FIGURES = ("whitened", "covariance", "within_earlier", "within_later")
TITLES = {
    "whitened": "whitened inter-layer covariance",
    "covariance": "inter-layer covariance",
    "within": "correlation within the layer",
}


@dataclass(frozen=True)
class Score:
    """One row of scores.csv: a pair on a set of images, the blocks that it is scored by, and its score (see Blocks).

    untrained_score: of the same net before training; nan where there is no such control. sizes: of the groups, inputs
    and outputs, where they are not alike.
    """

    images: str
    pair: str
    group: int
    score: float
    rows: int
    columns: int
    samples: int
    dead_rows: int
    dead_columns: int
    offset: int = 0
    channels: int = 0
    untrained_score: float = math.nan
    sizes: str = ""

    @property
    def blocks(self) -> Blocks:
        """What the score is by."""
        return Blocks(self.rows, self.columns, self.group, self.offset, self.channels, self.sizes)


def shown_score(value: float) -> str:
    """A block score in a table; - where there are no blocks."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def scores_table(scores: Sequence[Score]) -> Table:
    """Pair, images, groups, block score, where there is one that of the untrained net, and samples of each."""
    controlled = not all(math.isnan(score.untrained_score) for score in scores)
    header = ("pair", "images", "group", "block score", *(["untrained"] if controlled else []), "samples")
    rows = []
    for score in scores:
        control = [shown_score(score.untrained_score)] if controlled else []
        rows.append((score.pair, score.images, score.group, shown_score(score.score), *control, score.samples))
    return Table(header, rows)


@dataclass(frozen=True, repr=False)
class CorrelatedPair:
    """Two layers' correlation: its matrices, its score, and figures as in the paper's Fig. 6; rows are the earlier.

    `row` holds the block score by `row.group` blocks and what it was taken from; `group` are the later layer's own
    groups, None where they are not known; `net` is the name that figures are headed with; `control` is the same of
    the untrained net.
    """

    layers: tuple[str, str]
    correlation: Correlation
    row: Score
    group: int | None = None
    net: str = ""
    control: CorrelatedPair | None = None

    @property
    def whitened(self) -> np.ndarray:
        """|S11^-1/2 S12 S22^-1/2|, earlier x later."""
        return self.correlation.whitened

    @property
    def covariance(self) -> np.ndarray:
        """|S12|, earlier x later."""
        return self.correlation.covariance

    @property
    def within(self) -> tuple[np.ndarray, np.ndarray]:
        """Absolute correlation coefficients inside the earlier layer, and inside the later."""
        return self.correlation.within_earlier, self.correlation.within_later

    @property
    def score(self) -> float:
        """Mean inside the group blocks of `whitened` over the mean outside; 1 is no structure, nan no blocks."""
        return self.row.score

    def figure(self, kind: str = FIGURES[0]) -> Drawing:
        """One of the matrices as an image, rows and columns labelled: `kind` is one of FIGURES."""
        errors.word("kind", kind, FIGURES)
        earlier, later = (
            label(layer, count, size)
            for layer, count, size in zip(self.layers, self.whitened.shape, self.correlation.sizes, strict=True)
        )
        labels = {"within_earlier": (earlier, earlier), "within_later": (later, later)}.get(kind, (earlier, later))
        what = TITLES[kind.partition("_")[0]]
        figure = figures.new(4.6, 4.4)
        title = f"{self.net}: |{what}|" if self.net else f"|{what}|"
        _draw(figure, self.matrix(kind), self.borders(kind), labels, title=title, note=self._note(kind))
        return figures.Drawing(figure)

    def matrix(self, kind: str) -> np.ndarray:
        """One of the matrices, by its name in FIGURES."""
        found: np.ndarray = getattr(self.correlation, kind)
        return found

    def borders(self, kind: str) -> maps.Borders:
        """Where groups begin, along both axes of a matrix."""
        rows, columns = self.row.blocks.borders
        return {"within_earlier": (rows, rows), "within_later": (columns, columns)}.get(kind, (rows, columns))

    def name(self, kind: str) -> str:
        """The name of a figure's file, without a suffix."""
        if kind == FIGURES[0]:
            return self.row.pair
        return (
            f"{self.layers[kind == 'within_later']}_within" if kind.startswith("within") else f"{self.row.pair}_{kind}"
        )

    def _note(self, kind: str) -> str:
        note = f"{self.row.images} images, {self.row.samples:,} samples"
        if self.group is not None:
            note += f"; {self.layers[1]}: {self.group} group{'s' if self.group > 1 else ''}"
        if kind != FIGURES[0] or math.isnan(self.score):  # which the score is of, and of no other
            return note
        blocks = "" if self.group in (None, self.row.group) else f" by {self.row.group} blocks"
        control = "" if self.control is None else f", untrained {self.control.score:.2f}"
        return f"{note}, block score{blocks} {self.score:.2f}{control}"

    def __str__(self) -> str:
        return str(scores_table([self.row]))

    __repr__ = __str__

    def _repr_png_(self) -> bytes:
        return self.figure().png()


def save_arrays(path: str | Path, found: Sequence[CorrelatedPair]) -> None:
    """Put the matrices of every pair into one .npz: `conv2c-conv3a.whitened`, `.covariance`, `.within_earlier`, ..."""
    names = members([one.row.pair for one in found])
    arrays: dict[str, Any] = {
        f"{names[one.row.pair]}.{kind}": one.matrix(kind).astype(np.float32) for one in found for kind in FIGURES
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with replacing(path) as beside:
        beside.write_bytes(buffer.getvalue())


def members(pairs: Iterable[str]) -> dict[str, str]:
    """Names of pairs in an .npz, which is a zip archive: slashes stay, but no part leads out of a folder."""
    names: dict[str, str] = {}
    for pair in pairs:
        name = "/".join(map(safe_name, pair.split("/")))
        names[pair] = name if name not in names.values() else safe_name(pair, names.values())
    return names


def save_scores(path: str | Path, scores: Sequence[Score]) -> None:
    """Put the scores into a CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Score))
    writer.writerows([f"{cell:.4f}" if isinstance(cell, float) else cell for cell in astuple(one)] for one in scores)
    write_text(path, text.getvalue())


def _draw(
    figure: Figure, matrix: np.ndarray, borders: maps.Borders, labels: tuple[str, str], *, title: str, note: str
) -> None:
    """Fill `figure` with `matrix` as a map of values."""
    axes = figure.add_subplot()
    shown = maps.show(axes, matrix, maps.limit(matrix), borders)
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    figure.suptitle(printable(title), fontsize=10)
    axes.tick_params(labelsize=8)
    if note:
        figure.supxlabel(printable(note), fontsize=7, color="0.35")
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, panchor=False)
    bar.ax.tick_params(labelsize=8)


def label(layer: str, channels: int, size: tuple[int, int]) -> str:
    """Axis label of a layer: name, filters, size of its map."""
    return f"{printable(layer)} ({channels} filters, {size[0]}×{size[1]})"
