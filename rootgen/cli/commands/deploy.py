"""rootgen deploy: the deploy net of a training net."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from rootgen.cli import UsageError, arguments, output, stdin

HELP = (
    "Write the deploy net of any training net: data becomes Input, losses what they stand for, labels and heads that "
    "training alone has go. Text that stays is not touched."
)
log = logging.getLogger("rootgen")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="TRAIN_VAL", help="a training net's .prototxt; - is stdin")
    output.add_out_argument(parser)
    parser.add_argument("--weights", metavar="MODEL", help="its model; what is gone from the net goes from it too")
    parser.add_argument(
        "-w", "--weights-out", metavar="MODEL", help="where that goes (default: beside -o, as .caffemodel)"
    )
    parser.add_argument("--all-heads", action="store_true", help="keep the heads whose loss weighs less, too")
    arguments.add_net_arguments(parser, phase=False)


def run(args: argparse.Namespace) -> None:
    from rootgen.transform.deploy import DeployOptions, deploy

    model = _model_out(args)
    options = DeployOptions(
        args.batch_size or 1,
        args.level,
        args.stage,
        arguments.input_shape(args),
        args.all_heads,
        args.lenient,
        None if args.net == "-" else Path(args.net).parent,
        arguments.given(args),
    )
    found = deploy(stdin.text_of(args.net), stdin.STDIN if args.net == "-" else args.net, options)
    for note in found.notes:
        log.warning(note)
    if model:
        from rootgen.engine import weights
        from rootgen.files import check_writable
        from rootgen.net.load import load_text

        net = load_text(found.text, where=args.net, lenient=args.lenient)
        wanted = {layer.name: layer.shapes.params for layer in net.layers if layer.shapes.params}
        blobs = weights.matching(weights.read(args.weights, net.layers), wanted, args.weights, whole=True)
        weights.check_trained(net.layers, blobs, args.weights)
        if args.out not in (None, "-"):
            check_writable(args.out)
        weights.write(model, net.name, "TEST", net.layers, blobs)
        log.info("%s: %d layers' blobs", model, len(blobs))
    output.write_out(found.text, args.out)
    log.info("outputs: %s; gone: %s", ", ".join(found.outputs), ", ".join(found.gone) or "nothing")


def _model_out(args: argparse.Namespace) -> str | None:
    """Where the model goes that belongs to the net written."""
    if not args.weights:
        if args.weights_out:
            raise UsageError("--weights-out goes with --weights")
        return None
    return arguments.model_out(args)
