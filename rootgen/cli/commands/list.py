"""rootgen list: the architectures, their rows, what each costs and how well it does; or the layer types."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rootgen.cli import UsageError, output
from rootgen.generator.architectures import Arch, architecture, architectures
from rootgen.paper.tables import ACCURACIES, recorded, reported
from rootgen.text import Table

if TYPE_CHECKING:
    from rootgen.net.layers.registry import LayerType

HELP = (
    "Architectures of the paper: the filter groups of every row, parameters and multiply-adds per image of its deploy "
    "net, and the accuracy that the paper reports."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="?", help="show this architecture alone")
    parser.add_argument("--layers", action="store_true", help="instead, every layer type and what each engine runs")
    output.add_format_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.layers:
        if args.arch:
            raise UsageError("--layers shows layer types: name no architecture with it")
        types = _types()
        output.write_out(output.answer(args.format, [_types_table(types)], types), args.out)
        return
    shown = [architecture(args.arch)] if args.arch else list(architectures().values())
    if args.format == "csv":
        text = output.csv_table([line for arch in shown for line in _lines(arch)])
    elif args.format == "json":
        text = output.json_list(_object(arch) for arch in shown)
    else:
        text = output.for_people((_table(arch) for arch in shown), args.format)
    output.write_out(text, args.out)


def _grouped(arch: Arch) -> list[int]:
    """Indices of the columns that some row or rule gives groups."""
    table = arch.groups
    return [i for i, stage in enumerate(table.stages) if stage or any(row[i] > 1 for row in table.rows.values())]


def _groups(arch: Arch, row: str) -> dict[str, int]:
    """Layer, or pattern of layers, -> groups in a row, of the architecture's grouped columns."""
    table = arch.groups
    return {table.columns[i]: table.rows[row][i] for i in _grouped(arch)}


def _accuracies(arch: Arch, row: str) -> dict[str, str | None]:
    """The accuracies that the paper prints for a row, as printed: by the columns of its table; None where none is."""
    columns = next(iter(reported(arch.name).values()), {})
    cells = reported(arch.name).get(row, {})
    return {name: cells.get(name) for name in ACCURACIES if name in columns}


def _lines(arch: Arch) -> Iterator[dict[str, Any]]:
    """A row per cell of the architecture's table of groups."""
    for row in arch.groups.rows:
        known = recorded()[arch.name, row]
        paper = dict.fromkeys(ACCURACIES) | _accuracies(arch, row)
        for layer, group in _groups(arch, row).items():
            place = {"arch": arch.name, "row": row, "layer": layer, "group": group}
            yield {**place, "params": known.params, "macs": known.macs, **paper}


def _table(arch: Arch) -> Table:
    rows = []
    for row in arch.groups.rows:
        known, paper = recorded()[arch.name, row], _accuracies(arch, row)
        counts = [f"{known.params:,}", f"{known.macs:,}"]
        rows.append([row, *_groups(arch, row).values(), *counts, *(cell or "-" for cell in paper.values())])
    first = next(iter(arch.groups.rows))
    accuracies = [ACCURACIES[name] for name in _accuracies(arch, first)]
    header = ["row", *_groups(arch, first), "params", "macs", *accuracies]
    return Table(header, rows, f"{arch.name}: {arch.title}, groups as in {arch.table}")


def _object(arch: Arch) -> dict[str, Any]:
    rows = arch.groups.rows
    costs = {row: recorded()[arch.name, row] for row in rows}
    return {
        "arch": arch.name,
        "title": arch.title,
        "table": arch.table,
        "rows": {row: _groups(arch, row) for row in rows},
        "costs": {row: {"params": known.params, "macs": known.macs} for row, known in costs.items()},
        "paper": {row: _accuracies(arch, row) for row in rows},
    }


def _types() -> list[dict[str, Any]]:
    """A row per layer type, by the chapters of Caffe's layer catalogue."""
    from rootgen.net.layers import registry

    return [
        {
            "chapter": chapter,
            "type": entry.name,
            "bottoms": str(entry.bottoms),
            "tops": str(entry.tops),
            "caffe": _in_caffe(entry),
            "torch": _in_torch(entry),
            "about": entry.about,
        }
        for chapter, entries in registry.chapters()
        for entry in entries
    ]


def _in_caffe(entry: LayerType) -> str:
    """Whether the Caffe that `rootgen caffe build` makes runs a type."""
    from rootgen.engine.caffe.prepare import NEEDS

    option = NEEDS.get(entry.name)
    return f"with {option}" if option else "yes"


def _in_torch(entry: LayerType) -> str:
    """Whether the PyTorch engine runs a type; `fed` where the caller has to give its tops."""
    if entry.only_caffe:
        return f"no: {entry.only_caffe}"
    return "fed" if entry.fed and entry.name != "Data" else "yes"  # it reads the LMDB of a Data layer by itself


def _types_table(types: list[dict[str, Any]]) -> Table:
    return Table(list(types[0]), [list(entry.values()) for entry in types], "caffe, torch: whether that engine runs it")
