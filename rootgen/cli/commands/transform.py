"""rootgen transform: filter groups for any net, its text otherwise left as it is."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from rootgen.cli import UsageError, arguments, refuse_idle, stdin, write_out
from rootgen.grouping import Plan
from rootgen.transform import transform
from rootgen.transform.result import Transformed

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
    model = parser.add_argument_group("trained weights")
    model.add_argument("--weights", metavar="MODEL", help="NET's trained .caffemodel (or .h5): what fits is kept")
    model.add_argument(
        "-w",
        "--weights-out",
        "--out-weights",
        metavar="MODEL",
        help="where the new net's weights go (default: beside -o, as .caffemodel)",
    )
    model.add_argument(
        "--no-permute",
        action="store_true",
        help="cut the weights as they are; without it, channels are put in the orders that keep the most of them",
    )
    model.add_argument("--seed", type=arguments.count, metavar="N", help="of the search for the orders (default: 0)")
    arguments.add_judging_arguments(model)
    model.add_argument(
        "--no-fit", action="store_true", help="with --data, judge by the images, and fit nothing to them"
    )
    arguments.add_net_arguments(parser, batch=False)


def run(args: argparse.Namespace) -> None:
    plan = arguments.plan(args)
    if plan == Plan():
        raise UsageError(
            "no groups asked for", hint="--root N, --column N, --tree N, --group LAYER=N or --basis SHAPES"
        )
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
    if args.weights:
        _with_weights(args, plan, where, options)
        return
    refuse_idle(args, ("weights_out", "no_permute", "seed", "data", "mean", "images", "no_fit"), "goes with --weights")
    found = transform.transform(stdin.text_of(args.net), plan, where, options)
    for warning in found.warnings:
        log.warning(warning)
    planned, saving = (table.plain() for table in found.tables())
    if args.dry_run:
        write_out(f"{planned}\n{saving}", None)
        return
    _tell_kept(found)
    write_out(found.text, args.out)
    log.info("%s: %s", where, plan)
    print(saving.rstrip(), file=sys.stderr)


def _tell_kept(found: Transformed) -> None:
    for change in found.changes:
        if change.kept and change.kept != "on the image":
            log.info("%s: kept as it is: %s", change.layer.where, change.kept)
        elif change.without_basis and change.without_basis != "on the image":
            log.info("%s: no basis: %s", change.layer.where, change.without_basis)


def _with_weights(args: argparse.Namespace, plan: Plan, where: str, options: transform.TransformOptions) -> None:
    """Write the net and its weights, and say what each layer keeps."""
    from rootgen.cli.progress_bars import bars
    from rootgen.deploy.regroup import IMAGES, Data, regrouped
    from rootgen.files import check_writable

    if not args.data:
        refuse_idle(args, ("mean", "images", "no_fit"), "goes with --data")
    if args.insert_1x1:
        raise UsageError("--insert-1x1 puts in layers that --weights has no weights for")
    if plan.basis:
        raise UsageError("--basis puts in kernels that --weights has no weights for", hint="train them from scratch")
    model = None if args.dry_run else arguments.model_out(args)
    data = Data(args.data, args.mean, args.images or IMAGES, not args.no_fit) if args.data else None
    text = stdin.text_of(args.net)
    how: dict[str, Any] = {"permute": not args.no_permute, "seed": args.seed or 0, "data": data}
    with bars() as report:
        found = regrouped(text, args.weights, plan, where, options, **how, report=report)
    for warning in found.transformed.warnings:
        log.warning(warning)
    if model is None:
        write_out(f"{found}\n", None)
        return
    _tell_kept(found.transformed)
    if args.out not in (None, "-"):
        check_writable(args.out)
    found.write_model(model)
    write_out(found.text, args.out)
    log.info("%s: %s, with the weights of %s in %s", where, plan, args.weights, model)
    print(str(found), file=sys.stderr)
