"""rootgen upgrade: nets, solvers and models of old Caffes in today's form."""

from __future__ import annotations

import argparse
import logging

from rootgen.cli import UsageError, arguments, output, stdin

HELP = (
    "Write a net, solver or caffemodel of an old Caffe (V0, V1 `layers`, `input`, `solver_type`) in today's form, as "
    "Caffe's own upgrade does. Comments, order and formatting stay, but for comments on lines that go (`input_dim`, "
    "`blobs_lr`) and inside layers that have to be written anew: those of the V0 form. Blobs stay byte for byte."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .prototxt or a .caffemodel; - is a prototxt on stdin")
    parser.add_argument("-o", "--out", metavar="FILE", help="write here instead of to stdout; may be FILE itself")
    arguments.add_lenient_argument(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.net.read import is_binary
    from rootgen.transform import upgrade

    where = stdin.STDIN if args.file == "-" else args.file
    if args.file != "-" and is_binary(args.file):
        if args.out in (None, "-"):
            raise UsageError("a caffemodel needs a place to go to", hint="-o FILE.caffemodel")
        from rootgen.files import write_bytes

        content, old = upgrade.upgrade_model(args.file)
        if old or args.out != args.file:
            write_bytes(args.out, content)
    else:
        found = upgrade.upgrade_text(stdin.text_of(args.file), where, lenient=args.lenient)
        old = found.old
        output.write_out(found.text, args.out)
        if found.anew:
            names, more = ", ".join(found.anew[:8]), len(found.anew) - 8
            log.info("%s: written anew: %s%s", where, names, f" and {more} more" if more > 0 else "")
    log.info("%s: %s", where, f"upgraded: {', '.join(old)}" if old else "nothing to upgrade: today's form already")
