"""What the commands share: numbers, the options of a plan, of a net that is read, and of what runs nets."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.cli import UsageError
from rootgen.errors import RootgenError
from rootgen.grouping import Plan, parse_bases, parse_by_hand
from rootgen.net.graph import PHASES
from rootgen.text import parse_shape

if TYPE_CHECKING:
    from rootgen.net.graph import Shape
    from rootgen.net.load import LoadedNet

log = logging.getLogger("rootgen")


def positive(word: str) -> int:
    """A whole number from 1."""
    return _whole(word, 1)


def count(word: str) -> int:
    """A whole number from 0."""
    return _whole(word, 0)


def positive_float(word: str) -> float:
    """A finite number above zero."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{word}' is not a number above 0")
    return number


def _whole(word: str, least: int) -> int:
    number = int(word) if word.isascii() and word.isdigit() and len(word) < 12 else -1
    if not least <= number < 2**31:  # what Caffe's int32 fields hold
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from {least} to {2**31 - 1}")
    return number


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """`--root N`, `--column N`, `--tree N` (one of them); `--group LAYER=N`, `--basis SHAPES` (as often as wanted)."""
    rules = parser.add_argument_group("filter groups").add_mutually_exclusive_group()
    rules.add_argument("--root", type=int, metavar="N", help="N groups in the first stage, half as many in each next")
    rules.add_argument("--column", type=int, metavar="N", help="N groups in every stage")
    rules.add_argument("--tree", type=int, metavar="N", help="N groups in the first stage, twice as many in each next")
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="LAYER=N",
        help="groups of one layer, or of those that a pattern names ('*/5x5=4'), over any rule; N may be the sizes of "
        "groups by outputs (96+48+48) or inputs/outputs (48/96+48/96), or a rule (root-4); repeatable",
    )
    parser.add_argument(
        "--basis",
        action="append",
        default=[],
        metavar="[LAYER=]SHAPES",
        help="kernels side by side in place of a spatial convolution's: 3x1+1x3, 3x1+1x3+3x3, or with k for its own "
        "size kx1+1xk; for all behind the image, or those of a name or pattern; repeatable",
    )


def plan(args: argparse.Namespace) -> Plan:
    """The plan that the parsed options ask for; the original network where they ask for nothing."""
    group, basis = parse_by_hand(args.group), parse_bases(args.basis)
    return Plan.of(root=args.root, column=args.column, tree=args.tree, group=group, basis=basis)


def add_net_arguments(parser: argparse.ArgumentParser, *, batch: bool = True, phase: bool = True) -> None:
    """`--level`, `--stage`, `--input`, `--shape`, `--lenient`, and `--phase` and `--batch-size` where they matter."""
    if phase:
        parser.add_argument("--phase", choices=PHASES, default="TEST", help="layers of this phase (default: TEST)")
    parser.add_argument("--level", type=int, default=0, metavar="N", help="the level that the layers' rules speak of")
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="a stage of the rules; repeatable")
    parser.add_argument("--input", metavar="CxHxW", help="size of the input images, whatever the net or its data says")
    add_lenient_argument(parser)
    if batch:
        add_batch_size(parser, help="images per batch, whatever the net says")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="BLOB=AxB...",
        help="shape of a blob no rule can tell; repeatable",
    )


def add_lenient_argument(parser: argparse.ArgumentParser) -> None:
    """`--lenient`."""
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="pass over fields and enum values that Caffe 1.0 does not have (files of its forks), with a warning",
    )


def add_batch_size(parser: argparse._ActionsContainer, *, help: str, default: int | None = None) -> None:
    """`--batch-size`, and `--batch`, as earlier releases had it in some verbs."""
    parser.add_argument("--batch-size", type=positive, default=default, metavar="N", help=help)
    parser.add_argument(
        "--batch", dest="batch_size", type=positive, default=argparse.SUPPRESS, metavar="N", help=argparse.SUPPRESS
    )


