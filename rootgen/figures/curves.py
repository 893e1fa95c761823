"""Curves over iterations: means of several runs with a band, one colour per series in every panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen.figures import save as figures
from rootgen.figures.save import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (figures.BLUE, figures.VERMILION, figures.GREEN, figures.PURPLE, figures.SKY, figures.ORANGE)
FIRST = figures.BLACK
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # for more series than colours
PANEL = (5.0, 3.2)  # inches
MOST_POINTS = 400  # of a line; more are averaged in as many spans of iterations
FEW = 30  # points that are marked one by one
FAR = 4.0  # largest over smallest, of what is shown on a logarithmic axis
LETTER = 0.075  # inches, of a legend's words
LARGEST = 1e30  # of what is drawn; a training that diverged has more

Points = tuple[np.ndarray, np.ndarray]
"""Iterations, ascending, and a value at each."""


@dataclass(frozen=True)
class Curve:
    """`y` over `x`, ascending; `spread` is the half width of the band about it, nan where there is none."""

    label: str
    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class CurvePanel:
    """Curves of one quantity, which the y axis names; a `loss` that falls far is shown on a logarithmic axis.

    `late`: the y axis has room for what comes after the first quarter of the iterations, where lines lie close.
    """

    quantity: str
    curves: Sequence[Curve]
    loss: bool = False
    late: bool = False


def mean_curve(label: str, runs: Sequence[Points]) -> Curve | None:
    """The mean of `runs` at each iteration over those that have a value there, and their standard deviation (n - 1).

    Long runs are thinned first, all alike: to means over spans of iterations. None where there is no value.
    """
    drawn = [(x[np.abs(y) < LARGEST], y[np.abs(y) < LARGEST]) for x, y in runs]
    drawn = [(x, y) for x, y in drawn if len(x)]
    if not drawn:
        return None
    if max(len(x) for x, _ in drawn) > MOST_POINTS:
        span = max(x[-1] for x, _ in drawn) / MOST_POINTS
        drawn = [_thinned(x, y, span) for x, y in drawn]
    at, place = np.unique(np.concatenate([x for x, _ in drawn]), return_inverse=True)
    values = np.concatenate([y for _, y in drawn])
    count = np.bincount(place)
    mean = np.bincount(place, values) / count
    squares = np.bincount(place, (values - mean[place]) ** 2)
    spread = np.sqrt(np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan))
    return Curve(label, at.astype(float), mean, spread)


def _thinned(x: np.ndarray, y: np.ndarray, span: float) -> Points:
    """The means of `y` over spans of iterations, each at the middle of its span."""
    spans, place = np.unique((x // span).astype(int), return_inverse=True)
    return (spans + 0.5) * span, np.bincount(place, y) / np.bincount(place)


def draw_curves(panels: Sequence[CurvePanel], *, columns: int = 1, first: str = "") -> Drawing:
    """`panels`, so many side by side, over iterations; the series called `first` is black, and drawn over others."""
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    looks = _looks(labels, first)
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    beside = max(1, min(len(labels), int(PANEL[0] * across / (LETTER * max(map(len, labels)) + 0.6))))
    legend = 0.25 * -(-len(labels) // beside) if len(labels) > 1 else 0
    figure = figures.new(PANEL[0] * across, PANEL[1] * down + legend)
    axes: Any = figure.subplots(down, across, squeeze=False, sharex="all").ravel()
    for at, panel in zip(axes, panels, strict=False):
        _panel(at, panel, looks)
    for at in axes[len(panels) :]:
        at.set_axis_off()
    for at in axes[max(len(panels) - across, 0) : len(panels)]:
        at.set_xlabel("iteration")
        at.tick_params(labelbottom=True)
    if len(labels) > 1:
        _legend(figure, looks, beside)
    return Drawing(figure)


Look = tuple[str, Any]
"""Colour and dashes."""


def _looks(labels: Sequence[str], first: str) -> dict[str, Look]:
    others = [label for label in labels if label != first]
    looks: dict[str, Look] = {first: (FIRST, DASHES[0])} if first in labels else {}
    for number, label in enumerate(others):
        looks[label] = (COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)])
    return looks


def _panel(axes: Axes, panel: CurvePanel, looks: Mapping[str, Look]) -> None:
    for curve in panel.curves:
        colour, dashes = looks[curve.label]
        x, y, spread = curve.x, curve.y, curve.spread
        axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.18, linewidth=0, zorder=1)
        if len(x) == 1:  # where a band has no width
            axes.errorbar(x, y, np.nan_to_num(spread), color=colour, fmt="none", linewidth=1, capsize=2)
        line = axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.3, zorder=2.5 if colour == FIRST else 2)
        if len(x) <= FEW:
            line[0].set(marker="o", markersize=3)
    _scale(axes, panel)
    axes.set_ylabel(panel.quantity)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes: Axes, panel: CurvePanel) -> None:
    """The y axis: logarithmic for a loss that falls far, else perhaps of the later values alone."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    values = np.concatenate([curve.y for curve in panel.curves])
    if panel.loss and values.min() > 0 and values.max() > FAR * values.min():
        axes.set_yscale("log")
        plain = ScalarFormatter()
        plain.set_scientific(False)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif panel.late:
        begin = max(curve.x[-1] for curve in panel.curves) / 4
        kept = [(c.y, np.nan_to_num(c.spread), c.x >= begin) for c in panel.curves]
        low = min((y - half)[late].min() for y, half, late in kept if late.any())
        high = max((y + half)[late].max() for y, half, late in kept if late.any())
        margin = 0.05 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)


def _legend(figure: Any, looks: Mapping[str, Look], beside: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linestyle=dashes, label=f" {label}")  # one that begins with _ would be left out
        for label, (colour, dashes) in looks.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=beside,
        frameon=False,
        fontsize=8,
    )
