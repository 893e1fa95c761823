"""Options of the commands that read any net: which phase, what input; and reading it so."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass

from rootgen import net, shapes
from rootgen.cli._plans import positive
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Shaped:
    """A net and its shapes."""

    net: net.Net
    shapes: shapes.Shapes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--phase`, `--level`, `--stage`, `--input`, `--batch`, `--shape`."""
    parser.add_argument("--phase", choices=net.PHASES, default="TEST", help="layers of this phase (default: TEST)")
    parser.add_argument("--level", type=int, default=0, metavar="N", help="the level that the layers' rules speak of")
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="a stage of the rules; repeatable")
    parser.add_argument("--input", metavar="CxHxW", help="size of the input images, whatever the net or its data says")
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
    graph = net.read(path, args.phase, level=args.level, stages=args.stage, allow_unknown=True)
    found = shapes.infer(
        graph,
        input_shape=shapes.parse_shape(args.input, 3) if args.input else None,  # type: ignore[arg-type]
        batch=args.batch,
        given=dict(_given(word) for word in args.shape),
        partial=True,
    )
    for note in found.notes:
        log.warning(note)
    return Shaped(graph, found)


def _given(word: str) -> tuple[str, shapes.Shape]:
    """(blob, shape) of BLOB=AxB."""
    name, equals, shape = word.rpartition("=")
    if not equals or not name:
        raise RootgenError(f"--shape {word}: not of the form BLOB=AxBxC", hint="for example --shape pool5=1x256x7x7")
    return name, shapes.parse_shape(shape)
