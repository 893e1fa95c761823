"""What a correlation run leaves: arrays, images as in the paper's Fig. 6, and scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rootgen.correlation.whitening import Correlation
from rootgen.errors import printable
from rootgen.figures import save as figures
from rootgen.files import replacing, safe_name, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def save_arrays(path: str | Path, results: Mapping[str, Correlation]) -> None:
    """Put the matrices of every pair into one .npz: `conv2c-conv3a.whitened`, `.covariance`, `.within_earlier`, ..."""
    arrays = {
        f"{_member(pair)}.{name}": getattr(result, name)
        for pair, result in results.items()
        for name in ("whitened", "covariance", "within_earlier", "within_later")
    }
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


def save_image(
    stem: str | Path, matrix: np.ndarray, labels: tuple[str, str], *, title: str, note: str, formats: Sequence[str]
) -> list[Path]:
    """`matrix` as an image, rows and columns labelled, at `stem` plus a suffix per format; the files."""
    figure = figures.new(4.6, 4.4)
    draw(figure, matrix, labels, title=title, note=note)
    return figures.save(figure, Path(stem).parent, Path(stem).name, formats)


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
