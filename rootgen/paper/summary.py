"""The table that an experiment ends with: what each row costs, how well it does, what its filters show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rootgen.generator.architectures import ORIGINAL_ROW, Arch, recipe
from rootgen.paper import results, tables
from rootgen.paper.results import Replicates
from rootgen.paper.statistics import welch
from rootgen.text import Table


def records(arch: Arch, found: Sequence[Replicates]) -> list[dict[str, Any]]:
    """A row of the table each: what it costs, how well it does (means over the seeds), what its filters show."""
    base = results.original(found)
    lines = []
    for row in found:
        paper, source = tables.top1(arch.name, row.model)
        difference, within = (None, None) if base is None else results.difference(row, base)
        lines.append(
            {
                "model": row.model,
                "params": row.runs[0].params,
                "macs": row.runs[0].macs,
                "accuracy_paper": paper,
                "accuracy": row.accuracy,
                "time_ms": row.time_ms,
                "block_score": row.mean("block_score"),
                "control_score": row.mean("control_score"),
                "source_paper": source,
                "runs": len(row.runs),
                "deviation": row.deviation,
                "difference": difference,
                "within_deviation": within,
                "untrained_score": row.mean("untrained_score"),
                "welch_p": None if base in (None, row) else welch(row, base),
            }
        )
    return lines


def table(arch: Arch, found: Sequence[Replicates]) -> Table:
    """The same for people."""
    header = [
        "model",
        "params",
        "MACs",
        "paper's accuracy",
        "this run's",
        "time",
        "block score",
        "untrained",
        "Orig.'s",
    ]
    lines = records(arch, found)
    several = any(row["runs"] > 1 for row in lines)
    base = results.original(found) or found[0]
    rows = [
        (
            row["model"],
            f"{row['params']:,}",
            f"{row['macs'] / 1e6:.1f}M",
            f"{row['accuracy_paper'] or '-'}{'*' * (row['source_paper'] == tables.AUTHOR)}",
            _accuracy(row, several),
            *([_difference(row)] if several else []),
            _score(row["time_ms"] / base.time_ms),
            _score(row["block_score"]),
            _score(row["untrained_score"]),
            _score(row["control_score"]),
        )
        for row in lines
    ]
    if several:
        header.insert(5, "to Orig.")
    first = found[0].runs[0]
    ran = f"{first.dataset}, {first.epochs:.3g} epochs, {first.engine} on {first.device}"
    images = recipe(arch.recipe).images
    notes = f"the paper's accuracies are on {images}; time is forward, relative to {base.model}"
    if any(row["source_paper"] == tables.AUTHOR for row in lines):
        notes += f"; *: {tables.AUTHOR}"
    if several:
        notes += "; ± one standard deviation over (n) seeds, within: no more than the larger of the two"
    return Table(header, rows, f"{arch.title}: {ran}; {notes}")


def _accuracy(row: dict[str, Any], several: bool) -> str:
    """The mean accuracy, where there are replicates with its spread and their number."""
    spread = "" if math.isnan(row["deviation"]) else f" ± {row['deviation']:.4f}"
    return f"{row['accuracy']:.4f}{spread}" + (f" ({row['runs']})" if several else "")


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["model"] == ORIGINAL_ROW:
        return "-"
    return f"{row['difference']:+.4f}" + (", within" if row["within_deviation"] else "")


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
