"""rootgen data: an image set as LMDB and mean image."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootgen.datasets.catalogue import Dataset
    from rootgen.datasets.pack import Packed
    from rootgen.datasets.record import Packing
    from rootgen.progress import Report

log = logging.getLogger("rootgen")

HELP = "Make train_lmdb, test_lmdb and their mean of an image set, as Caffe's own tools make them."
PADDING = """\
Images are padded with zeros, and the mean is taken over the padded images, so it is zero on the border too: once
it is subtracted, the padding is exactly zero. Fashion-MNIST's 28x28 become 32x32 before --pad; its grey is copied
to three channels. CIFAR-10 keeps its order red, green, blue, as convert_cifar_data does; image folders are read as
blue, green, red, as convert_imageset does.

ImageNet, and folders with --shortest or --encoding, keep the proportions of their images: --shortest is the length of
the shorter side, records are JPEG unless --encoding raw, mean_values.txt has the channels' means (for emit --mean) in
place of a mean image. Images that cannot be read are left out and listed in odd_images.txt. A run that was stopped
is gone on with by the same command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import count
    from rootgen.datasets import NAMES
    from rootgen.datasets.record import ENCODINGS, Packing

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
    files = parser.add_argument_group("imagenet, and image folders whose proportions are kept")
    files.add_argument(
        "--shortest",
        type=count,
        metavar="PIXELS",
        help=f"length of the shorter side, 0: sizes as they are (default: {Packing.shortest} of imagenet)",
    )
    files.add_argument("--encoding", choices=ENCODINGS, help=f"how records hold images (default: {Packing.encoding})")
    files.add_argument("--quality", type=_quality, metavar="N", help=f"of JPEG, 1 to 100 (default: {Packing.quality})")
    files.add_argument("--ground-truth", metavar="FILE", help="classes of a flat val/, if not found beside the images")
    folder.add_argument(
        "--test-fraction",
        type=_fraction,
        metavar="F",
        help="share of every class that becomes the test set, where the folder has none",
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.progress_bars import bars
    from rootgen.datasets import load
    from rootgen.datasets.catalogue import FolderOptions
    from rootgen.datasets.save import refuse_existing

    _check(args)
    seed, fraction = args.seed or 0, args.test_fraction or 0.0
    options = FolderOptions(args.resize, args.gray, args.list, args.test_list, fraction, seed, args.ground_truth)
    refuse_existing(args.out, args.force)  # before anything is downloaded
    with bars() as report:
        dataset = load(args.name, args.source, options=options, report=report)
        if _packs(args):
            _pack(args, dataset, report)
        else:
            _save(args, dataset, report)


def _packs(args: argparse.Namespace) -> bool:
    return args.name == "imagenet" or args.shortest is not None or args.encoding is not None


def _pack(args: argparse.Namespace, dataset: Dataset, report: Report) -> None:
    """Images of many sizes."""
    from rootgen.cli import write_out
    from rootgen.datasets.pack import pack
    from rootgen.datasets.record import Packing
    from rootgen.datasets.save import LISTED, MEAN_VALUES

    packing = Packing(
        shortest=(Packing.shortest if args.name == "imagenet" else 0) if args.shortest is None else args.shortest,
        encoding=args.encoding or Packing.encoding,
        quality=args.quality or Packing.quality,
        gray=args.gray,
        seed=None if args.no_shuffle else args.seed or 0,
    )
    packed = pack(dataset, args.out, packing, force=args.force, report=report)
    out = Path(args.out)
    form = _form(packing)
    for name, found in packed.items():
        write_out(f"{out / name}: {found.records} images{_beside_published(args.name, name, found)}, {form}\n", None)
    means = ", ".join(f"{mean:.1f}" for mean in packed["train_lmdb"].means)
    write_out(f"{out / MEAN_VALUES}: their channels' means, {means}\n", None)
    odd = sum(len(found.odd) for found in packed.values())
    if odd:
        left_out = sum(found.left_out for found in packed.values())
        log.warning("%s: %d images were not as usual, %d of them left out", out / LISTED, odd, left_out)


def _form(packing: Packing) -> str:
    size = f"shorter side {packing.shortest}" if packing.shortest else "sizes as they were"
    return f"{size}, {'JPEG' if packing.encoding == 'jpeg' else 'raw'}"


def _beside_published(name: str, part: str, found: Packed) -> str:
    """What to say of ImageNet's number of images."""
    from rootgen.datasets import imagenet

    if name != "imagenet":
        return ""
    published = {"train_lmdb": imagenet.TRAIN_IMAGES, "test_lmdb": imagenet.VAL_IMAGES}[part]
    return " (all)" if found.records == published else f" (of the {published} published)"


def _save(args: argparse.Namespace, dataset: Dataset, report: Report) -> None:
    """Images of one size, and their mean image."""
    from rootgen.cli import write_out
    from rootgen.datasets import DEFAULT_PAD, save

    pad = DEFAULT_PAD.get(args.name, 0) if args.pad is None else args.pad
    order = None if args.no_shuffle else args.seed or 0
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
        names = ("resize", "list", "test_list", "test_fraction")
        refuse_idle(args, names, "is for image folders", hint="rootgen data folder ...")
    if args.name not in ("folder", "imagenet"):
        names = ("gray", "shortest", "encoding", "quality")
        refuse_idle(args, names, "is for image files", hint="rootgen data folder ...")
    if args.name != "imagenet":
        refuse_idle(args, ("ground_truth",), "is for imagenet")
    if _packs(args):
        refuse_idle(args, ("resize", "pad"), "is for images of one size", hint="drop it, or --shortest and --encoding")
    if args.encoding == "raw" or not _packs(args):
        refuse_idle(args, ("quality",), "is of JPEG alone")
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


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"'{text}' is not a quality from 1 to 100")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a fraction from 0 to below 1")
    return value
