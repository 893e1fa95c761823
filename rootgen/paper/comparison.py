"""The paper's table of an architecture beside what was counted and timed here, as shares of Orig.; and its figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rootgen.files import write_text
from rootgen.generator import render
from rootgen.generator.architectures import ORIGINAL_ROW, architecture
from rootgen.grouping import Plan
from rootgen.paper import panels, plot, tables
from rootgen.paper.counts import Counts, count_text
from rootgen.paper.panels import PanelRow
from rootgen.paper.timed import Series, Times
from rootgen.text import Table

TABLE = "table.csv"
KINDS = {"cpu": "CPU", "gpu": "GPU"}
MISCOUNT = "the paper's parameters and FLOPs are a miscount (docs/errata.md)"


@dataclass(frozen=True)
class Spread:
    """A quantity over the rounds: its median, the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class ComparedRow:
    """One row of the table, measured.

    counts: as the paper counts, convolutions and fc layers alone, with the auxiliary heads, which are not timed. times:
    milliseconds per image forward by kind of device, and shares: of Orig.'s in the same round. paper: cells as printed
    or, where none are, the author's digits, each with Orig.'s; source: where these stand, "" if nowhere.
    """

    model: str
    counts: Counts
    times: Mapping[str, Spread]
    shares: Mapping[str, Spread]
    paper: Mapping[str, tuple[str, str]]
    source: str

    def reported_share(self, column: str) -> float | None:
        """A cell of the paper's as a share of Orig.'s."""
        cell, first = self.paper.get(column, ("", ""))
        return float(cell) / float(first) if cell and first else None


def compare(times: Times, found: Sequence[Series]) -> list[ComparedRow]:
    """The rows that were timed, in the order of the table."""
    measured = {series.kind: times.of(series) for series in found}
    rows = []
    for row in architecture(times.arch).groups.rows:
        rounds = {kind: of[row] for kind, of in measured.items() if row in of}
        if not rounds:
            continue
        base = {kind: measured[kind].get(ORIGINAL_ROW, {}) for kind in rounds}
        shared = {kind: [ms / base[kind][turn] for turn, ms in its.items() if turn in base[kind]]
                  for kind, its in rounds.items()}  # fmt: skip
        paper, source = _paper(times.arch, row)
        rows.append(
            ComparedRow(
                row,
                _counts(times, row),
                {kind: Spread.of(list(its.values())) for kind, its in rounds.items()},
                {kind: Spread.of(its) for kind, its in shared.items() if its},
                paper,
                source,
            )
        )
    return rows


def _counts(times: Times, row: str) -> Counts:
    arch = architecture(times.arch)
    options = render.NetOptions(crop_size=times.crop, classes=times.classes)
    return count_text(render.net(arch, Plan.named(row), options), times.crop or arch.crop)


def _paper(arch: str, row: str) -> tuple[dict[str, tuple[str, str]], str]:
    """What is reported of a row, each cell with Orig.'s from the same place, and the place."""
    printed, digits = tables.reported(arch), tables.author_figures()
    author = {model: cells for (name, model), cells in digits.items() if name == arch}
    for place, cells in ((architecture(arch).results, printed), (tables.AUTHOR, author)):
        if row in cells and ORIGINAL_ROW in cells:
            return {name: (cell, cells[ORIGINAL_ROW][name]) for name, cell in cells[row].items()}, place
    return {}, ""


def save(times: Times, found: Sequence[Series]) -> tuple[list[dict[str, Any]], Table]:
    """Write times/table.csv and the figure; what table.csv holds, and the table for people."""
    rows = compare(times, found)
    cells = records(times, found, rows)
    lines = [["" if cell is None else cell for cell in row.values()] for row in cells]
    write_text(times.folder / TABLE, Table(list(cells[0]), lines).csv())
    draw(times, found, rows, plot.FORMATS)
    return cells, table(times, found, cells)


def records(times: Times, found: Sequence[Series], rows: Sequence[ComparedRow]) -> list[dict[str, Any]]:
    """A row each for programs: counts, times and their spread, shares of Orig.'s, the paper's cells and shares."""
    first = next((row for row in rows if row.model == ORIGINAL_ROW), None)
    accuracies = [name for name in tables.ACCURACIES if any(name in row.paper for row in rows)]
    return [
        {
            "architecture": times.arch,
            "model": row.model,
            "params": row.counts.weights,
            "params_share": row.counts.weights / first.counts.weights if first else None,
            "params_paper": _cell(row, "params"),
            "params_share_paper": row.reported_share("params"),
            "macs": row.counts.macs,
            "macs_share": row.counts.macs / first.counts.macs if first else None,
            "flops_paper": _cell(row, "flops"),
            "flops_share_paper": row.reported_share("flops"),
            **{name: value for series in found for name, value in _times(row, series).items()},
            **{f"{name}_paper": _cell(row, name) for name in accuracies},
            "source_paper": row.source,
            "crop": found[0].crop,
        }
        for row in rows
    ]


def _cell(row: ComparedRow, column: str) -> str | None:
    return row.paper.get(column, ("", ""))[0] or None


