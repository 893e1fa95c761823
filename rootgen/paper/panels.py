"""Rows of panels, error over cost: one colour and one marker per topology, the number of groups at each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.figures import save as figures
from rootgen.generator.architectures import ORIGINAL_ROW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A colour, a marker and its size per topology.
LOOKS = {
    ORIGINAL_ROW: (figures.BLACK, "*", 130),
    "root": (figures.BLUE, "o", 42),
    "column": (figures.VERMILION, "s", 38),
    "tree": (figures.GREEN, "^", 48),
}
FRONT = "0.65"  # the colour of the Pareto front
PANEL = (3.3, 3.3)  # inches
LABEL = 7.5  # points: size of the words at points
_PLACES = [(0, 1), (0, -1), (1, 0), (-1, 0), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)]


AXES = {
    "params": "parameters",
    "flops": "FLOPs, as the paper counts",
    "macs": "multiply-adds",
    "gpu_ms": "GPU forward (ms)",
    "cpu_ms": "CPU forward (ms)",
    "time_ms": "forward (ms per image)",
}


@dataclass(frozen=True)
class PanelRow:
    """One row of panels: points by model, one panel per cost column, error in percent on every y axis.

    `sources` says per model where its point is from. `hollow` markers are of measured points. `beneath` is drawn in the
    same panels with full markers.
    """

    title: str
    error: str
    columns: tuple[str, ...]
    points: dict[str, dict[str, float]]
    sources: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=lambda: AXES)
    hollow: bool = False
    beneath: PanelRow | None = None


def draw(rows: Sequence[PanelRow], folder: str | Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Draw `rows` as one figure folder/name.*; the files."""
    width = max(len(row.columns) for row in rows)
    figure = figures.new(max(PANEL[0] * width, 7), PANEL[1] * len(rows) + 0.5)
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    drawn: list[tuple[Axes, PanelRow, str]] = []
    for part, row in zip(parts, rows, strict=True):
        part.suptitle(_wrapped(row.title, 34 * width), fontsize=10)
        axes: Any = part.subplots(1, width, sharey=True, squeeze=False)[0]
        for panel, column in zip(axes, row.columns, strict=False):
            _panel(panel, row, column)
            drawn.append((panel, row, column))
        for panel in axes[len(row.columns) :]:
            panel.set_axis_off()
        axes[0].set_ylabel(row.error)
    _legend(figure, rows)
    figures.lay_out(figure)  # which settles where the points are
    for panel, row, column in drawn:
        _label(panel, row, column)
    return figures.save(figure, folder, name, formats)


def kind_of(model: str) -> str:
    """The topology of a row: `root` of root-8; Orig. by itself."""
    return model if model == ORIGINAL_ROW else model.rpartition("-")[0]


def front(points: dict[str, dict[str, float]], column: str) -> list[str]:
    """The Pareto front: the models beside which none is at least as cheap and as good, and in one of them better."""
    best, found = float("inf"), []
    for model, point in sorted(points.items(), key=lambda item: (item[1][column], item[1]["error"])):
        if point["error"] < best:
            best = point["error"]
            found.append(model)
    return found


def _steps(row: PanelRow, column: str) -> list[tuple[float, float]]:
    """The corners of the front's staircase: right of it and above, a model is there that is cheaper or better.

    None where the front is one model or all of them, or where two sets of points share the panel.
    """
    models = front(row.points, column)
    if row.beneath is not None or not 1 < len(models) < len(row.points):
        return []
    places = [(row.points[model][column], row.points[model]["error"]) for model in models]
    corners = places[:1]
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _panel(axes: Axes, row: PanelRow, column: str) -> None:
    """Error over one cost; nothing joins the points, which are models and no trend, but the Pareto front's steps."""
    from matplotlib.ticker import EngFormatter

    if row.beneath is not None:
        _points(axes, row.beneath, column)
    _points(axes, row, column)
    if steps := _steps(row, column):
        axes.plot(*zip(*steps, strict=True), color=FRONT, linewidth=1.2, zorder=1.2)
    axes.set_xlabel(row.labels[column])
    axes.margins(0.13)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    if column in ("params", "flops", "macs") and row.beneath is None:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=5)


