"""Matrices as maps of values: one look for a single figure, for a sheet of many and for nets beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rootgen.figures import save as figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

NARROWEST = 3  # times as high as wide, or as wide as high: what is narrower is stretched
TICKS = 9  # at most, on an axis
SHARP = 256  # rows and columns whose entries are drawn one by one; of more, several come together in a dot
SMALL = 400  # rows and columns of a map on a sheet
LINES = 31  # of group borders along an axis, which would hide smaller blocks

Borders = tuple[Sequence[int], Sequence[int]]  # the first rows and the first columns of all groups but the first
NONE: Borders = ((), ())


def limit(*matrices: np.ndarray) -> float:
    """The top of a colour scale: the value that one entry in a thousand of all `matrices` exceeds."""
    return float(np.quantile(np.concatenate([matrix.ravel() for matrix in matrices]), 0.999)) or 1.0


def shrunk(matrix: np.ndarray) -> np.ndarray:
    """`matrix` with at most SMALL rows and columns, each the mean of several: all that a small map can show."""
    for axis, size in enumerate(matrix.shape):
        starts = np.arange(0, size, -(-size // SMALL))
        counts = np.diff([*starts, size])
        matrix = np.add.reduceat(matrix, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
    return matrix.astype(np.float32)


def show(
    axes: Axes,
    matrix: np.ndarray,
    top: float,
    borders: Borders = NONE,
    *,
    size: tuple[int, int] | None = None,
    lines: int = LINES,
    ticks: bool = True,
) -> AxesImage:
    """`matrix` in `axes`, from 0 to `top`, with ticks and dashed lines (unless more than `lines`) at group `borders`.

    `size` are the rows and columns that it stands for, where it is shrunk.
    """
    rows, columns = size = size or (matrix.shape[0], matrix.shape[1])
    narrow = not 1 / NARROWEST <= rows / columns <= NARROWEST
    shown = axes.imshow(
        matrix,
        cmap=figures.MAP,
        vmin=0,
        vmax=top,
        extent=(0, columns, rows, 0),
        aspect="auto" if narrow else "equal",
        interpolation="none" if max(matrix.shape) <= SHARP else None,
    )
    if narrow:
        axes.set_box_aspect(float(np.clip(rows / columns, 1 / NARROWEST, NARROWEST)))
    for places, draw in zip(borders, (axes.axhline, axes.axvline), strict=True):
        for place in places if len(places) <= lines else ():
            draw(place, color="white", linewidth=0.7, linestyle=(0, (4, 3)))
    for axis, end, places in zip((axes.yaxis, axes.xaxis), size, borders, strict=True):
        axis.set_ticks(_some([0, *places, end]) if ticks else [])
    return shown


def _some(places: list[int]) -> list[int]:
    """Places of ticks: every second, third, ... where there are too many."""
    step = -(-(len(places) - 1) // (TICKS - 1))
    return places[::step]
