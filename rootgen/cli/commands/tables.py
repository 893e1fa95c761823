"""rootgen tables: the paper's FLOPs and params beside what its networks count, and its errata."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys

from rootgen.cli import UsageError, refuse_idle, write_out
from rootgen.errors import UnknownNameError
from rootgen.generator.architectures import Arch, architectures
from rootgen.paper import counts

HELP = "Count every FLOPs and params cell of the paper's Tables 2, 4, 5 and 6, and check the percentages of its text."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="*", help="these architectures alone")
    parser.add_argument("--format", choices=("table", "csv", "json"), help="default: table")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every cell is met")
    parser.add_argument("--errata", action="store_true", help="the errata page instead (Markdown)")
    parser.add_argument("-o", "--out", metavar="FILE", help="write here instead of to stdout")


def run(args: argparse.Namespace) -> int:
    if args.errata:
        from rootgen.paper import errata

        refuse_idle(args, ("check", "format"), "does nothing with --errata")
        if args.arch:
            raise UsageError("--errata is a page on the whole paper: name no architecture with it")
        write_out(errata.page(), args.out)
        return 0
    rows = [row for arch in _chosen(args.arch) for row in counts.rows(arch)]
    write = {"csv": _csv, "json": _json}.get(args.format, _table)
    text = write(rows)
    if write is _table and not args.arch:
        text += "\n" + _claims()
    write_out(text, args.out)
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
    }


def _json(rows: list[counts.CountedRow]) -> str:
    return json.dumps([_record(row) for row in rows], indent=2) + "\n"


def _csv(rows: list[counts.CountedRow]) -> str:
    text = io.StringIO()
    out = csv.DictWriter(text, list(_record(rows[0])), lineterminator="\n")
    out.writeheader()
    out.writerows(_record(row) for row in rows)
    return text.getvalue()


def _table(rows: list[counts.CountedRow]) -> str:
    """One table per table of the paper; the true counts in columns of their own where the paper's are not them."""
    from rootgen.text import table

    parts = []
    for arch in dict.fromkeys(row.arch for row in rows):
        header = ["model", "paper", "", "counted", "paper", "", "counted"]
        header[1:3] = [f"FLOPs 1e{arch.flops_unit}", "met"]
        header[4:6] = [f"params 1e{arch.params_unit}", "met"]
        lines = []
        for row in rows:
            if row.arch is arch:
                cells = row.counts
                line = [row.model, row.flops_paper, _met(row.flops_match), cells.flops]
                line += [row.params_paper, _met(row.params_match), cells.params]
                lines.append(line + [cells.macs, cells.weights] * arch.miscounted)
        header += ["true multiply-adds", "true params"] * arch.miscounted
        note = ", a miscount: see docs/errata.md" if arch.miscounted else ""
        parts.append(table(header, lines, title=f"{arch.results}: {arch.title}{note}"))
    return "\n".join(parts)


def _met(match: bool) -> str:
    return "yes" if match else "NO"


def _claims() -> str:
    from rootgen.paper import errata
    from rootgen.text import table

    header = ["where", "model", "claim", "by the tables", "found", "verdict", "note"]
    return table(header, errata.claim_rows(), title="Percentages and figures of the text")
