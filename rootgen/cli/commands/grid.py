"""rootgen grid: one pair of layers of several nets beside one another, as in the paper's Fig. 6."""

from __future__ import annotations

import argparse

HELP = (
    "Draw the whitened covariance of one pair of layers of several nets beside one another, on one scale, as in the "
    "paper's Fig. 6: from the folders that rootgen correlation left."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.correlation.grid import IMAGES

    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="folder of a correlation, or NAME=DIR (default: called by its path)"
    )
    parser.add_argument("--pair", metavar="A-B", help="of convolutions, such as conv2c-conv3a (default: the only one)")
    parser.add_argument("--images", default=IMAGES, metavar="NAME", help="the set of images (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--out",
        default="correlation.png",
        metavar="FILE",
        help="the figure: .svg, .png or .pdf (default: %(default)s); its numbers go beside it, as .csv",
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.output import write_out
    from rootgen.correlation import grid
    from rootgen.figures.save import kind_of

    kind = kind_of(args.out, None)
    nets = grid.read(grid.names_of(args.folders), pair=args.pair, images=args.images)
    for path in grid.save(nets, args.out, kind):
        write_out(f"{path}\n", None)
