"""rootgen transform: filter groups for any net, its text otherwise left as it is."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from rootgen.cli import UsageError, arguments, stdin, write_out
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
    where = stdin.STDIN if args.net == "-" else args.net
    found = transform.transform(stdin.text_of(args.net), plan, where, options)
    for warning in found.warnings:
        log.warning(warning)
    planned, saving = (table.plain() for table in found.tables())
    if args.dry_run:
        write_out(f"{planned}\n{saving}", None)
        return
    for change in found.changes:
        if change.kept and change.kept != "on the image":
            log.info("%s: kept as it is: %s", change.layer.where, change.kept)
    write_out(found.text, args.out)
    log.info("%s: %s", where, plan)
    print(saving.rstrip(), file=sys.stderr)
