"""rootgen cost: parameters, multiply-adds and memory of prototxt and caffemodel files."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
from typing import Any

from rootgen.cli import arguments, write_out
from rootgen.net import cost, memory
from rootgen.text import byte_size, shape_text, table

HELP = "Count the learnable parameters and the multiply-adds per image of prototxt or caffemodel files, without Caffe."
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", nargs="+", metavar="NET", help="a .prototxt or .caffemodel")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument(
        "--convention",
        choices=cost.CONVENTIONS,
        default="macs",
        help="macs: multiply-adds of weights, all learnable parameters (default); paper: as the paper's tables count",
    )
    parser.add_argument("--all", action="store_true", help="table: every layer, not just those that cost something")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    counted = []
    for path in args.nets:
        net = arguments.read_net(path, args)
        total = cost.count(net, args.convention)
        if not total.complete:
            log.warning("%s: %d layers counted as zero", path, len(total.unknown))
        counted.append((path, total, memory.activations(net, total.batch)))
    write = {"json": _json, "csv": _csv, "table": _table}[args.format]
    write_out(write(counted, args.all), None)


Counted = list[tuple[str, cost.Cost, memory.Memory]]


def _json(counted: Counted, every: bool) -> str:
    """One object per net, one per line."""
    del every
    return "".join(json.dumps(_object(*each)) + "\n" for each in counted)


def _object(path: str, total: cost.Cost, held: memory.Memory) -> dict[str, Any]:
    return {
        "net": total.net,
        "file": path,
        "phase": total.phase,
        "convention": total.convention,
        "input": list(total.input),
        "complete": total.complete,
        "params": total.params,
        "macs": total.macs,
        "statistics": total.statistics,
        "weight_bytes": total.weight_bytes,
        "memory": {"batch": held.batch, "forward": held.forward, "forward_backward": held.forward_backward},
        "unknown": list(total.unknown),
        "stages": [
            {"output": list(stage.resolution), "layers": stage.layers, "params": stage.params, "macs": stage.macs}
            for stage in cost.stages(total)
        ],
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "group": layer.group,
                "output": None if layer.output is None else list(layer.output),
                "params": layer.params,
                "macs": layer.macs,
            }
            for layer in total.layers
        ],
    }


def _csv(counted: Counted, every: bool) -> str:
    """One line per layer of each net."""
    del every
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["net", "file", "phase", "name", "type", "group", "output", "params", "macs"])
    for path, total, _ in counted:
        for layer in total.layers:
            output = "" if layer.output is None else shape_text(layer.output)
            place = [total.net, path, total.phase]
            writer.writerow([*place, layer.name, layer.type, layer.group, output, layer.params, layer.macs])
    return out.getvalue()


def _table(counted: Counted, every: bool) -> str:
    """Layers, stages and totals of one net; of several, one line each."""
    if len(counted) > 1:
        lines = [
            [
                path,
                total.net,
                shape_text(total.input),
                arguments.at_least(total, total.params),
                arguments.at_least(total, total.macs),
                byte_size(held.forward),
            ]
            for path, total, held in counted
        ]
        return table(["file", "net", "input", "params", _macs_word(counted[0][1]), "activations"], lines)
    _, total, held = counted[0]
    rows: list[list[object]] = [
        [layer.name, layer.type, layer.group, _shown(layer), f"{layer.params:,}", f"{layer.macs:,}"]
        for layer in total.layers
        if every or layer.params or layer.macs or not layer.known
    ]
    header = ["layer", "type", "group", "output", "params", _macs_word(total)]
    title = f"{total.net} ({total.phase}, input {shape_text(total.input)})"
    by_stage: list[list[object]] = [
        [
            shape_text(stage.resolution),
            stage.layers,
            f"{stage.params:,}",
            f"{stage.macs:,}",
            _share(stage.macs, total.macs),
        ]
        for stage in cost.stages(total)
    ]
    summary = [
        ["params", arguments.at_least(total, total.params)],
        ["BatchNorm statistics", f"{total.statistics:,}"],
        ["bytes of all blobs", byte_size(total.weight_bytes)],
        [f"{_macs_word(total)} per image", arguments.at_least(total, total.macs)],
        [f"activations, forward, batch {held.batch}", byte_size(held.forward)],
        [f"activations, forward and backward, batch {held.batch}", byte_size(held.forward_backward)],
    ]
    return "\n".join(
        [
            table(header, rows, title=title),
            table(["output size", "layers", "params", _macs_word(total), "share"], by_stage),
            table([arguments.total_title(total), ""], summary),
        ]
    )


def _macs_word(total: cost.Cost) -> str:
    return "FLOPs" if total.convention == "paper" else "macs"


def _shown(layer: cost.LayerCost) -> str:
    return "not known" if layer.output is None else shape_text(layer.output)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"
