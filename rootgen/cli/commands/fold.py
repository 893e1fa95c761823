"""rootgen fold: BatchNorm, Scale, Bias, Power and Dropout folded into the layers beside them."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.cli import arguments, output, stdin
from rootgen.errors import RootgenError
from rootgen.text import Table

if TYPE_CHECKING:
    from rootgen.net.graph import Net
    from rootgen.transform.strides import EarlyStrides

HELP = (
    "Fold BatchNorm, Scale, Bias, Power and Dropout into the convolutions and inner products beside them. The outputs "
    "are held against the original's, in float64, before anything is written."
)
LIMIT = 1e-5  # relative
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a .prototxt; - is stdin")
    parser.add_argument("--weights", metavar="MODEL", required=True, help="its trained .caffemodel (or .h5)")
    output.add_out_argument(parser)
    parser.add_argument("-w", "--weights-out", metavar="MODEL", help="where the folded blobs go (default: beside -o)")
    parser.add_argument(
        "--early-strides",
        action="store_true",
        help="compute no pixels that 1x1 convolutions step over: the maps before them get smaller, outputs stay",
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing, show what would go where")
    arguments.add_net_arguments(parser, phase=False)


def run(args: argparse.Namespace) -> None:
    from rootgen.deploy.check import largest_difference
    from rootgen.deploy.fold import fold
    from rootgen.engine import weights
    from rootgen.files import check_writable
    from rootgen.net.load import load_text
    from rootgen.transform.strides import early_strides

    model = None if args.dry_run else arguments.model_out(args)
    text = stdin.text_of(args.net)
    where = stdin.STDIN if args.net == "-" else args.net
    how = {"level": args.level, "stages": args.stage, "lenient": args.lenient}
    shape = {"input_shape": arguments.input_shape(args), "batch": args.batch_size, "given": arguments.given(args)}

    def read(text: str, where: str) -> Net:
        return load_text(text, "TEST", where=where, beside=Path(args.net).parent, **how, **shape)

    net = read(text, where)
    wanted = {layer.name: layer.shapes.params for layer in net.layers if layer.shapes.params}
    stored = weights.read(args.weights, net.layers)
    as_they_are = {layer.name for layer in net.layers if not layer.shapes.known}.intersection(stored)
    learned = {name: stored.pop(name) for name in as_they_are}
    learned |= weights.matching(stored, wanted, args.weights, whole=True)
    found = fold(text, net, learned)
    tables = _tables(found.gone, found.left)
    new, blobs, after = found.text, found.blobs, read(found.text, f"{where}, folded")
    early = early_strides(new, after)
    if args.early_strides and early.strides:
        later, after = after, read(early.text, f"{where}, folded")
        new, blobs = early.text, blobs | early.blobs
        tables += _early_tables(early, later, after)
    for table in tables:
        print(table.plain().rstrip(), file=sys.stdout if args.dry_run else sys.stderr)
    if args.early_strides != bool(early.strides):
        log.info(
            "no stride can be taken earlier"
            if args.early_strides
            else f"{len(early.strides)} strides can change places, with less to compute: --early-strides"
        )
    if model is None:
        log.info("%d layers would be folded, %d left", len(found.gone), len(found.left))
        return
    rounded = {name: [blob.astype("f4") for blob in own] for name, own in blobs.items()}
    gap = largest_difference(net, learned, after, rounded)
    if gap is not None and gap > LIMIT:
        raise RootgenError(f"the folded net's outputs differ by {gap:.1e} of their largest", where=where)
    if args.out not in (None, "-"):
        check_writable(args.out)
    weights.write(model, net.name, "TEST", after.layers, rounded)
    output.write_out(new, args.out)
    told = "" if gap is None else f"; outputs differ by {gap:.1e} of their largest (float64)"
    log.info("%d layers folded, %d left%s", len(found.gone), len(found.left), told)


def _tables(gone: dict[str, tuple[str, ...]], left: dict[str, str]) -> list[Table]:
    into = [[name, ", ".join(layers) or "(nothing to do)"] for name, layers in gone.items()]
    why = [[name, reason] for name, reason in left.items()]
    return [Table(columns, rows) for columns, rows in ((["folded", "into"], into), (["left", "why"], why)) if rows]


def _early_tables(early: EarlyStrides, before: Net, after: Net) -> list[Table]:
    """Which strides are others now, and what that saves."""
    from rootgen.net.cost import count, totals

    rows = [[name, *("x".join(map(str, stride)) for stride in strides)] for name, strides in early.strides.items()]
    return [Table(["convolution", "stride", "now"], rows), totals(count(before), count(after), "early strides")]
