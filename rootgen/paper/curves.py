"""What the logs of trainings say, as panels of curves: loss, learning rate, and each result of the tests."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from rootgen.engine.read_log import Row
from rootgen.figures.curves import CurvePanel, Points, mean_curve

MOST_PANELS = 12
LOSS, RATE = ("train", "smoothed_loss"), ("train", "learning_rate")
_TITLES = {LOSS: "training loss", RATE: "learning rate"}

log = logging.getLogger("rootgen")

Quantity = tuple[str, str]
"""A phase of a log, and a column of it."""

History = dict[Quantity, Points]
"""What one training went through."""


def history(rows: Sequence[Row]) -> History:
    """The training loss, the learning rate and each output of the tests, from the rows of a log."""
    found: dict[Quantity, dict[int, float]] = {LOSS: {}, RATE: {}}
    for row in rows:
        phase, iteration = row["phase"], row["iteration"]
        for name, value in row.items():
            if isinstance(value, float) and (phase != "train" or (phase, name) in found) and name != "seconds":
                found.setdefault((phase, name), {})[iteration] = value
    return {quantity: (np.array(list(points)), np.array(list(points.values()))) for quantity, points in found.items()}


def panels(series: Mapping[str, Sequence[History]], *, rate: bool = True, late: bool = False) -> list[CurvePanel]:
    """A panel for each quantity: means over the runs of each series. Without `rate` none for the learning rate.

    `late` makes room for what comes after the first quarter of the iterations.
    """
    quantities = dict.fromkeys(quantity for runs in series.values() for run in runs for quantity in run)
    made = []
    for quantity in quantities:
        if quantity == RATE and not rate:
            continue
        drawn = [mean_curve(name, [run[quantity] for run in runs if quantity in run]) for name, runs in series.items()]
        kept = [curve for curve in drawn if curve is not None]
        title = _TITLES.get(quantity, " ".join(quantity))
        made.append(CurvePanel(title, kept, loss="loss" in title.lower(), late=late))
    found = [panel for panel in made if panel.curves]
    if len(found) > MOST_PANELS:
        log.warning("the first %d of %d quantities are drawn", MOST_PANELS, len(found))
    return found[:MOST_PANELS]
