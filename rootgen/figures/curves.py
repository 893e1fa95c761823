"""Curves over iterations: means of several runs with a band, one colour per series in every panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rootgen.figures import save as figures
from rootgen.figures.save import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart, but yellow, which paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
FIRST = "#000000"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # for more series than colours
PANEL = (5.0, 3.2)  # inches
MOST_POINTS = 400  # of a line; more are averaged in as many spans of iterations
FEW = 30  # points that are marked one by one
LARGEST = 1e30  # of what is drawn; a training that diverged has more

Points = Mapping[float, float]
"""Iteration -> value."""


@dataclass(frozen=True)
class Curve:
    """`y` over `x`, ascending; `spread` is the half width of the band about it, nan where there is none."""

    label: str
    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class CurvePanel:
    """Curves of one quantity, which the y axis names."""

    quantity: str
    curves: Sequence[Curve] = field(default_factory=tuple)


def mean_curve(label: str, runs: Sequence[Points]) -> Curve | None:
    """The mean of `runs` where all of those that got so far have a value, and their standard deviation (n - 1).

    Long runs are thinned first, each alike: the mean over spans of iterations. None where there is no value.
    """
    span = max((max(run) - min(run) for run in runs if len(run) > MOST_POINTS), default=0) / MOST_POINTS
    thinned = [_thinned(run, span) for run in runs]
    x = sorted(set().union(*thinned))
    columns = [np.array([run[at] for run in thinned if at in run]) for at in x]
    if not x:
        return None
    spread = [float(column.std(ddof=1)) if len(column) > 1 else np.nan for column in columns]
    return Curve(label, np.array(x, float), np.array([column.mean() for column in columns]), np.array(spread))


def _thinned(run: Points, span: float) -> dict[float, float]:
    """`run` as it is, or the means of its values over spans of iterations, each at the middle of its span."""
    kept = {at: value for at, value in run.items() if abs(value) < LARGEST}
    if not span:
        return kept
    spans: dict[int, list[float]] = {}
    for at, value in kept.items():
        spans.setdefault(int(at // span), []).append(value)
    return {(number + 0.5) * span: float(np.mean(values)) for number, values in spans.items()}


def draw_curves(panels: Sequence[CurvePanel], *, columns: int = 1, title: str = "", first: str = "") -> Drawing:
    """`panels`, so many side by side, over iterations; the series called `first` is black, and drawn over others."""
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    looks = _looks(labels, first)
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    legend = 0.25 * -(-len(labels) // (4 * across)) if len(labels) > 1 else 0
    figure = figures.new(PANEL[0] * across, PANEL[1] * down + legend + (0.4 if title else 0))
    axes: Any = figure.subplots(down, across, squeeze=False, sharex="all").ravel()
    for at, panel in zip(axes, panels, strict=False):
        _panel(at, panel, looks)
    for at in axes[len(panels) :]:
        at.set_axis_off()
    for at in axes[max(len(panels) - across, 0) : len(panels)]:
        at.set_xlabel("iteration")
        at.tick_params(labelbottom=True)
    if len(labels) > 1:
        _legend(figure, looks, across)
    if title:
        figure.suptitle(title, fontsize=10)
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
        few = len(x) <= FEW
        axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.18, linewidth=0, zorder=1)
        if few:  # at a single point a band has no width
            axes.errorbar(x, y, np.nan_to_num(spread), color=colour, fmt="none", linewidth=1, capsize=2)
        line = axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.3, zorder=2.5 if colour == FIRST else 2)
        if few:
            line[0].set(marker="o", markersize=3)
    axes.set_ylabel(panel.quantity)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, looks: Mapping[str, Look], across: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linestyle=dashes, label=f" {label}")  # one that begins with _ would be left out
        for label, (colour, dashes) in looks.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(4 * across, len(handles)),
        frameon=False,
        fontsize=8,
    )
