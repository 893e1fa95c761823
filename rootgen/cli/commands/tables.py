"""rootgen tables: the paper's FLOPs and params beside what its networks count, and its errata."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rootgen.cli import UsageError, output, refuse_idle, write_out
from rootgen.errors import UnknownNameError
from rootgen.generator.architectures import Arch, architectures
from rootgen.paper import counts
from rootgen.paper.tables import ACCURACIES, AUTHOR, TIMES, author_figures, reported
from rootgen.text import Table

HELP = "Count every FLOPs and params cell of the paper's Tables 2, 4, 5 and 6, and check the percentages of its text."

AUTHOR_COLUMNS = {
    "top1": "top-1",
    "top1_deviation": "± std",
    "top5": "top-5",
    "cpu_ms": "CPU ms",
    "gpu_ms": "GPU ms",
    "timing_batch": "timed at batch",
    "flops": "FLOPs",
    "params": "params",
}
MEASURED = ACCURACIES | TIMES  # what the paper's tables print besides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="*", help="these architectures alone")
    output.add_format_arguments(parser, default=None)
    parser.add_argument("--check", action="store_true", help="exit 1 unless every cell is met")
    parser.add_argument(
        "--author", action="store_true", help="all digits of the first author's data instead: what the figures are of"
    )
    parser.add_argument("--errata", action="store_true", help="the errata page instead (Markdown)")


def run(args: argparse.Namespace) -> int:
    if args.author:
        refuse_idle(args, ("check", "errata"), "does nothing with --author")
        _write_author(args)
        return 0
    if args.errata:
        from rootgen.paper import errata

        refuse_idle(args, ("check", "format"), "does nothing with --errata")
        if args.arch:
            raise UsageError("--errata is a page on the whole paper: name no architecture with it")
        write_out(errata.page(), args.out)
        return 0
    rows = [row for arch in _chosen(args.arch) for row in counts.rows(arch)]
    names = [arch.name for arch in _chosen(args.arch)]
    shown = []
    if args.format not in ("csv", "json"):
        shown = [*_tables(rows), *_unprinted(names if args.arch else [*architectures()])]
        shown += [] if args.arch else [_claims()]
    write_out(output.answer(args.format, shown, [_record(row) for row in rows]), args.out)
    return _check(rows) if args.check else 0


def _chosen(names: list[str]) -> list[Arch]:
    known = {name: arch for name, arch in architectures().items() if arch.results}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"the paper has no table of results for '{name}'", name, known)
    return [known[name] for name in names or known]


def _check(rows: list[counts.CountedRow]) -> int:
    """Say on stderr how many cells are met; 1 if any is not."""
    missed = [f"{row.arch.results} {row.model} {column}" for row in rows for column in _missed(row)]
    print(f"{2 * len(rows)} cells, {2 * len(rows) - len(missed)} met", file=sys.stderr)
    for cell in missed:
        print(f"not met: {cell}", file=sys.stderr)
    return 1 if missed else 0


def _missed(row: counts.CountedRow) -> list[str]:
    return [name for name, met in (("FLOPs", row.flops_match), ("params", row.params_match)) if not met]


def _record(row: counts.CountedRow) -> dict[str, object]:
    return {
        "table": row.arch.results,
        "model": row.model,
        "flops": row.counts.flops,
        "params": row.counts.params,
        "flops_paper": row.flops_paper,
        "params_paper": row.params_paper,
        "match": row.flops_match and row.params_match,
        "arch": row.arch.name,
        "macs": row.counts.macs,
        "weights": row.counts.weights,
        **{name: reported(row.arch.name)[row.model].get(name) for name in MEASURED},
    }


def _tables(rows: list[counts.CountedRow]) -> Iterator[Table]:
    """One per table of the paper, in its columns; the true counts in columns of their own where the paper's are not."""
    for arch in dict.fromkeys(row.arch for row in rows):
        its = [row for row in rows if row.arch is arch]
        measured = {name: word for name, word in MEASURED.items() if name in reported(arch.name)[its[0].model]}
        header = [
            "model",
            f"FLOPs 1e{arch.flops_unit}",
            "met",
            "counted",
            f"params 1e{arch.params_unit}",
            "met",
            "counted",
        ]
        header += ["true multiply-adds", "true params"] * arch.miscounted
        lines: list[list[object]] = []
        for row in its:
            cells = row.counts
            line: list[object] = [row.model, row.flops_paper, _met(row.flops_match), cells.flops]
            line += [row.params_paper, _met(row.params_match), cells.params]
            line += [cells.macs, cells.weights] * arch.miscounted
            lines.append([*line, *(reported(arch.name)[row.model][name] for name in measured)])
        note = ", a miscount: see docs/errata.md" if arch.miscounted else ""
        yield Table([*header, *measured.values()], lines, f"{arch.results}: {arch.title}{note}")


def _unprinted(names: list[str]) -> Iterator[Table]:
    """Rows that the paper only plots (Figs. 5 and 2), and the spread of NiN's Orig.; none where it plots no more."""
    found = [
        row
        for (arch, model), row in author_figures().items()
        if arch in names and (model not in reported(arch) or row["top1_deviation"])
    ]
    if found:
        title = f"Figs. 5 and 2, rows that no table prints and the spread of Orig. (five initialisations): {AUTHOR}"
        yield _author_table(found, title)


def _author_table(rows: list[dict[str, str]], title: str) -> Table:
    columns = {name: word for name, word in AUTHOR_COLUMNS.items() if any(row[name] for row in rows)}
    cells = [
        [architectures()[row["arch"]].title, row["model"], *(row[name] or "-" for name in columns)] for row in rows
    ]
    return Table(["network", "model", *columns.values()], cells, title)


def _write_author(args: argparse.Namespace) -> None:
    """All digits of the author's, in every format."""
    known = dict.fromkeys(arch for arch, _ in author_figures())
    for name in args.arch:
        if name not in known:
            raise UnknownNameError(f"the author's data has no '{name}'", name, known)
    rows = [row for row in author_figures().values() if not args.arch or row["arch"] in args.arch]
    records = [{**row, "source": AUTHOR} for row in rows]
    write_out(output.answer(args.format, [_author_table(rows, f"All digits: {AUTHOR}")], records), args.out)


def _met(match: bool) -> str:
    return "yes" if match else "NO"


def _claims() -> Table:
    from rootgen.paper import errata

    header = ["where", "model", "claim", "by the tables", "found", "verdict", "note"]
    return Table(header, list(errata.claim_rows()), "Percentages and figures of the text")
