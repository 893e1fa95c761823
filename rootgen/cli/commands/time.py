"""rootgen time: how long nets take, layer by layer."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootgen.engine.timing import Timing
    from rootgen.text import Table

HELP = "Median milliseconds of nets and their layers, forward and backward, on inputs made up in memory."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_batch_size, add_engine_arguments, add_lenient_argument, positive
    from rootgen.cli.output import add_format_arguments

    parser.add_argument(
        "nets", metavar="NET", nargs="+", help="prototxt or caffemodel; - is stdin; with --engine onnx also .onnx"
    )
    parser.add_argument(
        "--phase", choices=("TRAIN", "TEST"), help="of a train_val net (default: TRAIN; with --engine onnx TEST)"
    )
    add_batch_size(parser, help="images per pass instead of the net's own number")
    parser.add_argument("--iterations", type=positive, default=10, metavar="N", help="timed passes (default: 10)")
    parser.add_argument("--warmup", type=positive, default=2, metavar="N", help="passes before them (default: 2)")
    parser.add_argument("--forward-only", action="store_true", help="no backward passes")
    parser.add_argument("--total", action="store_true", help="whole nets only, no rows of layers")
    add_format_arguments(parser)
    add_lenient_argument(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import output, stdin
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.progress_bars import track

    stdin.check_once(args.nets)
    limit_threads(args.threads)
    timings = [_measured(net, args) for net in track(args.nets, "time", "nets")]
    if args.format == "json":
        text = output.json_list(_objects(timings, args.total))
    elif args.format == "csv":
        text = output.csv_table(_rows(timings))
    else:
        text = output.for_people(_tables(timings, args.total), args.format)
    output.write_out(text, args.out)


def _measured(net: str, args: argparse.Namespace) -> Timing:
    """The times of one net, under the name it was given by."""
    from rootgen.cli import stdin
    from rootgen.engine.timing import measure

    with stdin.net_file(net) as path:
        found = measure(
            path,
            phase=args.phase,
            batch_size=args.batch_size,
            iterations=args.iterations,
            warmup=args.warmup,
            backward=not args.forward_only,
            total=args.total,
            engine=args.engine,
            device=args.device,
            lenient=args.lenient,
        )
    return replace(found, net=net)


def _tables(timings: list[Timing], total: bool) -> list[Table]:
    """A table per net, or one of all nets where only their totals are wanted."""
    from rootgen.engine.timing import summary

    return [summary(timings)] if total else [table for one in timings for table in one.tables()]


def _rows(timings: list[Timing]) -> list[dict[str, Any]]:
    """A row per layer that was timed, and one with an empty layer per net."""
    return [
        {
            "net": timing.net,
            "engine": timing.engine,
            "device": timing.device,
            "batch": timing.batch,
            "iterations": timing.iterations,
            "layer": row.layer,
            "type": row.type,
            "forward_ms": row.forward,
            "backward_ms": row.backward,
        }
        for timing in timings
        for row in (*timing.layers, timing.whole)
    ]


def _objects(timings: list[Timing], total: bool) -> list[dict[str, Any]]:
    """An object per net, its layers in it unless only the totals are wanted."""
    return [{k: v for k, v in asdict(timing).items() if k != "layers" or not total} for timing in timings]
