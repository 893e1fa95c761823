"""The paper's figures of cost against error (Figs. 2 and 5 and their kin), from reported and from measured results.

Reported points come from data/*_reported.csv as printed, errata included; what the paper only plots comes from the
author's data and says so. Measured ones come from a results.csv (results.py). They are drawn in rows of their own:
another data set and another machine share no axis; a last row shows both against their own Orig.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from rootgen.errors import RootgenError, UnknownNameError, did_you_mean
from rootgen.files import write_text
from rootgen.generator.architectures import ORIGINAL_ROW, Arch, architecture, architectures, recipe
from rootgen.paper import panels, tables
from rootgen.paper.counts import counted
from rootgen.paper.panels import AXES, PanelRow
from rootgen.paper.results import IMAGE_SETS, Replicates, RunResult, replicates

FORMATS = ("png", "pdf", "svg")
AUTHOR = "the author's data"  # what tables.AUTHOR names in full

ACCURACIES = {"accuracy": "error (%)", "top5": "top-5 error (%)"}  # columns of the tables, and what to call 1 - them
RELATIVE = {"params": "parameters", "macs": "multiply-adds", "time_ms": "forward time"}  # in the row against Orig.
SPREADS = ("deviation", "standard_error")  # of an error: from run to run; of a share of so many test images


def families() -> list[str]:
    """The architectures whose results the paper reports, in a table or in a figure."""
    shown = {arch for arch, _ in tables.author_figures()}
    return [name for name, arch in architectures().items() if arch.results or name in shown]


def reported(family: str) -> PanelRow:
    """The points that the paper reports for the architecture `family`."""
    if family not in families():
        raise UnknownNameError(f"no figure '{family}'", family, families())
    arch = architecture(family)
    printed = {model: _printed(arch, cells) for model, cells in tables.reported(family).items()}
    plotted = {
        model: _plotted(arch, model, cells)
        for (name, model), cells in tables.author_figures().items()
        if name == family and model not in printed
    }
    points = printed | plotted
    spread = tables.author_figures().get((family, ORIGINAL_ROW), {}).get("top1_deviation")
    if spread:
        points[ORIGINAL_ROW]["deviation"] = 100 * float(spread)
    columns = tuple(column for column in AXES if all(column in point for point in points.values()))
    sources = dict.fromkeys(printed, arch.results) | dict.fromkeys(plotted, AUTHOR)
    accuracy = "top5" if "accuracy" not in next(iter(tables.reported(family).values()), {}) else "accuracy"
    return PanelRow(_title(arch, bool(plotted), spread), ACCURACIES[accuracy], columns, points, sources)


def _title(arch: Arch, plotted: bool, spread: str | None) -> str:
    """What is reported, where it stands, and what is not from there."""
    places = [arch.results + (", a miscount: see docs/errata.md" if arch.miscounted else "")] if arch.results else []
    if plotted and arch.results:
        places.append(f"column and tree: {AUTHOR}, as in Fig. 5")
    elif plotted:
        places.append(f"{arch.table}: errors {AUTHOR}, costs counted here")
    if spread:
        places.append(f"band: ± one standard deviation of Orig. over 5 initialisations, {AUTHOR}")
    return f"reported: {arch.title} on {recipe(arch.recipe).images} ({'; '.join(places)})"


def _printed(arch: Arch, cells: dict[str, str]) -> dict[str, float]:
    """The point of a row of the paper's table."""
    accuracy = next(column for column in ACCURACIES if column in cells)
    point = {
        "params": float(cells["params"]) * 10**arch.params_unit,
        "flops": float(cells["flops"]) * 10**arch.flops_unit,
        "error": 100 * (1 - float(cells[accuracy])),
    }
    return point | {column: float(cells[column]) for column in ("gpu_ms", "cpu_ms") if cells.get(column)}


def _plotted(arch: Arch, model: str, cells: dict[str, str]) -> dict[str, float]:
    """The point of a row of the author's data; costs that it does not tell are counted, as the paper counts."""
    counts = counted(arch.name, model)
    point = {
        "params": float(cells["params"] or counts.params),
        "flops": float(cells["flops"] or counts.flops),
        "error": 100 * (1 - float(cells["top5"] or cells["top1"])),
    }
    return point | {column: float(cells[column]) for column in ("gpu_ms", "cpu_ms") if cells[column]}


def measured(family: str, results: Sequence[RunResult], where: object = "results") -> PanelRow:
    """The points of one experiment: means over its seeds.

    Their spreads are standard deviations from seed to seed, or of a single run the standard error of a share of so
    many test images. RootgenError at `where` for what is of another architecture or image set, or of several runs.
    """
    _check_fit(family, results, where)
    rows = replicates(results)
    points = {}
    for row in rows:
        first, error = row.runs[0], 100 * (1 - row.accuracy)
        point = {"params": float(first.params), "macs": float(first.macs), "time_ms": row.time_ms, "error": error}
        if len(row.runs) > 1:
            point |= {"deviation": 100 * row.deviation}
        else:
            point |= {"standard_error": 100 * sqrt(row.accuracy * (1 - row.accuracy) / first.images)}
        points[row.model] = point | {"n": float(len(row.runs))}
    columns = tuple(name for name in RELATIVE if not any(math.isnan(point[name]) for point in points.values()))
    first = results[0]
    run = f"{first.dataset}, {first.epochs:.3g} epochs, {first.engine} on {first.device}"
    return PanelRow(f"measured: {run}; bars: ± {_bars(rows)}", "error (%)", columns, points, hollow=True)


