"""rootgen cost: parameters, multiply-adds and memory of prototxt and caffemodel files."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from rootgen.cli import arguments, output, stdin
from rootgen.errors import RootgenError
from rootgen.net import cost
from rootgen.text import Table, shape_text

HELP = "Count the learnable parameters and the multiply-adds per image of prototxt or caffemodel files, without Caffe."
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", nargs="+", metavar="NET", help="a .prototxt or .caffemodel; - is stdin")
    output.add_format_arguments(parser)
    parser.add_argument(
        "--convention",
        choices=cost.CONVENTIONS,
        default="macs",
        help="macs: multiply-adds of weights, all learnable parameters (default); paper: as the paper's tables count",
    )
    parser.add_argument("--all", action="store_true", help="table: every layer, not just those that cost something")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    stdin.check_once(args.nets)
    counted, refused = [], []
    for path in args.nets:
        try:
            net = arguments.read_net(path, args)
            total = cost.count(net, args.convention)
        except RootgenError as error:
            refused.append(error)
            continue
        if not total.complete:
            log.warning("%s: %d layers counted as zero", path, len(total.unknown))
        counted.append((path, total))
    if counted:
        output.write_out(_text(counted, args), args.out)
        sys.stdout.flush()  # the numbers first, where both go to one place
    for other in refused[:-1]:
        log.error("%s", other)
    if refused:
        raise refused[-1]


def _text(counted: Counted, args: argparse.Namespace) -> str:
    """What was counted, in the format asked for."""
    if args.format == "json":  # one object per net, and no list
        return "".join(output.json_object(_object(*each)) for each in counted)
    return (
        output.csv_table(_rows(counted))
        if args.format == "csv"
        else output.for_people(_tables(counted, args.all), args.format)
    )


Counted = list[tuple[str, cost.Cost]]


def _object(path: str, total: cost.Cost) -> dict[str, Any]:
    held = total.memory
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
                "params": layer.told("params"),
                "macs": layer.told("macs"),
            }
            for layer in total.layers
        ],
    }


def _rows(counted: Counted) -> list[dict[str, Any]]:
    """A row per layer of each net."""
    return [
        {
            "net": total.net,
            "file": path,
            "phase": total.phase,
            "name": layer.name,
            "type": layer.type,
            "group": layer.group,
            "output": None if layer.output is None else shape_text(layer.output),
            "params": layer.told("params"),
            "macs": layer.told("macs"),
        }
        for path, total in counted
        for layer in total.layers
    ]


def _tables(counted: Counted, every: bool) -> list[Table]:
    """Layers, stages and totals of one net; of several, one line each."""
    return [cost.summary(counted)] if len(counted) > 1 else counted[0][1].tables(every)