def read_net(path: str, args: argparse.Namespace) -> LoadedNet:
    """The net at `path` (`-`: on stdin) with its shapes; what was assumed, or is not known, goes to the log."""
    from rootgen.cli import stdin
    from rootgen.net.load import load, load_text

    how: dict[str, Any] = {
        "phase": args.phase,
        "level": args.level,
        "stages": args.stage,
        "lenient": args.lenient,
        "input_shape": input_shape(args),
        "batch": args.batch_size,
        "given": given(args),
    }
    net = load_text(stdin.read(), where=stdin.STDIN, beside=Path(), **how) if path == "-" else load(path, **how)
    for note in net.notes:
        log.warning(note)
    return net


def input_shape(args: argparse.Namespace) -> tuple[int, int, int] | None:
    """Channels, height and width of `--input`."""
    if not args.input:
        return None
    channels, height, width = parse_shape(args.input, 3)
    return channels, height, width


def given(args: argparse.Namespace) -> dict[str, Shape]:
    """Shapes by blob of all `--shape BLOB=AxB`."""
    found = {}
    for word in args.shape:
        name, equals, shape = word.rpartition("=")
        if not equals or not name:
            raise RootgenError(f"--shape {word}: not of the form BLOB=AxBxC", hint="as in --shape pool5=1x256x7x7")
        found[name] = parse_shape(shape)
    return found


def model_out(args: argparse.Namespace) -> str:
    """Where the model of the net that is written goes: --weights-out, else beside --out.

    UsageError where that is nowhere, would be one file with the net, or without --weights-out the model given.
    """
    if args.out not in (None, "-") and not Path(args.out).name:
        raise UsageError(f"-o {args.out} is no file's name")
    if args.weights_out:
        model = str(args.weights_out)
    elif args.out in (None, "-"):
        raise UsageError("--weights needs a place for the model", hint="-o FILE.prototxt, or -w FILE.caffemodel")
    else:
        model = str(Path(args.out).with_suffix(".caffemodel"))
        if os.path.realpath(model) == os.path.realpath(args.weights):
            raise UsageError(
                f"the new model would replace {args.weights}", hint="-w FILE.caffemodel says where it goes"
            )
    if args.out not in (None, "-") and os.path.realpath(model) == os.path.realpath(args.out):
        raise UsageError(f"net and model would both be {model}", hint="say -w FILE.caffemodel")
    return model


def add_engine_arguments(parser: argparse._ActionsContainer) -> None:
    """--engine, --device and --threads."""
    from rootgen.engine.api import ENGINES

    parser.add_argument(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="auto: pycaffe where it imports, else PyTorch; onnx: forward only",
    )
    parser.add_argument("--device", default="auto", metavar="cpu|gpu[:N]", help="auto: a GPU where there is one")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads to compute with (default: all)")


def add_precision(parser: argparse._ActionsContainer, default: str | None = None) -> None:
    """`--precision` of a training."""
    from rootgen.engine.api import PRECISIONS

    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=default,
        help="of the arithmetic (default: fp32); tf32 on GPUs; bf16: convolutions and inner products, the rest fp32",
    )


def add_judging_arguments(parser: argparse._ActionsContainer) -> None:
    """`--data`, `--mean` and `--images` of what judges weights by images."""
    parser.add_argument("--data", metavar="DIR", help="judge weights by these images: an LMDB, or `rootgen data`'s DIR")
    parser.add_argument("--mean", metavar="FILE", help="mean.binaryproto (default: that of the Data layer)")
    parser.add_argument("--images", type=positive, metavar="N", help="images, at most (default: 500)")


def limit_threads(count: int | None) -> None:
    """Have every engine compute with `count` threads; before one is loaded, as OpenMP and BLAS read it then."""
    if count is None:
        return
    from rootgen.engine.machine import THREADS

    for name in THREADS:
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
