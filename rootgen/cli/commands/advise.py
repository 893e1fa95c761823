"""rootgen advise: how many groups each layer of a trained net can bear."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from shlex import quote
from typing import Any

from rootgen.cli import UsageError, arguments, output, refuse_idle

HELP = (
    "How many filter groups each layer of a trained net can bear: the plan that keeps the most of its weights within "
    "a budget, beside the root, column and tree of that budget."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a trained .caffemodel (or .h5, with --net)")
    parser.add_argument("--net", metavar="FILE", help="net.prototxt (default: the net that the caffemodel carries)")
    budget = parser.add_mutually_exclusive_group()
    for name, what in (("macs", "multiply-adds"), ("params", "parameters")):
        told = f"keep within this share of the {what}" + (" (default: 0.5)" if name == "macs" else "")
        budget.add_argument(f"--{name}", type=arguments.positive_float, metavar="SHARE", help=told)
    parser.add_argument("-o", "--out", metavar="FILE", help="write the plan's prototxt")
    parser.add_argument("--plot", metavar="FILE", help="draw what layers keep against groups (.svg, .png or .pdf)")
    parser.add_argument("--seed", type=arguments.count, default=0, metavar="N", help="of the search (default: 0)")
    arguments.add_judging_arguments(parser)
    output.add_format_arguments(parser, out=False)
    arguments.add_net_arguments(parser, batch=False)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.progress_bars import bars
    from rootgen.deploy.advise import advise
    from rootgen.deploy.regroup import IMAGES, Data
    from rootgen.deploy.saved_net import text_of
    from rootgen.figures.save import kind_of
    from rootgen.files import check_writable
    from rootgen.transform.transform import TransformOptions

    budget, share = ("params", args.params) if args.params else ("macs", args.macs or 0.5)
    if share >= 1:
        raise UsageError(f"--{budget} {share:g} is no saving", hint="a share below 1, such as 0.5")
    if args.out == "-" and args.format != "table":
        raise UsageError("--format and -o - both want stdout", hint="-o FILE")
    if args.plot:
        kind_of(args.plot, None)
    shape, given = arguments.input_shape(args), arguments.given(args)
    text, where = text_of(args.model, args.net, lenient=args.lenient)
    options = TransformOptions(
        phase=args.phase,
        level=args.level,
        stages=args.stage,
        input_shape=shape,
        given=given,
        lenient=args.lenient,
        beside=Path(where).parent,
    )
    for path in (args.out, args.plot):
        if path not in (None, "-"):
            check_writable(path)
    if not args.data:
        refuse_idle(args, ("mean", "images"), "goes with --data")
    data = Data(args.data, args.mean, args.images or IMAGES) if args.data else None
    how: dict[str, Any] = {"budget": budget, "share": share, "seed": args.seed, "data": data}
    with bars() as report:
        found = advise(text, args.model, where, options, **how, report=report)
    if args.plot:
        from rootgen.deploy.advice_plot import picture
        from rootgen.figures.save import write

        write(picture(found, Path(where).name), args.plot)
    if args.out:
        output.write_out(found.text, args.out)
    if args.out != "-":
        told = "" if args.format in ("csv", "json") else f"\n{found.options}\n"
        output.write_out(output.answer(args.format, found.tables(), found.rows) + told, None)
    net = quote(args.net) if args.net else "NET"
    log.info("rootgen transform %s --weights %s %s", net, quote(args.model), found.options)
