"""What the logs of trainings say, as panels of curves: loss, learning rate, and each result of the tests."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from rootgen.engine.read_log import Row
from rootgen.figures.curves import CurvePanel, mean_curve

MOST_PANELS = 12

log = logging.getLogger("rootgen")

Logs = Mapping[str, Sequence[Sequence[Row]]]
"""The name of a series -> the logs of its runs, one a seed."""


def panels(logs: Logs, *, rate: bool = True) -> list[CurvePanel]:
    """A panel for the training loss, with `rate` for the learning rate, and for each output of each test net."""
    asked = {"training loss": ("train", "smoothed_loss")}
    if rate:
        asked["learning rate"] = ("train", "learning_rate")
    outputs = dict.fromkeys(
        (row["phase"], name)
        for runs in logs.values()
        for rows in runs
        for row in rows
        if row["phase"] != "train"
        for name, value in row.items()
        if isinstance(value, float) and name != "seconds"
    )
    asked |= {f"{phase} {name}": (phase, name) for phase, name in outputs}
    made = [_panel(quantity, logs, phase, name) for quantity, (phase, name) in asked.items()]
    found = [panel for panel in made if panel.curves]
    if len(found) > MOST_PANELS:
        log.warning("the first %d of %d quantities are drawn", MOST_PANELS, len(found))
    return found[:MOST_PANELS]


def _panel(quantity: str, logs: Logs, phase: str, name: str) -> CurvePanel:
    curves = []
    for label, runs in logs.items():
        points = [
            {row["iteration"]: row[name] for row in rows if row["phase"] == phase and row.get(name) is not None}
            for rows in runs
        ]
        curve = mean_curve(label, [run for run in points if run])
        if curve is not None:
            curves.append(curve)
    return CurvePanel(quantity, curves)
