"""The paper's figures of cost against error (Fig. 5 and its kin), from reported and from measured results.

Reported points come from data/*_reported.csv as printed, errata included; measured ones from a results.csv
(results.py). They are drawn in rows of their own: another data set and another machine share no axis.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.errors import RootgenError, UnknownNameError, did_you_mean
from rootgen.figures import save as figures
from rootgen.files import write_text
from rootgen.generator.architectures import ORIGINAL_ROW, architecture, architectures, recipe
from rootgen.paper import tables
from rootgen.paper.results import IMAGE_SETS, RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "pdf", "svg")


ACCURACIES = {"accuracy": "error (%)", "top5": "top-5 error (%)"}  # columns of the tables, and what to call 1 - them
AXES = {
    "params": "parameters",
    "flops": "FLOPs as printed",
    "macs": "multiply-adds",
    "gpu_ms": "GPU forward (ms)",
    "cpu_ms": "CPU forward (ms)",
    "time_ms": "forward (ms per image)",
}


@dataclass(frozen=True)
class PanelRow:
    """One row of panels: points by model, one panel per cost column, error in percent on every y axis."""

    title: str
    error: str
    columns: tuple[str, ...]
    points: dict[str, dict[str, float]]


def families() -> list[str]:
    """The architectures whose results the paper reports."""
    return [name for name, arch in architectures().items() if arch.results]


def reported(family: str) -> PanelRow:
    """The points that the paper reports for the architecture `family`."""
    if family not in families():
        raise UnknownNameError(f"no figure '{family}'", family, families())
    arch = architecture(family)
    printed = tables.reported(family)
    accuracy = next(column for column in ACCURACIES if column in next(iter(printed.values())))
    points = {}
    for model, cells in printed.items():
        point = {
            "params": float(cells["params"]) * 10**arch.params_unit,
            "flops": float(cells["flops"]) * 10**arch.flops_unit,
            "error": 100 * (1 - float(cells[accuracy])),
        }
        points[model] = point | {column: float(cells[column]) for column in ("gpu_ms", "cpu_ms") if cells.get(column)}
    columns = tuple(column for column in AXES if all(column in point for point in points.values()))
    miscount = ", a miscount: see docs/errata.md" if arch.miscounted else ""
    title = f"reported: {arch.title} on {recipe(arch.recipe).images} ({arch.results}{miscount})"
    return PanelRow(title, ACCURACIES[accuracy], columns, points)


def measured(family: str, results: Sequence[RunResult], where: object = "results") -> PanelRow:
    """The points of one run; their standard errors are those of a share of so many test images.

    RootgenError at `where` for what is of another architecture or image set, or of several runs.
    """
    _check_fit(family, results, where)
    points = {
        result.model: {
            "params": float(result.params),
            "macs": float(result.macs),
            "time_ms": result.time_ms,
            "error": 100 * (1 - result.accuracy),
            "standard_error": 100 * sqrt(result.accuracy * (1 - result.accuracy) / result.images),
        }
        for result in results
    }
    first = results[0]
    run = f"{first.dataset}, {first.epochs:g} epochs, {first.engine} on {first.device}"
    return PanelRow(f"measured: {run}; bars: ± one standard error", "error (%)", ("params", "macs", "time_ms"), points)


def _check_fit(family: str, results: Sequence[RunResult], where: object) -> None:
    """Refuse results that do not belong beside those of `family`, or not beside each other."""
    rows, recipe = tables.reported(family), architecture(family).recipe
    fitting = IMAGE_SETS.get(recipe, ())
    others = {name for key, names in IMAGE_SETS.items() if key != recipe for name in names}
    first = results[0]
    for result in results:
        if result.architecture != family:
            what = f"'{result.model}' is of the architecture '{result.architecture}', not of '{family}'"
            raise RootgenError(what, where=where, hint=f"rootgen plot {result.architecture} --measured ...")
        if result.model not in rows:
            hint = did_you_mean(result.model, rows)
            raise RootgenError(f"{family} has no row '{result.model}'", where=where, hint=hint)
        if result.dataset in others or (fitting and result.dataset not in fitting):
            what = f"'{result.model}' was measured on '{result.dataset}', which is not for {family}"
            raise RootgenError(what, where=where, hint=f"known: {', '.join(fitting)}" if fitting else None)
        if (result.dataset, result.images) != (first.dataset, first.images):
            there, here = (f"{one.images} images of {one.dataset}" for one in (first, result))
            what = f"holds several runs: '{first.model}' on {there}, '{result.model}' on {here}"
            raise RootgenError(what, where=where, hint="a file each, and --measured for each")
    twice = [model for model, count in Counter(result.model for result in results).items() if count > 1]
    if twice:
        raise RootgenError(f"holds '{twice[0]}' twice", where=where, hint="a file per run, and --measured for each")


def draw(rows: Sequence[PanelRow], folder: str | Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw `rows` as one figure folder/name.*, with the points behind it as folder/name.csv; the files."""
    width = max(len(row.columns) for row in rows)
    models = list(dict.fromkeys(model for row in rows for model in row.points))
    figure = figures.new(3.1 * width, 2.9 * len(rows) + 0.5)
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=True):
        part.suptitle(row.title, fontsize=11)
        panels: Any = part.subplots(1, width, sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, row.columns, strict=False):
            _panel(axes, row, column, models)
        for axes in panels[len(row.columns) :]:
            axes.set_axis_off()
        panels[0].set_ylabel(row.error)
    handles, labels = parts[0].axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(models), 2 * width), frameon=False, fontsize=9
    )
    path = Path(folder) / f"{name}.csv"
    write_text(path, _csv(rows))
    return [path, *figures.save(figure, folder, name, formats)]


def _panel(axes: Axes, row: PanelRow, column: str, models: Sequence[str]) -> None:
    """Error over one cost: the original as a star, its variants as dots, joined in the order of their groups."""
    from matplotlib import colormaps
    from matplotlib.ticker import EngFormatter

    x = [point[column] for point in row.points.values()]
    y = [point["error"] for point in row.points.values()]
    axes.plot(x, y, color="0.8", linewidth=1, zorder=1)
    for i, model in enumerate(row.points):
        colour = colormaps["viridis"](models.index(model) / max(len(models), 2))
        look: dict[str, Any] = {"marker": "*", "s": 150} if model == ORIGINAL_ROW else {"marker": "o", "s": 55}
        axes.scatter(x[i], y[i], color=colour, label=model, zorder=2, edgecolor="0.2", linewidth=0.5, **look)
        if "standard_error" in row.points[model]:
            bar = row.points[model]["standard_error"]
            axes.errorbar(x[i], y[i], bar, color=colour, linewidth=1, capsize=2, zorder=1.5)
    axes.set_xlabel(AXES[column])
    axes.margins(0.12)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    if not column.endswith("_ms"):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=5)


def _csv(rows: Sequence[PanelRow]) -> str:
    """The points of all rows: whether reported or measured (if several are, which of them), model, plotted values."""
    kinds = [row.title.partition(":")[0] for row in rows]
    names = [f"{kind} {kinds[: i + 1].count(kind)}" if kinds.count(kind) > 1 else kind for i, kind in enumerate(kinds)]
    points = [point for row in rows for point in row.points.values()]
    columns = [column for column in (*AXES, "error", "standard_error") if any(column in point for point in points)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "model", *columns))
    for name, row in zip(names, rows, strict=True):
        for model, point in row.points.items():
            cells = (f"{point[column]:.6g}" if column in point else "" for column in columns)
            writer.writerow((name, model, *cells))
    return text.getvalue()
