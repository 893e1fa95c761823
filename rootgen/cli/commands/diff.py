"""rootgen diff: two nets layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from rootgen.cli import arguments, output, stdin
from rootgen.net import cost, diff
from rootgen.text import shape_text

HELP = "Compare two networks layer by layer: groups, output shapes, parameters, multiply-adds per image."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A", help="a .prototxt or .caffemodel; - is stdin")
    parser.add_argument("after", metavar="B", help="a .prototxt or .caffemodel; - is stdin")
    output.add_format_arguments(parser, also=("text",))
    parser.add_argument("--convention", choices=cost.CONVENTIONS, default="macs", help="as of rootgen cost")
    parser.add_argument("--all", action="store_true", help="table: layers that are the same too")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    stdin.check_once([args.before, args.after])
    before, after = arguments.read_net(args.before, args), arguments.read_net(args.after, args)
    found = diff.compare(before, after, args.convention)
    if args.format == "json":
        text = output.json_object(_object(found, args))
    elif args.format == "csv":
        text = output.csv_table([_row(row) for row in found.rows])
    else:
        between = f"{args.before} -> {args.after} ({args.phase})"
        text = f"{between}\n\n{output.for_people(found.tables(args.all), args.format)}"
    output.write_out(text, args.out)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A layer's row as CSV has it; an output as 64x56x56."""
    return {name: shape_text(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _cells(layer: cost.LayerCost | None) -> dict[str, Any]:
    """A layer's values by column; None where the net does not have it, or they are not known."""
    return {name: None if layer is None else layer.told(name) for name in cost.COLUMNS[1:]}


def _object(found: diff.Diff, args: argparse.Namespace) -> dict[str, Any]:
    """One object; layers that are the same are in it too."""

    def side(path: str, total: cost.Cost) -> dict[str, Any]:
        counts = {"complete": total.complete, "params": total.params, "macs": total.macs}
        return {"net": total.net, "file": path, **counts, "unknown": list(total.unknown)}

    rows = [
        {
            "name": row.name,
            "status": row.status,
            "before": row.before and _cells(row.before),
            "after": row.after and _cells(row.after),
            "fields": list(row.fields),
        }
        for row in found.layers
    ]
    sides = {"before": side(args.before, found.before), "after": side(args.after, found.after)}
    return {"phase": args.phase, "convention": args.convention, **sides, "layers": rows}
