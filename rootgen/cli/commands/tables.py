"""rootgen tables: the paper's FLOPs and params beside what its networks count, and its errata."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rootgen.cli import UsageError, output, refuse_idle, write_out
from rootgen.errors import UnknownNameError
from rootgen.generator.architectures import Arch, architectures
from rootgen.paper import counts
from rootgen.paper.tables import ACCURACIES, TIMES, reported
from rootgen.text import Table

HELP = "Count every FLOPs and params cell of the paper's Tables 2, 4, 5 and 6, and check the percentages of its text."

MEASURED = ACCURACIES | TIMES  # what the paper's tables print besides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="*", help="these architectures alone")
    output.add_format_arguments(parser, default=None)
    parser.add_argument("--check", action="store_true", help="exit 1 unless every cell is met")
    parser.add_argument("--errata", action="store_true", help="the errata page instead (Markdown)")


def run(args: argparse.Namespace) -> int:
    if args.errata:
        from rootgen.paper import errata

        refuse_idle(args, ("check", "format"), "does nothing with --errata")
        if args.arch:
            raise UsageError("--errata is a page on the whole paper: name no architecture with it")
        write_out(errata.page(), args.out)
        return 0
    rows = [row for arch in _chosen(args.arch) for row in counts.rows(arch)]
    shown = [*_tables(rows), *([] if args.arch else [_claims()])] if args.format not in ("csv", "json") else []
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


def _met(match: bool) -> str:
    return "yes" if match else "NO"


def _claims() -> Table:
    from rootgen.paper import errata

    header = ["where", "model", "claim", "by the tables", "found", "verdict", "note"]
    return Table(header, list(errata.claim_rows()), "Percentages and figures of the text")
