"""rootgen time: how long nets take, layer by layer."""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootgen.engine.timing import TimedLayer, Timing

HELP = "Median milliseconds of nets and their layers, forward and backward, on inputs made up in memory."
_HEADER = ("layer", "type", "forward ms", "backward ms")
_CSV = ("net", "engine", "device", "batch", "iterations", "layer", "type", "forward_ms", "backward_ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_engine_arguments, positive

    parser.add_argument("nets", metavar="NET", nargs="+", help="prototxt or caffemodel; with --engine onnx also .onnx")
    parser.add_argument(
        "--phase", choices=("TRAIN", "TEST"), help="of a train_val net (default: TRAIN; with --engine onnx TEST)"
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="images per pass instead of the net's own number")
    parser.add_argument("--iterations", type=positive, default=10, metavar="N", help="timed passes (default: 10)")
    parser.add_argument("--warmup", type=positive, default=2, metavar="N", help="passes before them (default: 2)")
    parser.add_argument("--forward-only", action="store_true", help="no backward passes")
    parser.add_argument("--total", action="store_true", help="whole nets only, no rows of layers")
    parser.add_argument("--format", default="table", choices=("table", "csv", "json"))
    parser.add_argument("-o", "--out", metavar="FILE", help="write there instead of to stdout")
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import write_out
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.progress_bars import track
    from rootgen.engine.timing import measure

    limit_threads(args.threads)
    timings = [
        measure(
            net,
            phase=args.phase,
            batch=args.batch,
            iterations=args.iterations,
            warmup=args.warmup,
            backward=not args.forward_only,
            engine=args.engine,
            device=args.device,
        )
        for net in track(args.nets, "time", "nets")
    ]
    write_out({"table": _tables, "csv": _csv, "json": _json}[args.format](timings, args.total), args.out)


def _tables(timings: list[Timing], total: bool) -> str:
    """A table per net, or one of all nets where only their totals are wanted."""
    from rootgen.text import table

    if total:
        header = ("net", "batch", "forward ms", "backward ms", "images/s")
        totals = [(t.net, t.batch, *_cells(t.whole), f"{_speed(t):.1f}") for t in timings]
        return table(header, totals, title=_title(timings[0]))
    parts = []
    for timing in timings:
        rows = [(row.layer or "whole net", row.type, *_cells(row)) for row in (*timing.layers, timing.whole)]
        title = f"{timing.net}: batch {timing.batch}, {_speed(timing):.1f} images/s; {_title(timing)}"
        parts.append(table(_HEADER, rows, title=title))
    return "\n".join(parts)


def _title(timing: Timing) -> str:
    return f"{timing.engine}, {timing.device}; medians of {timing.iterations} passes"


def _cells(row: TimedLayer) -> tuple[str, str]:
    return f"{row.forward:.3f}", "-" if row.backward is None else f"{row.backward:.3f}"


def _speed(timing: Timing) -> float:
    """Images per second through the whole net."""
    milliseconds = timing.whole.forward + (timing.whole.backward or 0.0)
    return timing.batch * 1e3 / milliseconds if milliseconds else float("inf")


def _csv(timings: list[Timing], total: bool) -> str:
    """One line per layer, and one with an empty layer per net."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for timing in timings:
        about = (timing.net, timing.engine, timing.device, timing.batch, timing.iterations)
        for row in (*(() if total else timing.layers), timing.whole):
            writer.writerow(
                (*about, row.layer or "", row.type, row.forward, "" if row.backward is None else row.backward)
            )
    return text.getvalue()


def _json(timings: list[Timing], total: bool) -> str:
    nets = [asdict(timing) for timing in timings]
    if total:
        for net in nets:
            del net["layers"]
    return json.dumps(nets, indent=2) + "\n"