def _points(axes: Axes, row: PanelRow, column: str) -> None:
    for model, point in row.points.items():
        colour, marker, size = LOOKS[kind_of(model)]
        x, y = point[column], point["error"]
        low, high = _ends(point)
        if low < high and not row.hollow:
            axes.axhspan(low, high, color="0.88", zorder=0.5, linewidth=0)
        elif low < high:
            axes.errorbar(x, y, [[y - low], [high - y]], color=colour, linewidth=1, capsize=2, zorder=1.5)
        face = "white" if row.hollow else colour
        axes.scatter(x, y, s=size, marker=marker, facecolor=face, edgecolor=colour, linewidth=1.2, zorder=2)


def _ends(point: dict[str, float]) -> tuple[float, float]:
    """From where to where a point's bar reaches: its low and high, or its spread to both sides."""
    bar = point.get("deviation", point.get("standard_error", 0.0))
    return point.get("low", point["error"] - bar), point.get("high", point["error"] + bar)


Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in typographic points."""


def _label(axes: Axes, row: PanelRow, column: str) -> None:
    """The number of groups beside each point, where it hides the least of other points, bars and labels."""
    points = list(row.points.items())
    if row.beneath is not None:  # whose Orig. lies under the measured one
        points += [(model, point) for model, point in row.beneath.points.items() if model != ORIGINAL_ROW]
    scale = 72 / axes.figure.dpi

    def spot(x: float, y: float) -> tuple[float, float]:
        at = axes.transData.transform((x, y)) * scale
        return float(at[0]), float(at[1])

    spots = [spot(point[column], point["error"]) for _, point in points]
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    for (_, point), (x, _) in zip(points[: len(row.points)] if row.hollow else (), spots, strict=False):
        low, high = (spot(0, end)[1] for end in _ends(point))
        taken.append((x - 2, low - 1, x + 2, high + 1))
    corners = [spot(*corner) for corner in _steps(row, column)]
    for (x0, y0), (x1, y1) in pairwise(corners):
        taken.append((x0 - 1, min(y0, y1) - 1, x1 + 1, max(y0, y1) + 1))
    left, bottom, right, top = (float(edge) * scale for edge in axes.bbox.extents)
    for (model, point), (x, y) in zip(points, spots, strict=True):
        word = model if model == ORIGINAL_ROW else model.rpartition("-")[2]
        boxes = [_box(x, y, word, place) for place in _PLACES]
        taken.append(min(boxes, key=lambda box: _hidden(box, taken, (left, bottom, right, top))))
        middle = ((taken[-1][0] + taken[-1][2]) / 2 - x, (taken[-1][1] + taken[-1][3]) / 2 - y)
        axes.annotate(
            word,
            (point[column], point["error"]),
            middle,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=LABEL,
            color=LOOKS[kind_of(model)][0],
            zorder=3,
        )


def _box(x: float, y: float, word: str, place: tuple[float, float]) -> Box:
    """Where `word` stands at `place` beside a point at (x, y)."""
    half, high = 0.3 * LABEL * len(word) + 0.5, 0.5 * LABEL
    x, y = x + place[0] * (6 + half), y + place[1] * (6.5 + high)
    return (x - half, y - high, x + half, y + high)


def _hidden(box: Box, taken: Sequence[Box], inside: Box) -> float:
    """How much of what is drawn already `box` would hide, and how much of it would stick out, in square points."""
    width, height = box[2] - box[0], box[3] - box[1]
    return sum(_common(box, other) for other in taken) + 2 * (width * height - _common(box, inside))


def _common(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _legend(figure: Any, rows: Sequence[PanelRow]) -> None:
    """Topologies by colour and marker; the numbers are groups."""
    from matplotlib.lines import Line2D

    models = [model for row in rows for model in row.points]
    handles = []
    for kind, (colour, marker, size) in LOOKS.items():
        if any(kind_of(model) == kind for model in models):
            word = kind if kind == ORIGINAL_ROW else f"{kind}-n (n at the point)"
            handles.append(Line2D([], [], color=colour, marker=marker, markersize=size**0.5, linestyle="", label=word))
    if any(_steps(row, column) for row in rows for column in row.columns):
        word = "Pareto front: none is cheaper and better"
        handles.append(Line2D([], [], color=FRONT, linewidth=1.2, label=word))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def _wrapped(title: str, width: int) -> str:
    """A title in lines of at most `width` letters, broken at its pauses."""
    lines = [""]
    for part in title.replace("; ", ";\n").split("\n"):
        joined = f"{lines[-1]} {part}".strip()
        lines[-1:] = [joined] if len(joined) <= width else [lines[-1], part]
    return "\n".join(line for line in lines if line)
