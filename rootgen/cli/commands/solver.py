"""rootgen solver: the solver.prototxt that goes with a network of `rootgen emit`."""

from __future__ import annotations

import argparse

from rootgen.cli import arguments, output, write_out
from rootgen.cli.arguments import positive, positive_float
from rootgen.generator import render
from rootgen.generator.architectures import architecture
from rootgen.paper.emit import checked_solver

HELP = "Write the solver.prototxt that goes with a network."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", help="architecture, one of those that `rootgen list` shows")
    arguments.add_plan_arguments(parser)
    output.add_out_argument(parser)
    files = parser.add_argument_group("files, as the run will find them from its working directory")
    files.add_argument(
        "--net", default=render.SolverOptions.net, metavar="FILE", help="the train_val net (%(default)s)"
    )
    files.add_argument("--snapshot-prefix", metavar="PATH", help="where snapshots go (beside the net)")
    size = parser.add_argument_group("size of the data, from which iterations are reckoned")
    size.add_argument("--train-images", type=positive, metavar="N")
    size.add_argument("--test-images", type=positive, metavar="N")
    arguments.add_batch_size(size, help="as in the train_val net")
    size.add_argument("--test-batch-size", type=positive, metavar="N", help="as in the train_val net")
    size.add_argument("--iter-size", type=positive, metavar="N", help="batches accumulated in a step")
    size.add_argument(
        "--gpus",
        type=positive,
        metavar="N",
        help="devices, of which each takes batch_size; iter_size is then what makes the recipe's batch",
    )
    schedule = parser.add_argument_group("schedule")
    schedule.add_argument("--base-lr", type=positive_float, metavar="RATE")
    schedule.add_argument("--max-iter", type=positive, metavar="N", help="the drops in the rate move with it")
    schedule.add_argument(
        "--epochs",
        type=positive_float,
        metavar="E",
        help="a short run instead of the recipe's: the rate falls in a line to zero",
    )
    schedule.add_argument(
        "--warm-up",
        type=positive_float,
        metavar="E",
        help="of these epochs those in which the rate rises in a line: two solvers, see --part",
    )
    schedule.add_argument(
        "--part",
        choices=render.PARTS,
        default=render.PARTS[0],
        help="the solver of the warm-up, or the one that goes on from its last snapshot (%(default)s)",
    )
    schedule.add_argument("--seed", type=int, metavar="N", help="random_seed")
    schedule.add_argument("--solver-mode", choices=("CPU", "GPU"), help="left out unless given: Caffe's default is GPU")


def run(args: argparse.Namespace) -> None:
    options = render.SolverOptions(
        net=args.net,
        snapshot_prefix=args.snapshot_prefix,
        train_images=args.train_images,
        test_images=args.test_images,
        batch_size=args.batch_size,
        test_batch_size=args.test_batch_size,
        iter_size=args.iter_size,
        gpus=args.gpus,
        base_lr=args.base_lr,
        max_iter=args.max_iter,
        epochs=args.epochs,
        warm_up=args.warm_up or 0.0,
        part=args.part,
        random_seed=args.seed,
        solver_mode=args.solver_mode,
    )
    write_out(checked_solver(architecture(args.arch), arguments.plan(args), options), args.out)
