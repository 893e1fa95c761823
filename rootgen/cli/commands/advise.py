"""rootgen advise: how many groups each layer of a trained net can bear."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rootgen.cli import UsageError, arguments, output, refuse_idle

if TYPE_CHECKING:
    from rootgen.deploy.advice import PlanTimes

HELP = (
    "How many filter groups each layer of a trained net can bear: the plan that keeps the most of its weights within "
    "a budget, beside the root, column and tree of that budget."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a trained .caffemodel (or .h5, with --net)")
    parser.add_argument("--net", metavar="FILE", help="net.prototxt (default: the net that the caffemodel carries)")
    budget = parser.add_mutually_exclusive_group()
    for name, what in (
        ("macs", "multiply-adds (default: 0.5)"),
        ("params", "parameters"),
        ("time", "time of a forward pass, by layer times measured on this machine and kept in the cache"),
    ):
        told = f"keep within this share of the {what}"
        budget.add_argument(f"--{name}", type=arguments.positive_float, metavar="SHARE", help=told)
    parser.add_argument("-o", "--out", metavar="FILE", help="write the plan's prototxt")
    parser.add_argument("--plot", metavar="FILE", help="draw what layers keep against groups (.svg, .png or .pdf)")
    parser.add_argument("--seed", type=arguments.count, default=0, metavar="N", help="of the search (default: 0)")
    arguments.add_judging_arguments(parser)
    timing = parser.add_argument_group("with --time")
    arguments.add_batch_size(timing, help="images per pass (default: the net's own number)")
    timing.add_argument("--remeasure", action="store_true", help="time layers anew that the cache has times of")
    arguments.add_engine_arguments(timing)
    output.add_format_arguments(parser, out=False)
    arguments.add_net_arguments(parser, batch=False)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.progress_bars import bars
    from rootgen.deploy.advise import advise
    from rootgen.deploy.budget import BUDGETS
    from rootgen.deploy.layer_times import Stopwatch
    from rootgen.deploy.regroup import IMAGES, Data
    from rootgen.deploy.saved_net import text_of
    from rootgen.figures.save import kind_of
    from rootgen.files import check_writable
    from rootgen.transform.transform import TransformOptions

    budget, share = next(
        ((name, value) for name in BUDGETS if (value := getattr(args, name)) is not None), (BUDGETS[0], 0.5)
    )
    if share >= 1:
        raise UsageError(f"--{budget} {share:g} is no saving", hint="a share below 1, such as 0.5")
    if budget != "time":
        _refuse_stopwatch(args)
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
    arguments.limit_threads(args.threads)
    if not args.data:
        refuse_idle(args, ("mean", "images"), "goes with --data")
    data = Data(args.data, args.mean, args.images or IMAGES) if args.data else None
    watch = Stopwatch(args.engine, args.device, args.batch_size, args.remeasure)
    how: dict[str, Any] = {"budget": budget, "share": share, "seed": args.seed, "data": data, "watch": watch}
    with bars() as report:
        found = advise(text, args.model, where, options, **how, report=report)
    if args.plot:
        from rootgen.deploy.advice_plot import picture
        from rootgen.figures.save import write

        of = "the variance that weights give outputs" if data else "the squared weights"
        write(picture(found, f"{Path(where).name}: {budget} {share:g}", of), args.plot)
    if args.out:
        output.write_out(found.text, args.out)
    if args.out != "-":
        told = "" if args.format in ("csv", "json") else f"\n{found.options}\n"
        output.write_out(output.answer(args.format, found.tables(), found.rows) + told, None)
    if found.times:
        _tell_times(found.times)
    net = quote(args.net) if args.net else "NET"
    log.info("rootgen transform %s --weights %s %s", net, quote(args.model), found.options)


def _refuse_stopwatch(args: argparse.Namespace) -> None:
    """Wrong usage where something is said of times that are not taken."""
    refuse_idle(args, ("batch_size", "remeasure", "threads"), "goes with --time")
    for name in ("engine", "device"):
        if getattr(args, name) != "auto":
            raise UsageError(f"--{name} goes with --time")


def _tell_times(times: PlanTimes) -> None:
    from rootgen.deploy.advice import ADVISED

    told, measured = times.share(ADVISED)
    log.info(
        "the advised plan takes %.1f%% of the time by the layers' times and %.1f%% measured (%+.1f%%); %s",
        100 * told, 100 * measured, 100 * times.off(ADVISED), times.about,
    )  # fmt: skip
