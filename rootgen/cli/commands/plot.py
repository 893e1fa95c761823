"""rootgen plot: the paper's figures of cost against error, reported and measured."""

from __future__ import annotations

import argparse

HELP = "Draw cost against error for a family of the paper: its reported points and, with --measured, your own."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.paper.plot import FORMATS, families

    parser.add_argument("family", nargs="?", metavar="FAMILY", help=f"{', '.join(families())} (default: all)")
    parser.add_argument(
        "--measured",
        metavar="CSV",
        action="append",
        default=[],
        help="results.csv of a run of rootgen reproduce on this family, drawn as well, in a row of its own; repeatable",
    )
    parser.add_argument("-o", "--out", default="plots", metavar="DIR", help="where the figures go (default: plots)")
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=FORMATS, help=f"formats to write (default: {' '.join(FORMATS)})"
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import UsageError, write_out
    from rootgen.paper import plot, results

    if args.measured and not args.family:
        raise UsageError("--measured needs a FAMILY to stand beside", hint="rootgen plot nin --measured results.csv")
    for family in [args.family] if args.family else plot.families():
        rows = [plot.reported(family)]
        rows += [plot.measured(family, results.load(path), path) for path in args.measured]
        for path in plot.draw(rows, args.out, family, args.format):
            write_out(f"{path}\n", None)
