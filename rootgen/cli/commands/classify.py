"""rootgen classify: the likeliest classes of images."""

from __future__ import annotations

import argparse

from rootgen.cli import arguments, output
from rootgen.errors import RootgenError
from rootgen.text import Table, parse_shape

HELP = "Name the k likeliest classes of images, prepared as the model's own Data layer prepares them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a trained .caffemodel (or .h5, with --net)")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="JPEG, PNG, ...")
    parser.add_argument("--net", metavar="FILE", help="train_val or deploy net (default: the one the model carries)")
    parser.add_argument("-k", "--top", type=arguments.positive, metavar="K", help="classes (default: 5 at most)")
    parser.add_argument("--labels", metavar="FILE", help="a name per line (default: labels.txt beside the databases)")
    parser.add_argument("--mean", metavar="FILE|VALUES", help="mean.binaryproto or 104,117,123, instead of its own")
    parser.add_argument("--resize", type=_size, metavar="HxW", help="size before the crop (default: as it trained)")
    arguments.add_batch_size(parser, help="images at a time (default: 32)", default=32)
    output.add_format_arguments(parser)
    arguments.add_lenient_argument(parser)
    arguments.add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.progress_bars import bars
    from rootgen.deploy.classify import ClassifyOptions, classify

    arguments.limit_threads(args.threads)
    names = ("net", "labels", "mean", "resize", "batch_size", "lenient", "engine", "device")
    options = ClassifyOptions(k=args.top, **{name: getattr(args, name) for name in names})
    with bars("images") as report:
        answers = classify(args.model, args.images, options, report)
    rows = [
        {"image": answer.image, "rank": rank, "class": number, "name": name, "score": score}
        for answer in answers
        for rank, (number, name, score) in enumerate(answer.classes, 1)
    ]
    cells = [[row["image"], row["rank"], row["class"], row["name"], f"{row['score']:.4f}"] for row in rows]
    table = Table(["image", "rank", "class", "name", "score"], cells)
    output.write_out(output.answer(args.format, [table], rows), args.out)


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = parse_shape(text, 2)
    except RootgenError:
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH, such as 256x256") from None
    return height, width
