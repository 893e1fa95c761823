"""The image sets that `rootgen data` knows by name, and how each is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rootgen import paths
from rootgen.datasets import cifar, folder, idx, imagenet
from rootgen.datasets.download import fetch
from rootgen.datasets.image_set import ImageSet, check_size
from rootgen.errors import RootgenError, UnknownNameError
from rootgen.progress import Report

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Both MD5 lists are as published: on github.com/zalandoresearch/fashion-mnist and on the CIFAR-10 page.
FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
DEFAULT_PAD = {
    "fashion-mnist-sample": 4,
    "fashion-mnist": 4,
    "cifar10": 4,
    "imagenet": 0,
    "folder": 0,
}  # what the recipe crops from
FASHION_MARGIN = 2  # 28 x 28 to the 32 x 32 of CIFAR-10's nets


@dataclass(frozen=True)
class Dataset:
    """A training set, perhaps a test set, the names of the classes, and how images become the nets' input.

    Every image gets `margin` rows of zeros on each side, and three equal channels if `color` asks for them.
    """

    train: ImageSet
    test: ImageSet | None
    classes: tuple[str, ...]
    margin: int = 0
    color: bool = True


@dataclass(frozen=True)
class FolderOptions:
    """How image files are read: see folder.read_classes, read_list and split; `ground_truth`: imagenet.read."""

    resize: tuple[int, int] | None = None
    gray: bool = False
    train_list: str | None = None
    test_list: str | None = None
    test_fraction: float = 0.0
    seed: int = 0
    ground_truth: str | None = None


def load(
    name: str,
    source: str | Path | None = None,
    *,
    options: FolderOptions | None = None,
    report: Report | None = None,
) -> Dataset:
    """The data set `name`, from the folder or archive `source` where one is given, else found or downloaded."""
    if name not in NAMES:
        raise UnknownNameError(f"no data set '{name}'", name, NAMES)
    if name == "folder":
        if source is None:
            raise RootgenError("data set 'folder' needs a folder of images", hint="give it as --source")
        return _folder(Path(source), options or FolderOptions())
    if name == "imagenet":
        if source is None:
            raise RootgenError("data set 'imagenet' cannot be downloaded by a program", hint="unpack it; --source DIR")
        train, val, classes = imagenet.read(source, options.ground_truth if options else None)
        return Dataset(train, val, classes)
    if name == "cifar10":
        archive = source or fetch(CIFAR10_URL, CIFAR10_MD5, report)
        return Dataset(*cifar.read_sets(archive), classes=cifar.CLASSES)
    if name == "fashion-mnist-sample":
        if source is not None:
            raise RootgenError("'fashion-mnist-sample' is embedded and takes no --source", hint="drop --source")
        source = paths.data("fashion-mnist")
    elif source is None and DEBIAN_FOLDER.is_dir():
        source = DEBIAN_FOLDER
    elif source is None:
        for file, md5 in FASHION_MD5.items():
            source = fetch(FASHION_URL + file, md5, report).parent
    assert source is not None
    train, test = (idx.read_set(source, part) for part in ("train", "test"))
    return Dataset(train, test, FASHION_CLASSES, margin=FASHION_MARGIN)


def _folder(source: Path, options: FolderOptions) -> Dataset:
    """The user's own images: by list files, by train/ and test/ (or val/) folders, or split by `test_fraction`."""
    if options.resize:
        check_size((1 if options.gray else 3, *options.resize), "a smaller --resize")
    how = (options.resize, options.gray)
    test: ImageSet | None = None
    if options.train_list:
        train = folder.read_list(source, options.train_list, *how)
        classes: tuple[str, ...] = ()
        if options.test_list:
            test = folder.read_list(source, options.test_list, *how)
    elif (source / "train").is_dir():
        train, classes = folder.read_classes(source / "train", *how)
        held_out = next((source / name for name in ("test", "val") if (source / name).is_dir()), None)
        if held_out:
            test, test_classes = folder.read_classes(held_out, *how)
            if test_classes != classes:
                odd = sorted(set(classes) ^ set(test_classes))
                raise RootgenError(
                    f"classes {', '.join(odd)} are in only one of train/ and {held_out.name}/", where=source
                )
    else:
        train, classes = folder.read_classes(source, *how)
    if test is not None and options.test_fraction:
        raise RootgenError("has a test set of its own", where=source, hint="drop --test-fraction")
    if options.test_fraction:
        train, test = folder.split(train, options.test_fraction, options.seed)
    return Dataset(train, test, classes, color=not options.gray)


NAMES = {
    "fashion-mnist-sample": "5000 + 1000 images embedded in rootgen, 10 classes of clothes",
    "fashion-mnist": "60 000 + 10 000 images; from Debian's dataset-fashion-mnist, --source, or downloaded",
    "cifar10": "50 000 + 10 000 images; from --source (python or binary archive, or its folder), or downloaded",
    "imagenet": "ILSVRC 2012 from --source: train/<synset>/ and val/, by synset or with its ground truth",
    "folder": "your own images in --source: one sub-folder per class, or list files",
}
