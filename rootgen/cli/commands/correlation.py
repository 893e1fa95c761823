"""rootgen correlation: inter-layer filter correlation of a trained model."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import asdict, fields
from pathlib import Path

HELP = "Inter-layer filter correlation of a trained model: arrays, images as in the paper's Fig. 6, block scores."
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_batch_size, add_engine_arguments, add_lenient_argument, count, positive
    from rootgen.cli.output import add_format_arguments
    from rootgen.correlation.study import KINDS, CorrelationOptions

    parser.add_argument("model", metavar="MODEL.caffemodel")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="for the results (default: MODEL_correlation, beside the model)"
    )
    parser.add_argument("--net", metavar="FILE", help="net.prototxt (default: the net that the caffemodel carries)")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR|LMDB",
        help="images, or a folder that rootgen data made; repeatable (default: those it trained on)",
    )
    parser.add_argument("--mean", metavar="FILE", help="mean.binaryproto (default: that of the net's Data layer)")
    parser.add_argument(
        "--pairs",
        type=lambda text: text.split(","),
        default=[],
        metavar="A-B,...",
        help="pairs of convolutions, such as conv2c-conv3a (default: all adjacent ones)",
    )
    parser.add_argument(
        "--images", type=positive, default=CorrelationOptions.images, metavar="N", help="of each set, at most"
    )
    add_batch_size(parser, default=CorrelationOptions.batch_size, help="images per pass (default: %(default)s)")
    parser.add_argument("--group", type=positive, metavar="N", help="score by N blocks, not by the layer's own groups")
    parser.add_argument(
        "--control",
        action="store_true",
        help="beside it the same net untrained, by the fillers of its net: the groups alone make most of the blocks",
    )
    parser.add_argument(
        "--seed", type=count, default=CorrelationOptions.seed, metavar="N", help="of the untrained net's weights"
    )
    parser.add_argument(
        "--draw",
        type=_kinds,
        default=CorrelationOptions.draw,
        metavar="KIND,...",
        help=f"contact sheets to draw: {', '.join(KINDS)} (default: whitened; the arrays always hold all)",
    )
    parser.add_argument("--single-files", action="store_true", help="draw a file of each pair in place of the sheets")
    add_format_arguments(parser, out=False)
    add_lenient_argument(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen import correlation
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.output import answer, write_out
    from rootgen.cli.progress_bars import bars
    from rootgen.correlation.study import CorrelationOptions

    limit_threads(args.threads)
    model = Path(args.model)
    out = Path(args.out) if args.out else model.with_name(f"{model.stem}_correlation") if model.name else model
    names = {field.name for field in fields(CorrelationOptions)} & set(vars(args))
    options = CorrelationOptions(**{name: getattr(args, name) for name in names})
    begin = time.perf_counter()
    with bars() as report:
        outcome = correlation.run(args.model, out, options, report)
    write_out(answer(args.format, outcome.tables(), [asdict(score) for score in outcome.scores]), None)
    log.info("%s: %d files in %.1f s", out, len(outcome.files), time.perf_counter() - begin)


def _kinds(text: str) -> list[str]:
    from rootgen.correlation.study import KINDS

    for kind in text.split(","):
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"'{kind}' is none of {', '.join(KINDS)}")
    return text.split(",")
