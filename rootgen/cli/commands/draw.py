"""rootgen draw: a network as a picture that shows its groups."""

from __future__ import annotations

import argparse

from rootgen.cli import arguments, write_out
from rootgen.figures.open import draw

HELP = "Draw a network as SVG, PNG or PDF: filters as blocks, one per group, and which channels feed them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a .prototxt or .caffemodel; - is stdin")
    said = "picture to write: .svg, .png or .pdf; - is stdout, as SVG"
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help=said)
    parser.add_argument("--all-blocks", action="store_true", help="draw every block, and not alike ones once")
    arguments.add_net_arguments(parser)


def run(args: argparse.Namespace) -> None:
    net = arguments.read_net(args.net, args)
    if args.out == "-":
        write_out(draw(net, all_blocks=args.all_blocks).svg(), None)
    else:
        draw(net, args.out, all_blocks=args.all_blocks)
