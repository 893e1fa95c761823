"""One pair of several nets beside one another, as in the paper's Fig. 6: from folders that correlations left."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen.correlation import maps, saved
from rootgen.correlation.report import TITLES, Score, shown_score
from rootgen.correlation.whitening import Blocks
from rootgen.errors import RootgenError, UnknownNameError, printable
from rootgen.figures import save as figures
from rootgen.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

WIDEST = 7  # nets beside one another; more are below
PANEL = 2.3  # inches: the width of a net's column
LEAST = 7.5  # inches: the width of a figure
IMAGES = "test"
KINDS = {"whitened": "trained", "untrained": "untrained"}


@dataclass(frozen=True)
class GridNet:
    """What the grid shows of one net: a pair's score, its whitened covariance, and that of the untrained net."""

    name: str
    score: Score
    whitened: np.ndarray
    untrained: np.ndarray | None = None

    def matrix(self, kind: str) -> np.ndarray | None:
        """The covariance of one of KINDS, where there is one."""
        return self.whitened if kind == "whitened" else self.untrained


def read(folders: Mapping[str, str | Path], *, pair: str | None = None, images: str = IMAGES) -> list[GridNet]:
    """The nets whose correlations lie in `folders`, by their names; RootgenError where one has no such pair or images.

    Without `pair` it is the only one that all have.
    """
    scores = {name: saved.read_scores(folder) for name, folder in folders.items()}
    pair = pair or _only_pair(scores, folders)
    nets = []
    for name, folder in folders.items():
        score = saved.find_score(scores[name], images, pair, folder)
        whitened = saved.read_matrix(folder, scores[name], score)
        untrained = None
        if saved.has_control(folder, images):
            untrained = saved.read_matrix(folder, scores[name], score, untrained=True)
        nets.append(GridNet(name, score, whitened, untrained))
    return nets


def names_of(folders: Sequence[str | Path]) -> dict[str, Path]:
    """Folders by names that tell them apart: the parts of their paths that differ, or what is before a `=`."""
    paths = [Path(str(folder).partition("=")[2] or str(folder)) for folder in folders]
    parts = [(path.parent if path.name == "correlation" else path).resolve().parts for path in paths]
    same = len({len(each) for each in parts}) == 1
    differing = [i for i in range(len(parts[0])) if len({each[i] for each in parts}) > 1] if same else []
    names: dict[str, Path] = {}
    for folder, path, each in zip(folders, paths, parts, strict=True):
        given = str(folder).partition("=")[0] if "=" in str(folder) else ""
        own = "/".join(each[i] for i in differing) or each[-1]
        name = given or own.removesuffix("_correlation")
        if name in names:
            raise RootgenError(f"two are called '{name}'", where=path, hint="NAME=FOLDER names one")
        names[name] = path
    return names


def _only_pair(scores: Mapping[str, Sequence[Score]], folders: Mapping[str, str | Path]) -> str:
    """The pair that all folders have, where it is one."""
    held = [{score.pair for score in each} for each in scores.values()]
    shared = [score.pair for score in next(iter(scores.values())) if all(score.pair in each for each in held)]
    found = list(dict.fromkeys(shared))
    where = next(iter(folders.values()))
    if not found:
        raise RootgenError("has no pair that the others have too", where=where)
    if len(found) > 1:
        raise UnknownNameError("several pairs: name one of them", "", found)
    return found[0]


def save(nets: Sequence[GridNet], out: str | Path, *formats: str, title: str = "") -> list[Path]:
    """The grid as the file `out` in each of the `formats`, with what it tells in numbers as a .csv; the files."""
    made = [Path(out).with_suffix(f".{kind}") for kind in formats]
    figure = draw(nets, title)
    for path in made:
        figures.write(figure, path)
    numbers = Path(out).with_suffix(".csv")
    write_text(numbers, _csv(nets), durable=False)
    return [*made, numbers]


