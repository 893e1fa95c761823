"""The table and the curves of transfer.py's runs, from its CSV alone: python transfer_report.py FOLDER/transfer.csv."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rootgen.figures.save import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, new
from rootgen.figures.save import write as write_figure
from rootgen.files import write_text
from rootgen.text import Table

ORIGINAL = "Orig."
LOOKS = {  # colour and marker of a way to the weights
    "sliced": (VERMILION, "v"), "permuted": (ORANGE, "^"), "fitted": (GREEN, "o"), "scratch": (BLUE, "s"),
    "trained": (BLACK, "*"),
}  # fmt: skip
PLANS = (BLUE, VERMILION, GREEN, PURPLE)
SEEN = 0.5  # accuracies are in the picture from this share of the best on; lower ones are near chance, and told below
Row = dict[str, str]


def write(path: Path) -> None:
    """transfer.md and transfer.png beside the CSV `path`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    write_text(path.with_suffix(".md"), table(rows).markdown())
    if rows:
        write_figure(curves(rows), path.with_suffix(".png"))


def table(rows: list[Row]) -> Table:
    """A line per plan, number of its layers and way: accuracies by epochs, mean and deviation over seeds."""
    epochs = sorted({float(row["epochs"]) for row in rows})
    lines = []
    for kind in _kinds(rows):
        own = _of(rows, kind)
        cells = [_cell([float(row["accuracy"]) for row in own if float(row["epochs"]) == e]) for e in epochs]
        shares = [_percent(row[name] for row in own) for name in ("kept", "fitted")]
        lines.append([kind[0], own[0]["groups"] or "-", kind[2], f"{int(own[0]['macs']):,}", *shares, *cells])
    header = ["plan", "groups", "weights", "MACs", "kept", "fitted", *(f"{e:g} epochs" for e in epochs)]
    return Table(header, lines, _title(rows))


def curves(rows: list[Row]) -> Any:
    """A panel per plan: accuracy over epochs by way to the weights; and one over the number of layers with groups."""
    plans = sorted({row["plan"] for row in rows} - {ORIGINAL}, key=lambda plan: (len(plan), plan)) or [ORIGINAL]
    figure = new(4.2 * (len(plans) + 1), 4.2)
    *panels, by_layers = figure.subplots(1, len(plans) + 1, sharey=True)
    seen = SEEN * max(float(row["accuracy"]) for row in rows)
    for axes, plan in zip(panels, plans, strict=True):
        most = max((int(row["layers"]) for row in rows if row["plan"] == plan), default=0)
        for kind in _kinds(rows):
            if kind[0] == ORIGINAL or kind[:2] == (plan, most):
                own = _of(rows, kind)
                label = f"Orig., {kind[2]}" if kind[0] == ORIGINAL else kind[2]
                colour, marker = LOOKS[kind[2]]
                _line(axes, own, "epochs", label=label, color=colour, marker=marker)
        _tell_unseen(axes, [row for row in rows if _kind(row)[:2] == (plan, most)], seen)
        axes.set_title(plan, fontsize=10)
        axes.set_xlabel("epochs of training since")
        axes.set_xticks(sorted({float(row["epochs"]) for row in rows}))
        axes.legend(fontsize=7, loc="lower right")
    panels[0].set_ylabel("accuracy")
    _layers(by_layers, rows, plans)
    middle = [middle for kind in _kinds(rows) for _, middle, _ in _points(_of(rows, kind), "epochs") if middle >= seen]
    margin = 0.1 * (max(middle) - min(middle)) or 0.01
    by_layers.set_ylim(min(middle) - 1.5 * margin, max(middle) + margin)
    figure.suptitle(_title(rows), fontsize=8)
    return figure


def _layers(axes: Any, rows: list[Row], plans: list[str]) -> None:
    """Accuracy by how many layers have groups, from the last on; dashes where nothing was trained since."""
    for number, plan in enumerate(plans):
        for epochs in sorted({row["epochs"] for row in rows}, key=float):
            own = [row for row in rows if row["epochs"] == epochs and row["plan"] in (plan, ORIGINAL)]
            own = [row for row in own if row["way"] in ("fitted", "trained")]
            style = {"linestyle": "--" if float(epochs) == 0 else "-", "linewidth": 0.8 + float(epochs) / 3}
            _line(
                axes,
                own,
                "layers",
                label=f"{plan}, {float(epochs):g} epochs",
                color=PLANS[number % len(PLANS)],
                **style,
            )
    axes.set_title("fitted, by layers with groups, from the last on", fontsize=10)
    axes.set_xlabel("layers")
    axes.set_xticks(sorted({int(row["layers"]) for row in rows}))
    axes.legend(fontsize=7)


def _line(axes: Any, rows: list[Row], over: str, **style: Any) -> None:
    """Means over seeds, with their deviations, over a column of the CSV."""
    if not rows:
        return
    places, middle, bars = zip(*_points(rows, over), strict=True)
    axes.errorbar(places, middle, bars, capsize=2, **{"marker": ".", "linewidth": 1.3, "markersize": 5, **style})


def _points(rows: list[Row], over: str) -> list[tuple[float, float, float]]:
    """The values of a column, and of each the accuracies' mean and deviation over seeds."""
    by_place: dict[float, list[float]] = {}
    for row in rows:
        by_place.setdefault(float(row[over]), []).append(float(row["accuracy"]))
    return [(at, mean(own), stdev(own) if len(own) > 1 else 0.0) for at, own in sorted(by_place.items())]


def _tell_unseen(axes: Any, rows: list[Row], seen: float) -> None:
    """Write the accuracies below the picture at its lower edge."""
    unseen: dict[float, list[float]] = {}
    for kind in _kinds(rows):
        for epochs, middle, _ in _points(_of(rows, kind), "epochs"):
            if middle < seen:
                unseen.setdefault(epochs, []).append(middle)
    for epochs, values in unseen.items():
        told = dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values)))
        where = {"xycoords": ("data", "axes fraction"), "xytext": (4, 4), "textcoords": "offset points"}
        axes.annotate(f"\N{DOWNWARDS ARROW} {' to '.join(told)}", (epochs, 0), fontsize=7, **where)


def _of(rows: Iterable[Row], kind: tuple[str, int, str]) -> list[Row]:
    return [row for row in rows if _kind(row) == kind]


def _kind(row: Row) -> tuple[str, int, str]:
    return row["plan"], int(row["layers"]), row["way"]


def _kinds(rows: Iterable[Row]) -> list[tuple[str, int, str]]:
    """Plan, layers and way of all runs: the original first, then plan by plan."""
    order = list(LOOKS)
    found = {_kind(row) for row in rows}
    return sorted(found, key=lambda kind: (kind[0] != ORIGINAL, len(kind[0]), kind[0], -kind[1], order.index(kind[2])))


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread} ({len(values)})"


def _percent(shares: Iterable[str]) -> str:
    found = [float(share) for share in shares if share]
    return f"{100 * mean(found):.1f}%" if found else ""


def _title(rows: list[Row]) -> str:
    if not rows:
        return "no run is done"
    seeds = len({row["seed"] for row in rows})
    count = f"{seeds} seed{'s' if seeds > 1 else ''}"
    told = " and ".join(sorted({f"{row['dataset']}, {row['engine']} on {row['device']}" for row in rows}))
    return f"NiN, {told}; {rows[0]['images']} test images, {count}, mean ± one standard deviation (runs)"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
