"""rootgen data: an image set as LMDB and mean image."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Make train_lmdb, test_lmdb and mean.binaryproto of an image set, as Caffe's own tools make them."
PADDING = """\
Images are padded with zeros, and the mean is taken over the padded images, so it is zero on the border too: once
it is subtracted, the padding is exactly zero. Fashion-MNIST's 28x28 become 32x32 before --pad; its grey is copied
to three channels. CIFAR-10 keeps its order red, green, blue, as convert_cifar_data does; image folders are read as
blue, green, red, as convert_imageset does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import count
    from rootgen.datasets import NAMES

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    sets = "\n".join(f"  {name:21} {text}" for name, text in NAMES.items())
    parser.epilog = f"sets:\n{sets}\n\n{PADDING}"
    parser.add_argument("name", metavar="NAME", help="which set: see below")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--source", metavar="PATH", help="folder or archive the set lies in")
    parser.add_argument(
        "--pad",
        type=count,
        metavar="N",
        help="zeros on each side, for recipes that crop at random (default: 4, which gives 40x40; folder: 0)",
    )
    parser.add_argument("--seed", type=count, metavar="N", help="of training order and test fraction (default: 0)")
    parser.add_argument("--no-shuffle", action="store_true", help="keep the training images in the set's own order")
    parser.add_argument("--force", action="store_true", help="replace what an earlier run left in DIR")
    folder = parser.add_argument_group("image folders")
    folder.add_argument("--resize", type=_size, metavar="HxW", help="size of every image, whatever its own shape")
    folder.add_argument("--gray", action="store_true", help="one channel instead of blue, green and red")
    folder.add_argument("--list", metavar="FILE", help="training images: lines of `path label`, relative to --source")
    folder.add_argument("--test-list", metavar="FILE", help="test images, likewise")
    folder.add_argument(
        "--test-fraction",
        type=_fraction,
        metavar="F",
        help="share of every class that becomes the test set, where the folder has none",
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import write_out
    from rootgen.cli.progress_bars import bars
    from rootgen.datasets import DEFAULT_PAD, load, save
    from rootgen.datasets.catalogue import FolderOptions
    from rootgen.datasets.save import refuse_existing

    _check(args)
    seed = args.seed or 0
    options = FolderOptions(args.resize, args.gray, args.list, args.test_list, args.test_fraction or 0.0, seed)
    pad = DEFAULT_PAD.get(args.name, 0) if args.pad is None else args.pad
    refuse_existing(args.out, args.force)  # before anything is downloaded
    with bars() as report:
        dataset = load(args.name, args.source, options=options, report=report)
        order = None if args.no_shuffle else seed
        channels, height, width = save(dataset, args.out, pad=pad, seed=order, force=args.force, report=report)
    out = Path(args.out)
    write_out(f"{out / 'train_lmdb'}: {len(dataset.train)} images of {channels}x{height}x{width}\n", None)
    if dataset.test is not None:
        write_out(f"{out / 'test_lmdb'}: {len(dataset.test)} images\n", None)
    write_out(f"{out / 'mean.binaryproto'}: their mean image\n", None)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing."""
    from rootgen.cli import UsageError, refuse_idle

    if args.name != "folder":
        names = ("resize", "gray", "list", "test_list", "test_fraction")
        refuse_idle(args, names, "is for image folders", hint="rootgen data folder ...")
    if args.no_shuffle and not args.test_fraction:  # which it chooses the images of
        refuse_idle(args, ("seed",), "does nothing with --no-shuffle")
    if args.test_list and not args.list:
        raise UsageError("--test-list goes with --list")
    if args.test_list and args.test_fraction:
        raise UsageError("--test-fraction goes without --test-list")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH, such as 256x256")
    return int(height), int(width)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a fraction from 0 to below 1")
    return value