def draw(nets: Sequence[GridNet], title: str = "") -> Figure:
    """The nets in columns, on one scale: the whitened covariance, the means of its blocks, the same untrained."""
    kinds = tuple(KINDS) if any(net.untrained is not None for net in nets) else tuple(KINDS)[:1]
    bands = [nets[start : start + WIDEST] for start in range(0, len(nets), WIDEST)]
    wide = len(bands[0])
    figure = figures.new(max(PANEL * wide + 1, LEAST), 1.7 * PANEL * len(kinds) * len(bands) + 0.6)
    score = nets[0].score
    what = f"{score.pair}: |{TITLES['whitened']}|, {score.images} images; rows: the earlier layer"
    figure.suptitle("\n".join(printable(line) for line in (title, what) if line), fontsize=10)
    blocks = {net.name: _blocks(net, nets) for net in nets}
    shown = [(blocks[net.name], matrix) for net in nets for kind in kinds if (matrix := net.matrix(kind)) is not None]
    tops = maps.limit(*(matrix for _, matrix in shown)), max(float(by.means(matrix).max()) for by, matrix in shown)
    parts: Any = figure.subfigures(len(bands), 1, squeeze=False)[:, 0]
    for part, band in zip(parts, bands, strict=True):
        panels: Any = part.subplots(2 * len(kinds), wide, squeeze=False, height_ratios=[2, 1] * len(kinds))
        for row, kind in enumerate(kinds):
            pair = panels[2 * row : 2 * row + 2]
            for index, net in enumerate(band):
                _net(pair[:, index], net, kind, blocks[net.name], tops)
            for axes in pair[:, len(band) :].flat:
                axes.set_axis_off()
            for line, word, top in zip(pair, (KINDS[kind], "block means"), tops, strict=True):
                line[0].set_ylabel(word, fontsize=9)
                bar = part.colorbar(_scale(top), ax=list(line), fraction=0.04, pad=0.01, aspect=25, panchor=False)
                bar.ax.tick_params(labelsize=7)
        for axes, net in zip(panels[0], band, strict=False):
            axes.set_title(_head(net), fontsize=9)
    return figure


def _net(pair: Sequence[Axes], net: GridNet, kind: str, blocks: Blocks, tops: tuple[float, float]) -> None:
    """A net's map, and below it the means of its blocks."""
    matrix = net.matrix(kind)
    if matrix is None:
        for axes in pair:
            axes.set_axis_off()
        return
    borders = blocks.borders if net.score.group > 1 else maps.NONE
    maps.show(pair[0], matrix, tops[0], borders)
    maps.show(pair[1], blocks.means(matrix), tops[1], ticks=False)
    pair[0].tick_params(labelsize=6)
    pair[0].tick_params(axis="x", labelrotation=90)
    score = blocks.score(matrix)
    by = "" if net.score.group > 1 else f" by {blocks.group} blocks:"
    pair[0].set_xlabel("" if math.isnan(score) else f"block score{by} {shown_score(score)}", fontsize=8)


def _head(net: GridNet) -> str:
    groups = net.score.group
    return f"{printable(net.name)}\n{groups} groups" if groups > 1 else f"{printable(net.name)}\nno groups"


def _blocks(net: GridNet, nets: Sequence[GridNet]) -> Blocks:
    """A net's own blocks; of one without groups those of the most groups beside it, which it should not show."""
    own = net.score.blocks
    others = sorted((other.score.group for other in nets), reverse=True) if net.score.group == 1 else []
    for group in others:
        try:
            return replace(own, group=group)
        except RootgenError:  # the groups do not divide its channels
            continue
    return own


def _scale(top: float) -> ScalarMappable:
    """What a colour bar from 0 to `top` is of."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, top), figures.MAP)


def _csv(nets: Sequence[GridNet]) -> str:
    """A line per net: its groups, its scores trained and untrained, and what they are by."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("net", "pair", "images", "samples", "group", "blocks", "score", "untrained_score"))
    for net in nets:
        blocks, row = _blocks(net, nets), net.score
        matrices = (net.matrix(kind) for kind in KINDS)
        scores = ("nan" if matrix is None else f"{blocks.score(matrix):.4f}" for matrix in matrices)
        writer.writerow((net.name, row.pair, row.images, row.samples, row.group, blocks.group, *scores))
    return text.getvalue()
