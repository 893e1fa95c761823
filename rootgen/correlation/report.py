"""What a correlation gives: matrices, images as in the paper's Fig. 6, and scores; and these as files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rootgen import errors
from rootgen.correlation.whitening import Correlation
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
    """One row of scores.csv: a pair on a set of images, its groups, and its block score (see block_score)."""

    images: str
    pair: str
    group: int
    score: float
    rows: int
    columns: int
    samples: int
    dead_rows: int
    dead_columns: int

    @property
    def shown(self) -> str:
        """The block score in a table; - where there are no blocks."""
        return "-" if math.isnan(self.score) else f"{self.score:.2f}"


def scores_table(scores: Sequence[Score]) -> Table:
    """Pair, images, groups, block score and samples of each."""
    rows = [(score.pair, score.images, score.group, score.shown, score.samples) for score in scores]
    return Table(("pair", "images", "group", "block score", "samples"), rows)


@dataclass(frozen=True, repr=False)
class CorrelatedPair:
    """Two layers' correlation: its matrices, its score, and figures as in the paper's Fig. 6; rows are the earlier.

    `row` holds the block score by `row.group` blocks and what it was taken from; `group` are the later layer's own
    groups, None where they are not known; `net` is the name that figures are headed with.
    """

    layers: tuple[str, str]
    correlation: Correlation
    row: Score
    group: int | None = None
    net: str = ""

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
        draw(figure, getattr(self.correlation, kind), labels, title=title, note=self._note())
        return figures.Drawing(figure)

    def name(self, kind: str) -> str:
        """The name of a figure's file, without a suffix."""
        if kind == FIGURES[0]:
            return self.row.pair
        return (
            f"{self.layers[kind == 'within_later']}_within" if kind.startswith("within") else f"{self.row.pair}_{kind}"
        )

    def _note(self) -> str:
        note = f"{self.row.images} images, {self.row.samples:,} samples"
        if self.group is not None:
            note += f"; {self.layers[1]}: {self.group} group{'s' if self.group > 1 else ''}"
        if self.group in (None, self.row.group) and not math.isnan(self.score):
            note += f", block score {self.score:.2f}"
        return note

    def __str__(self) -> str:
        return str(scores_table([self.row]))

    __repr__ = __str__

    def _repr_png_(self) -> bytes:
        return self.figure().png()


def save_arrays(path: str | Path, found: Sequence[CorrelatedPair]) -> None:
    """Put the matrices of every pair into one .npz: `conv2c-conv3a.whitened`, `.covariance`, `.within_earlier`, ..."""
    arrays = {f"{_member(one.row.pair)}.{name}": getattr(one.correlation, name) for one in found for name in FIGURES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: array.astype(np.float32) for name, array in arrays.items()})
    with replacing(path) as beside:
        beside.write_bytes(buffer.getvalue())


def _member(pair: str) -> str:
    """The name of a pair in an .npz, which is a zip archive: slashes stay, but no part leads out of a folder."""
    return "/".join(map(safe_name, pair.split("/")))


def save_scores(path: str | Path, scores: Sequence[Score]) -> None:
    """Put the scores into a CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Score))
    writer.writerows((*astuple(score)[:3], f"{score.score:.4f}", *astuple(score)[4:]) for score in scores)
    write_text(path, text.getvalue())


def draw(figure: Figure, matrix: np.ndarray, labels: tuple[str, str], *, title: str, note: str) -> None:
    """Fill `figure` with `matrix` as a map of values, from 0 to the value that one entry in a thousand exceeds."""
    axes = figure.add_subplot()
    top = float(np.quantile(matrix, 0.999)) or 1.0
    shown = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=top, interpolation="nearest", aspect="equal")
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    axes.set_title(printable(title), fontsize=10)
    axes.tick_params(labelsize=8)
    if note:
        figure.supxlabel(printable(note), fontsize=8, color="0.35")
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=8)


def label(layer: str, channels: int, size: tuple[int, int], group: int = 1) -> str:
    """Axis label of a layer: name, filters, size of its map, groups."""
    groups = f", {group} groups" if group > 1 else ""
    return f"{printable(layer)} ({channels} filters, {size[0]}×{size[1]}{groups})"
