"""rootgen emit: a network of the paper, with any filter groups, as Caffe prototxt."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rootgen.cli import UsageError, arguments, output, refuse_idle, write_out
from rootgen.cli.arguments import positive, positive_float
from rootgen.generator import render
from rootgen.generator.architectures import architecture
from rootgen.grouping import Plan
from rootgen.paper.emit import OF_DATA, checked_net

HELP = "Write a network as Caffe prototxt, with filter groups: the train_val net unless --phase deploy."
OF_A_NET = ("phase", "name", "classes", "batch_size", "crop", "moving_average_fraction", *OF_DATA)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", nargs="?", help="architecture, one of those that `rootgen list` shows")
    arguments.add_plan_arguments(parser)
    parser.add_argument("--phase", choices=render.PHASES, help=f"default: {render.PHASES[0]}")
    output.add_out_argument(parser)
    net = parser.add_argument_group("the net")
    net.add_argument("--name", help="the net's name")
    net.add_argument("--classes", type=positive, metavar="N", help="outputs of the last layer")
    arguments.add_batch_size(net, help="images a step; of a deploy net, its dim")
    net.add_argument("--test-batch-size", type=positive, metavar="N", help="images a batch in the TEST phase")
    net.add_argument("--crop", type=positive, metavar="PIXELS", help="height and width of the input")
    net.add_argument("--data", metavar="DIR", help="folder that `rootgen data` made: LMDBs and mean")
    net.add_argument("--train-source", metavar="LMDB", help=f"training set, instead of DIR/{render.TRAIN_LMDB}")
    net.add_argument("--test-source", metavar="LMDB", help=f"test set, instead of DIR/{render.TEST_LMDB}")
    net.add_argument("--mean", help="mean to subtract: a .binaryproto file, values such as 104,117,123, or none")
    net.add_argument(
        "--moving-average-fraction",
        type=positive_float,
        metavar="F",
        help="of every BatchNorm: what its statistics keep per iteration (Caffe's .999 is too much for a short run)",
    )
    every = parser.add_argument_group("every network of the paper")
    every.add_argument("--all", action="store_true", help="render the paper's rows into prototxt/ (or -o DIR)")
    every.add_argument("--check", action="store_true", help="with --all: write nothing, show what is stale, exit 1")


def run(args: argparse.Namespace) -> int:
    if args.all:
        if args.arch or arguments.plan(args) != Plan():
            raise UsageError("--all renders every row of every table: name no architecture and no groups with it")
        refuse_idle(args, OF_A_NET, "does nothing with --all")
        if args.out == "-":
            raise UsageError("--all renders a folder of files, which stdout cannot hold", hint="-o DIR")
        return _gallery(args)
    if args.check:
        raise UsageError("--check goes with --all")
    if not args.arch:
        raise UsageError("name an architecture, or use --all", hint="`rootgen list` shows the architectures")
    if args.phase == "deploy":
        refuse_idle(args, OF_DATA, "is for a train_val net", hint="drop it, or --phase deploy")
    arch, plan = architecture(args.arch), arguments.plan(args)
    options = render.NetOptions(
        phase=args.phase or render.PHASES[0],
        name=args.name,
        batch_size=args.batch_size,
        test_batch_size=args.test_batch_size,
        crop_size=args.crop,
        classes=args.classes,
        data=args.data,
        train_source=args.train_source,
        test_source=args.test_source,
        mean=args.mean,
        moving_average_fraction=args.moving_average_fraction,
    )
    write_out(checked_net(arch, plan, options), args.out)
    return 0


def _gallery(args: argparse.Namespace) -> int:
    """Render every row into -o DIR (a checkout's prototxt/ if none is given), or show what is stale there."""
    from rootgen import paths
    from rootgen.cli.progress_bars import bars
    from rootgen.paper import gallery, tables

    own = gallery.folder()
    folder = Path(args.out) if args.out else own
    if folder is None:
        raise UsageError("--all needs -o DIR: there is no checkout with a prototxt/ to render into")
    with bars("networks") as report:
        if not args.check:
            records = None if args.out else paths.PACKAGE / "data" / tables.RECORDS
            changed = gallery.write(folder, report, records=records)
            print(f"{folder}: {changed} files written", file=sys.stderr)
            return 0
        found = gallery.staleness(folder, report)
    write_out(found.diff, None)
    told = f"{found.files} files, {len(found.stale)} stale, {len(found.extra)} too many"
    print(f"{folder}: {told}; {tables.RECORDS}: {len(found.records)} rows stale", file=sys.stderr)
    return 1 if found else 0