def _bars(rows: Sequence[Replicates]) -> str:
    """What the bars of measured points are."""
    counts = sorted({len(row.runs) for row in rows})
    single = "one standard error"
    if counts == [1]:
        return single
    several = "–".join(str(count) for count in dict.fromkeys((max(counts[0], 2), counts[-1])))
    told = f"one standard deviation over {several} seeds"
    return f"{told} (of a single run {single})" if counts[0] == 1 else told


def beside(paper: PanelRow, own: PanelRow) -> PanelRow | None:
    """Measured points over reported ones, both against their own Orig.; None where one of them has none.

    None too where the reported errors are of another kind: on ILSVRC they are top-5.
    """
    if ORIGINAL_ROW not in paper.points or ORIGINAL_ROW not in own.points or paper.error != own.error:
        return None
    time = "gpu_ms" if "GPU" in own.title.upper().rpartition(" ON ")[2] else "cpu_ms"
    names = {"macs": "flops", "time_ms": time}
    columns = tuple(name for name in own.columns if names.get(name, name) in paper.columns)
    labels = {name: f"{word}, share of Orig.'s" for name, word in RELATIVE.items()}
    base = PanelRow("", "", columns, _against_original(paper, {name: names.get(name, name) for name in columns}))
    return PanelRow(
        "against Orig.: measured (hollow) over reported (full)",
        "error less Orig.'s (points)",
        columns,
        _against_original(own, {name: name for name in columns}),
        labels=labels,
        hollow=True,
        beneath=base,
    )


def _against_original(row: PanelRow, columns: dict[str, str]) -> dict[str, dict[str, float]]:
    """Costs as shares of Orig.'s, errors less Orig.'s; `columns` maps the names to those of `row`."""
    first = row.points[ORIGINAL_ROW]
    kept = (*SPREADS, "n")
    return {
        model: {name: point[column] / first[column] for name, column in columns.items()}
        | {"error": point["error"] - first["error"]}
        | {name: point[name] for name in kept if name in point}
        for model, point in row.points.items()
    }


def _check_fit(family: str, results: Sequence[RunResult], where: object) -> None:
    """Refuse results that do not belong beside those of `family`, or not beside each other."""
    rows = architecture(family).groups.rows
    fitting = IMAGE_SETS.get(architecture(family).recipe)
    first = results[0]
    for result in results:
        if result.architecture != family:
            what = f"'{result.model}' is of the architecture '{result.architecture}', not of '{family}'"
            raise RootgenError(what, where=where, hint=f"rootgen plot {result.architecture} --measured ...")
        if result.model not in rows:
            hint = did_you_mean(result.model, rows)
            raise RootgenError(f"{family} has no row '{result.model}'", where=where, hint=hint)
        if fitting and result.dataset not in fitting:
            what = f"'{result.model}' was measured on '{result.dataset}', which is not for {family}"
            raise RootgenError(what, where=where, hint=f"known: {', '.join(fitting)}")
        if (result.dataset, result.images) != (first.dataset, first.images):
            there, here = (f"{one.images} images of {one.dataset}" for one in (first, result))
            what = f"holds several runs: '{first.model}' on {there}, '{result.model}' on {here}"
            raise RootgenError(what, where=where, hint="a file each, and --measured for each")
    counts = Counter((result.model, result.seed) for result in results)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        model, seed = twice[0]
        what = f"holds '{model}' twice" + (f" with seed {seed}" if seed else "")
        raise RootgenError(what, where=where, hint="a file per run, and --measured for each")


def draw(rows: Sequence[PanelRow], folder: str | Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw `rows` as one figure folder/name.*, with the points behind it as folder/name.csv; the files."""
    both = [beside(rows[0], row) for row in rows[1:]] if not rows[0].hollow else []
    path = Path(folder) / f"{name}.csv"
    write_text(path, _csv(rows))
    return [path, *panels.draw([*rows, *(row for row in both if row is not None)], folder, name, formats)]


def _csv(rows: Sequence[PanelRow]) -> str:
    """The points of all rows: whether reported or measured (if several are, which of them), model, plotted values."""
    kinds = [row.title.partition(":")[0] for row in rows]
    names = [f"{kind} {kinds[: i + 1].count(kind)}" if kinds.count(kind) > 1 else kind for i, kind in enumerate(kinds)]
    points = [point for row in rows for point in row.points.values()]
    shown = (*AXES, "error", *SPREADS, "n")
    columns = [column for column in shown if any(column in point for point in points)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "model", *columns, "from"))
    for name, row in zip(names, rows, strict=True):
        for model, point in row.points.items():
            cells = (f"{point[column]:.6g}" if column in point else "" for column in columns)
            writer.writerow((name, model, *cells, row.sources.get(model, "")))
    return text.getvalue()
