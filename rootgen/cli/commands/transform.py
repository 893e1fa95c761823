"""rootgen transform: filter groups for any net, its text otherwise left as it is."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from rootgen.cli import UsageError, arguments, write_out
from rootgen.errors import RootgenError
from rootgen.net.read import is_binary
from rootgen.proto import prototxt
from rootgen.text import shape_text, table
from rootgen.transform import transform

HELP = (
    "Give the spatial convolutions of any network filter groups. Comments, order and formatting of its prototxt stay "
    "byte for byte; the saving is shown on stderr."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a .prototxt; - is stdin")
    arguments.add_plan_arguments(parser)
    parser.add_argument(
        "--stage-by",
        choices=transform.STAGE_BY,
        default=transform.STAGE_BY[0],
        help="a new stage begins where the output size changes (default), or with every spatial convolution in a row",
    )
    parser.add_argument(
        "--insert-1x1",
        action="store_true",
        help="put a ReLU and a 1x1 convolution behind grouped layers whose groups nothing mixes",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave convolutions alone whose shapes are not known, as behind a layer "
        "of a type that is not known; without it such a net is refused",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="write here instead of to stdout; may be NET itself")
    parser.add_argument("--dry-run", action="store_true", help="write no net, show the plan per layer instead")
    arguments.add_net_arguments(parser, batch=False)


def run(args: argparse.Namespace) -> None:
    plan = arguments.plan(args)
    if plan.kind == "original" and not plan.by_hand:
        raise UsageError("no groups asked for", hint="--root N, --column N, --tree N or --group LAYER=N")
    options = transform.TransformOptions(
        args.stage_by,
        args.phase,
        args.level,
        args.stage,
        arguments.input_shape(args),
        arguments.given(args),
        args.insert_1x1,
        args.lenient,
        None if args.net == "-" else Path(args.net).parent,
        args.partial,
    )
    where = "<stdin>" if args.net == "-" else args.net
    found = transform.transform(_text(args.net), plan, where, options)
    for warning in found.warnings:
        log.warning(warning)
    saving = arguments.totals(found.before, found.after, f"{found.before.net} ({found.before.phase})")
    if args.dry_run:
        write_out(f"{_plan(found)}\n{saving}", None)
        return
    for change in found.changes:
        if change.kept and change.kept != "on the image":
            log.info("%s: kept as it is: %s", change.layer.where, change.kept)
    write_out(found.text, args.out)
    log.info("%s: %s\n%s", where, plan, saving.rstrip())


def _text(path: str) -> str:
    """The net's text, from a file or from stdin."""
    if path == "-":
        try:
            return sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise RootgenError(f"{error.reason} at byte {error.start}: no UTF-8 text", where="<stdin>") from None
    if is_binary(path):
        raise RootgenError("a caffemodel has no text to change", where=path, hint="pass the net's prototxt")
    return prototxt.read_source(path)


def _plan(found: transform.Transformed) -> str:
    """What happens to each convolution that the plan concerns."""
    rows = [
        [
            change.layer.name,
            "-" if change.stage is None else change.stage + 1,
            shape_text(change.output[1:]),
            change.channels,
            change.before if change.before == change.after else f"{change.before} -> {change.after}",
            f"kept: {change.kept}" if change.kept else "",
        ]
        for change in found.changes
    ]
    return table(["convolution", "stage", "output", "channels in", "group", ""], rows)
