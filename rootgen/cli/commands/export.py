"""rootgen export: a net and its model as a .onnx file, checked number by number as it is written."""

from __future__ import annotations

import argparse
import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen import scratch
from rootgen.cli import UsageError, arguments, stdin, write_out
from rootgen.errors import RootgenError
from rootgen.text import byte_size

if TYPE_CHECKING:
    from rootgen.engine.onnx.export import Exported
    from rootgen.net.graph import Net

HELP = (
    "Write a net with its weights as an ONNX model, and run that in ONNX Runtime beside our own engine before it is "
    "put in place. Layers and blobs keep their names."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="prototxt (- is stdin), or a caffemodel with its own weights")
    parser.add_argument("--weights", metavar="MODEL", help="caffemodel or .h5 with the weights of NET")
    parser.add_argument("-o", "--out", metavar="FILE.onnx", required=True, help="- is stdout")
    parser.add_argument("--dynamic-batch", action="store_true", help="leave the number of images per batch open")
    arguments.add_batch_size(parser, help="images per batch (default: NET's)")
    parser.add_argument("--input", metavar="CxHxW", help="size of the input images, whatever the net says")
    parser.add_argument(
        "--transform",
        nargs="?",
        const="",
        metavar="TRAIN_VAL",
        help="as first nodes, the mean and the scale of NET's Data layer, or of the Data layer of TRAIN_VAL",
    )
    arguments.add_lenient_argument(parser)


def run(args: argparse.Namespace) -> None:
    if not find_spec("onnx"):
        raise RootgenError("ONNX models need the package onnx", hint="pip install rootgen[onnx]")
    from rootgen.net.read import is_binary

    if args.weights is None and (args.net == "-" or not is_binary(args.net)):
        raise UsageError("no weights", hint="--weights MODEL.caffemodel")
    with scratch.folder("rootgen-export-") as folder:
        out = folder / "net.onnx" if args.out == "-" else Path(args.out)
        done = _export(args, out)
        if args.out == "-":
            sys.stdout.buffer.write(out.read_bytes())
    told = f"{args.out}: {done.nodes} nodes, {byte_size(done.size)}; {_compared(done)}"
    if args.out == "-":
        log.info("%s", told)
    else:
        write_out(f"{told}\n", None)


def _compared(done: Exported) -> str:
    if done.difference is None:
        return "not compared with our own engine"
    return f"largest relative difference from our own engine {done.difference.value:.1e} ('{done.difference.blob}')"


def _export(args: argparse.Namespace, out: Path) -> Exported:
    from rootgen.engine.onnx.export import export, transforms_of

    net = _net(args.net, args)
    transforms = None
    if args.transform is not None:
        path = args.transform or args.net
        transforms = transforms_of(
            _net(path, args) if args.transform else net, None if path == "-" else Path(path).parent
        )
    return export(
        _deployed(net, args), args.weights or args.net, out, dynamic_batch=args.dynamic_batch, transforms=transforms
    )


def _net(path: str, args: argparse.Namespace) -> Net:
    """A net in phase TEST with its shapes, from a file or from stdin."""
    from rootgen.engine.onnx.model import check_types
    from rootgen.net.read import parse, read
    from rootgen.net.shapes import infer

    how = {"where": stdin.STDIN, "lenient": args.lenient}
    net = parse(stdin.read(), "TEST", **how) if path == "-" else read(path, "TEST", lenient=args.lenient)
    check_types(net)
    net = infer(net, batch=args.batch_size, input_shape=arguments.input_shape(args))
    for note in net.notes:
        log.warning(note)
    return net


def _deployed(net: Net, args: argparse.Namespace) -> Net:
    """The deploy net of a train_val net; itself where it has no loss."""
    from rootgen.net.forks import param_of
    from rootgen.net.layers.registry import of
    from rootgen.net.read import parse
    from rootgen.net.shapes import infer
    from rootgen.proto import prototxt
    from rootgen.transform.deploy import DeployOptions, deploy

    if not any(of(layer).is_loss for layer in net.layers):
        return net
    # those of phase TEST, whatever they were saved in
    whole = param_of(net, without=("blobs", "include", "exclude", "phase"))
    beside = None if net.source == stdin.STDIN else Path(net.source).parent
    options = DeployOptions(batch_size=args.batch_size or 1, input_shape=arguments.input_shape(args), beside=beside)
    found = deploy(prototxt.format(whole), net.source, options)
    log.info("%s: its deploy net is exported, with %s for output", net.source, ", ".join(found.outputs))
    return infer(parse(found.text, "TEST", where=net.source))
