"""rootgen draw: a network as a picture that shows its groups."""

from __future__ import annotations

import argparse

from rootgen.cli import arguments
from rootgen.figures import diagram, draw
from rootgen.net import cost

HELP = "Draw a network as SVG, PNG or PDF: filters as blocks, one per group; stages from left to right."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a .prototxt or .caffemodel")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="picture to write: .svg, .png or .pdf")
    parser.add_argument("--all-blocks", action="store_true", help="draw every block, and not equal ones once")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    net = arguments.read_net(args.net, args)
    total = cost.count(net)
    least = "" if total.complete else "at least "
    title = (
        f"{total.net}: {least}{total.params / 1e6:.4g} M parameters, {total.macs / 1e9:.4g} G multiply-adds an image"
    )
    draw.draw(diagram.diagram(net, fold_repeats=not args.all_blocks), title, args.out)
