"""rootgen diff: two nets layer by layer."""

from __future__ import annotations

import argparse
import csv
import io
import json
from typing import Any

from rootgen.cli import arguments, write_out
from rootgen.net import cost, diff
from rootgen.text import shape_text, table

HELP = "Compare two networks layer by layer: groups, output shapes, parameters, multiply-adds per image."
_COLUMNS = ("type", "group", "output", "params", "macs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A", help="a .prototxt or .caffemodel")
    parser.add_argument("after", metavar="B", help="a .prototxt or .caffemodel")
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text")
    parser.add_argument("--convention", choices=cost.CONVENTIONS, default="macs", help="as of rootgen cost")
    parser.add_argument("--all", action="store_true", help="text: layers that are the same too")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    before, after = arguments.read_net(args.before, args), arguments.read_net(args.after, args)
    found = diff.compare(before, after, args.convention)
    write = {"json": _json, "csv": _csv, "text": _text}[args.format]
    write_out(write(found, args), None)


def _cells(layer: cost.LayerCost | None) -> dict[str, Any]:
    """A layer's values by column; None where the net does not have it."""
    return {name: None if layer is None else getattr(layer, name) for name in _COLUMNS}


def _json(found: diff.Diff, args: argparse.Namespace) -> str:
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
        for row in found.rows
    ]
    sides = {"before": side(args.before, found.before), "after": side(args.after, found.after)}
    return json.dumps({"phase": args.phase, "convention": args.convention, **sides, "layers": rows}) + "\n"


def _csv(found: diff.Diff, args: argparse.Namespace) -> str:
    """One line per layer of either net."""
    del args
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = [f"{name}_{side}" for name in _COLUMNS for side in ("before", "after")]
    writer.writerow(["name", "status", *header, "fields"])
    for row in found.rows:
        before, after = _cells(row.before), _cells(row.after)
        cells = [_plain(side[name]) for name in _COLUMNS for side in (before, after)]
        writer.writerow([row.name, row.status, *cells, "; ".join(row.fields)])
    return out.getvalue()


def _text(found: diff.Diff, args: argparse.Namespace) -> str:
    """A table of the layers that differ, what else differs in them, and the totals."""
    shown = found.rows if args.all else found.changes
    parts = [f"{args.before} -> {args.after} ({args.phase})\n"]
    if shown:
        rows = [[row.name, row.status, *(_change(row, name) for name in _COLUMNS)] for row in shown]
        parts.append(table(["layer", "", *_COLUMNS], rows))
    fields = [f"{row.name}: {field}" for row in shown for field in row.fields]
    if fields:
        parts.append("\n".join(["fields", "------", *fields]) + "\n")
    same = sum(row.status == "same" for row in found.rows)
    parts.append(arguments.totals(found.before, found.after, f"total ({same} layers are the same)"))
    return "\n".join(parts)


def _change(row: diff.LayerDiff, name: str) -> str:
    """One column of a row: the value, or both where they differ."""
    values = [_plain(_cells(layer)[name]) for layer in (row.before, row.after) if layer is not None]
    if name in ("params", "macs"):
        values = [f"{int(value):,}" for value in values]
    return values[0] if len(set(values)) == 1 else " -> ".join(values)


def _plain(value: Any) -> str:
    """A value as a table shows it; an output as 64x56x56."""
    return "" if value is None else shape_text(value) if isinstance(value, tuple) else str(value)
