"""rootgen list: the architectures, their rows, and the groups of each."""

from __future__ import annotations

import argparse
import sys

from rootgen.generator.architectures import Arch, architecture, architectures, row_folder

HELP = "Architectures of the paper, their rows and their filter groups."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="?", help="show this architecture alone")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")


def run(args: argparse.Namespace) -> None:
    shown = [architecture(args.arch)] if args.arch else list(architectures().values())
    if args.format == "table":
        sys.stdout.write("\n".join(_table(arch) for arch in shown))
    elif args.format == "csv":
        import csv

        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(["arch", "row", "layer", "group"])
        out.writerows((arch.name, *line) for arch in shown for line in _groups(arch))
    else:
        import json

        json.dump([_record(arch) for arch in shown], sys.stdout, indent=2)
        print()


def _grouped(arch: Arch) -> list[int]:
    """Indices of the columns that some row or rule gives groups."""
    table = arch.groups
    return [i for i, stage in enumerate(table.stages) if stage or any(row[i] > 1 for row in table.rows.values())]


def _groups(arch: Arch) -> list[tuple[str, str, int]]:
    """(row, layer or layer pattern, groups) of every cell of the architecture's grouped columns."""
    columns = arch.groups.columns
    return [(name, columns[i], row[i]) for name, row in arch.groups.rows.items() for i in _grouped(arch)]


def _table(arch: Arch) -> str:
    from rootgen.text import table

    shown = _grouped(arch)
    header = ["row", *(arch.groups.columns[i] for i in shown)]
    rows = [[row_folder(name), *(row[i] for i in shown)] for name, row in arch.groups.rows.items()]
    return table(header, rows, title=f"{arch.name}: {arch.title}, groups as in {arch.table}")


def _record(arch: Arch) -> dict[str, object]:
    rows: dict[str, dict[str, int]] = {}
    for name, layer, group in _groups(arch):
        rows.setdefault(name, {})[layer] = group
    return {"arch": arch.name, "title": arch.title, "table": arch.table, "rows": rows}