def _times(row: ComparedRow, series: Series) -> dict[str, Any]:
    """The columns of one kind of device."""
    kind = series.kind
    took, share = row.times.get(kind), row.shares.get(kind)
    return {
        f"{kind}_ms": took and took.median,
        f"{kind}_ms_low": took and took.low,
        f"{kind}_ms_high": took and took.high,
        f"{kind}_share": share and share.median,
        f"{kind}_share_low": share and share.low,
        f"{kind}_share_high": share and share.high,
        f"{kind}_ms_paper": _cell(row, f"{kind}_ms"),
        f"{kind}_share_paper": row.reported_share(f"{kind}_ms"),
        f"{kind}_batch": series.batch,
        f"{kind}_engine": series.engine,
        f"{kind}_device": series.device,
    }


def table(times: Times, found: Sequence[Series], cells: Sequence[dict[str, Any]]) -> Table:
    """The records for people; columns that would be empty are left out."""
    columns: list[tuple[str, str, Callable[[Any], str]]] = [("model", "model", str)]
    for name, quantity, cell in (("params", "params", "params"), ("MACs", "macs", "flops")):
        columns += [
            (name, quantity, _short),
            ("of Orig.", f"{quantity}_share", _share),
            ("paper's", f"{cell}_share_paper", _share),
        ]
    for kind in (series.kind for series in found):
        columns += [
            (f"{KINDS[kind]} ms", f"{kind}_ms", "{:.4g}".format),
            ("of Orig.", f"{kind}_share", _share),
            ("from", f"{kind}_share_low", _share),
            ("to", f"{kind}_share_high", _share),
            ("paper's", f"{kind}_share_paper", _share),
        ]
    columns += [(f"paper's {word}", f"{name}_paper", str) for name, word in tables.ACCURACIES.items()]
    kept = [column for column in columns if any(row.get(column[1]) is not None for row in cells)]
    shown = [["-" if row.get(key) is None else show(row[key]) for _, key, show in kept] for row in cells]
    return Table([name for name, _, _ in kept], shown, title(times, found))


def title(times: Times, found: Sequence[Series]) -> str:
    """What the table shows, what computed, and what to know of the paper's figures."""
    arch = architecture(times.arch)
    rounds = max(max(of) for series in found for of in times.of(series).values())
    told = [f"{arch.title} at {found[0].crop}x{found[0].crop}: forward, milliseconds per image"]
    told += [f"{KINDS[one.kind]}: {one.engine} on {one.device}, batches of {one.batch}" for one in found]
    told += [f"{f'medians of {rounds} rounds' if rounds > 1 else 'one round'}, shares of Orig. in the same round"]
    sources = dict.fromkeys(_paper(times.arch, row)[1] for row in times.rows)
    told += [f"the paper's: {' and '.join(filter(None, sources))}"] if any(sources) else []
    return "; ".join(told + ([MISCOUNT] if arch.miscounted else []))


def _short(count: int) -> str:
    """A count in millions or milliards, as the tables of the field have it."""
    return f"{count / 1e9:.2f}G" if count >= 1e9 else f"{count / 1e6:.2f}M"


def _share(value: float) -> str:
    return f"{value:.3f}"


def draw(times: Times, found: Sequence[Series], rows: Sequence[ComparedRow], formats: Sequence[str]) -> list[Path]:
    """The figure times/ARCH.*: the paper's, its errors over the times measured here, and shares of time over cost."""
    shown = []
    if times.arch in plot.families():
        paper = plot.reported(times.arch)
        measured = _errors_over_times(found, rows, paper)
        shown = [paper, *([measured] if measured.points else [])]
    shown += [row for row in (_time_over_cost(series, rows) for series in found) if row.points]
    return panels.draw(shown, times.folder, times.arch, formats) if shown else []


def _errors_over_times(found: Sequence[Series], rows: Sequence[ComparedRow], paper: PanelRow) -> PanelRow:
    """The errors that the paper reports over the times measured here."""
    kinds = [series.kind for series in reversed(found)]
    points = {
        row.model: {f"{kind}_ms": row.times[kind].median for kind in kinds}
        | {"error": paper.points[row.model]["error"]}
        for row in rows
        if row.model in paper.points and all(kind in row.times for kind in kinds)
    }
    devices = " and ".join(f"{series.engine} on {series.device}" for series in found)
    heading = f"times measured: {devices}; errors as reported"
    return PanelRow(heading, paper.error, tuple(f"{kind}_ms" for kind in kinds), points, hollow=True)


def _time_over_cost(series: Series, rows: Sequence[ComparedRow]) -> PanelRow:
    """Shares of Orig.'s time over shares of its parameters and multiply-adds, measured over reported."""
    base = [row.counts for row in rows if row.model == ORIGINAL_ROW]
    own, paper = {}, {}
    for row in rows if base else ():
        at = {"params_share": row.counts.weights / base[0].weights, "macs_share": row.counts.macs / base[0].macs}
        if share := row.shares.get(series.kind):
            own[row.model] = at | {"error": share.median, "low": share.low, "high": share.high}
        if reported := row.reported_share(f"{series.kind}_ms"):
            paper[row.model] = at | {"error": reported}
    labels = {"params_share": "parameters, share of Orig.'s", "macs_share": "multiply-adds, share of Orig.'s"}
    kind = KINDS[series.kind]
    heading = f"{kind} time: measured (hollow; bars: the range of the rounds)"
    return PanelRow(
        heading + (" over reported (full)" if paper else ""),
        f"{kind} time, share of Orig.'s",
        tuple(labels),
        own,
        labels=labels,
        hollow=True,
        beneath=PanelRow("", "", tuple(labels), paper) if paper else None,
    )
