"""Curves over iterations: means and bands, thinned where they are long, and what is drawn of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rootgen.figures import curves
from rootgen.figures.curves import CurvePanel, draw_curves, mean_curve


def points(*values: float) -> curves.Points:
    return np.arange(len(values)), np.array(values, float)


def test_the_mean_is_over_the_runs_that_got_so_far() -> None:
    found = mean_curve("a", [points(1, 2, 3), points(3, 6)])
    assert found is not None
    assert found.x.tolist() == [0, 1, 2]
    assert found.y.tolist() == [2, 4, 3]
    assert found.spread[:2] == pytest.approx([2**0.5, 8**0.5])  # n - 1 below the line
    assert np.isnan(found.spread[2])


def test_what_diverged_is_left_out_and_nothing_gives_no_curve() -> None:
    found = mean_curve("a", [points(1, 1e35, 2)])
    assert found is not None
    assert (found.x.tolist(), found.y.tolist()) == ([0, 2], [1, 2])
    assert mean_curve("a", []) is None
    assert mean_curve("a", [points(), points(1e35)]) is None


def test_long_runs_are_thinned_alike() -> None:
    steps = np.arange(10_000)
    found = mean_curve("a", [(steps, steps * 1.0), (steps[::10], steps[::10] * 3.0)])
    assert found is not None
    assert len(found.x) <= curves.MOST_POINTS + 1
    assert not np.isnan(found.spread[:-1]).any()  # each span has both runs
    assert found.y[:-1] == pytest.approx(2 * found.x[:-1], abs=20)


def drawn(panels: list[CurvePanel], **options: object) -> list[object]:
    return draw_curves(panels, **options).figure.axes  # type: ignore[arg-type]


def panel(quantity: str, *labels: str, y: tuple[float, ...] = (1.0, 2.0), **options: bool) -> CurvePanel:
    found = [mean_curve(label, [points(*y)]) for label in labels]
    return CurvePanel(quantity, [curve for curve in found if curve is not None], **options)


def test_a_series_has_one_colour_in_every_panel_and_the_first_is_black() -> None:
    names = [f"root-{n}" for n in range(8)]
    axes = drawn([panel("a", *names, "Orig."), panel("b", "Orig.", *names[3:])], first="Orig.")
    looks = [{(line.get_color(), line.get_linestyle()) for line in at.lines} for at in axes]  # type: ignore[attr-defined]
    assert len(looks[0]) == 9  # told apart, though there are six colours
    assert looks[1] < looks[0]
    assert axes[1].lines[0].get_color() == curves.FIRST  # type: ignore[attr-defined]


def test_a_loss_that_falls_far_is_logarithmic_and_late_values_get_the_room() -> None:
    fallen, level, negative, accuracy = drawn(
        [
            panel("loss", "a", y=(10.0, 1.0), loss=True),
            panel("loss", "a", y=(3.0, 1.0), loss=True),
            panel("loss", "a", y=(10.0, -1.0), loss=True),
            panel("accuracy", "a", y=(0.1, 0.8, 0.9, 0.91, 0.92), late=True),
        ],
        columns=2,
    )
    scales = [axes.get_yscale() for axes in (fallen, level, negative, accuracy)]  # type: ignore[attr-defined]
    assert scales == ["log", "linear", "linear", "linear"]
    low, high = accuracy.get_ylim()  # type: ignore[attr-defined]
    assert 0.78 < low < 0.8 and 0.92 < high < 0.94
    assert level.get_ylim()[1] > 3  # type: ignore[attr-defined]


def test_names_are_shown_as_they_are() -> None:
    name = "_$x^2$\n\x1b<b>"
    svg = draw_curves([panel("q", name, "other")]).svg()
    assert "_$x^2$" in svg and "&lt;b&gt;" in svg
    assert not re.search("[\x00-\x08\x1b]", svg)


def test_long_names_stand_below_one_another() -> None:
    width, height = draw_curves([panel("q", "a" * 60, "b" * 60)]).figure.get_size_inches()
    assert height > draw_curves([panel("q", "a", "b")]).figure.get_size_inches()[1]
    assert width == curves.PANEL[0]
