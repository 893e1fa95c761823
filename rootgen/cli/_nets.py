"""Options of the commands that read any net: which phase, what input; and reading it so."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from rootgen import net, shapes
from rootgen.cli._numbers import positive
from rootgen.console import table
from rootgen.cost import Cost
from rootgen.engine.locate import locate
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Shaped:
    """A net and its shapes."""

    net: net.Net
    shapes: shapes.Shapes


def add_arguments(parser: argparse.ArgumentParser, *, batch: bool = True) -> None:
    """`--phase`, `--level`, `--stage`, `--input`, `--shape`, `--lenient`, and `--batch` where it matters."""
    parser.add_argument("--phase", choices=net.PHASES, default="TEST", help="layers of this phase (default: TEST)")
    parser.add_argument("--level", type=int, default=0, metavar="N", help="the level that the layers' rules speak of")
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="a stage of the rules; repeatable")
    parser.add_argument("--input", metavar="CxHxW", help="size of the input images, whatever the net or its data says")
    parser.add_argument(
        "--lenient", action="store_true", help="pass over fields that Caffe 1.0 does not have (nets of its forks)"
    )
    if batch:
        parser.add_argument("--batch", type=positive, metavar="N", help="images per batch")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="BLOB=AxB...",
        help="shape of a blob no rule can tell; repeatable",
    )


def read(path: str, args: argparse.Namespace) -> Shaped:
    """The net at `path` with its shapes; what was assumed, and what is not known, goes to the log.

    Layer types that Caffe does not have pass, with a note.
    """
    graph = net.read(path, args.phase, level=args.level, stages=args.stage, allow_unknown=True, lenient=args.lenient)
    size = input_shape(args)
    layers = graph.layers if size else tuple(_located(layer, Path(path).parent) for layer in graph.layers)
    located = replace(graph, layers=layers)
    found = shapes.infer(located, input_shape=size, batch=args.batch, given=given(args), partial=True)
    for note in found.notes:
        log.warning(note)
    return Shaped(graph, found)


def _located(layer: net.Layer, beside: Path) -> net.Layer:
    """A Data layer with its files named as training finds them: here, or where the net lies; others as they are."""
    if layer.type != "Data":
        return layer
    param = type(layer.param)()
    param.CopyFrom(layer.param)  # the net itself keeps the names as written
    for message, name in ((param.data_param, "source"), (param.transform_param, "mean_file")):
        place = locate(getattr(message, name), beside)
        if getattr(message, name) and place.exists():
            setattr(message, name, str(place))
            break  # the images tell their size; the mean is asked only where they are not there
    return replace(layer, param=param)


def input_shape(args: argparse.Namespace) -> tuple[int, int, int] | None:
    """Channels, height and width of `--input`."""
    if not args.input:
        return None
    channels, height, width = shapes.parse_shape(args.input, 3)
    return channels, height, width


def given(args: argparse.Namespace) -> dict[str, shapes.Shape]:
    """Shapes by blob of all `--shape BLOB=AxB`."""
    found = {}
    for word in args.shape:
        name, equals, shape = word.rpartition("=")
        if not equals or not name:
            raise RootgenError(f"--shape {word}: not of the form BLOB=AxBxC", hint="as in --shape pool5=1x256x7x7")
        found[name] = shapes.parse_shape(shape)
    return found


def percent(old: int, new: int) -> str:
    """The change from `old` to `new` in percent."""
    return f"{100 * (new - old) / old:+.1f}%" if old else "-"


def totals(before: Cost, after: Cost, title: str) -> str:
    """Table of the parameters and multiply-adds of two nets."""
    rows = [
        [name, f"{old:,}", f"{new:,}", percent(old, new)]
        for name, old, new in (
            ("params", before.params, after.params),
            ("macs per image", before.macs, after.macs),
        )
    ]
    return table([title, "before", "after", "change"], rows)
