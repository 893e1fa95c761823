"""rootgen test: how well a trained net does on labelled images."""

from __future__ import annotations

import argparse

from rootgen.cli import UsageError, arguments, output, stdin
from rootgen.text import Table

HELP = "Score a trained net: its outputs as `caffe test` averages them, and top-1 and top-5 over every image once."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a train_val .prototxt (- is stdin), or a .caffemodel with its net")
    parser.add_argument("--weights", metavar="MODEL", help="the trained .caffemodel (or .h5)")
    parser.add_argument("--data", metavar="DIR|LMDB", help="test images: a folder of rootgen data, or an LMDB")
    parser.add_argument("--mean", metavar="FILE", help="mean.binaryproto instead of the net's own")
    parser.add_argument("--iterations", type=arguments.positive, metavar="N", help="batches (default: once through)")
    arguments.add_batch_size(parser, help="images per batch, whatever the net says")
    output.add_format_arguments(parser)
    arguments.add_lenient_argument(parser)
    arguments.add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.progress_bars import bars
    from rootgen.deploy.score import ScoreOptions, score
    from rootgen.net.read import is_binary

    if args.weights is None and (args.net == "-" or not is_binary(args.net)):
        raise UsageError("no weights", hint="--weights MODEL.caffemodel")
    arguments.limit_threads(args.threads)
    names = ("data", "iterations", "batch_size", "mean", "lenient", "engine", "device")
    options = ScoreOptions(**{name: getattr(args, name) for name in names})
    with bars("batches") as report, stdin.net_file(args.net) as net:
        found = score(net, args.weights, options, report)
    rows = [{"output": f"top-{k}", "value": share} for k, share in found.top.items()]
    rows += [{"output": name, "value": value} for name, value in found.outputs.items()]
    title = f"{args.net}: {found.images} images, {found.iterations} batches; {found.engine}, {found.device}"
    if args.format == "json":
        top = {f"top{k}": share for k, share in found.top.items()}
        about = {"net": args.net, "images": found.images, "iterations": found.iterations, "engine": found.engine}
        text = output.json_object({**about, **top, "outputs": found.outputs})
    else:
        table = Table(["output", "mean"], [[row["output"], f"{row['value']:.6g}"] for row in rows], title=title)
        text = output.answer(args.format, [table], rows)
    output.write_out(text, args.out)
