"""A user's own images: a sub-folder per class, or a list file as Caffe's convert_imageset takes it.

OpenCV decodes and resizes, as it does in convert_imageset, so that both give the same pixels: channels in
the order blue, green, red, bilinear resizing that does not keep the aspect ratio.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rootgen.datasets.image_set import ImageSet
from rootgen.errors import RootgenError
from rootgen.files import read_bytes

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_LABEL = 2**31 - 1  # Datum.label is an int32
MAX_FILE = 2**29  # bytes of an image file
MAX_LIST = 2**28  # bytes of a list of images; ImageNet's has 44 MB
MAX_PIXELS = 2**27  # that OpenCV decodes of one image, told before it is first imported; its own limit takes 3 GiB


@dataclass(frozen=True)
class Files:
    """Image files, decoded when asked for; `resize` is (height, width)."""

    root: Path
    names: Sequence[str]
    resize: tuple[int, int] | None
    gray: bool

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> np.ndarray:
        path = self.root / self.names[index]
        return decode(read_bytes(path, most=MAX_FILE), path, self.resize, self.gray)


def decode(content: bytes, where: object, resize: tuple[int, int] | None = None, gray: bool = False) -> np.ndarray:
    """An encoded image as uint8, (3, H, W) in the order blue, green, red, or (1, H, W) if `gray`."""
    cv2 = _opencv()
    image = None
    try:
        if content:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
        if image is not None and resize:
            image = cv2.resize(image, resize[::-1])
    except cv2.error as error:  # too many pixels, too little memory
        raise RootgenError(f"OpenCV cannot take this image: {error.err}", where=where) from None
    if image is None:
        raise RootgenError("not an image that OpenCV can decode", where=where, hint="remove or replace it")
    return image[np.newaxis] if gray else np.ascontiguousarray(image.transpose(2, 0, 1))


def read_list(
    root: str | Path, list_file: str | Path, resize: tuple[int, int] | None = None, gray: bool = False
) -> ImageSet:
    """The images that `list_file` names, one `path label` a line, each path relative to `root`."""
    names, labels = [], []
    for number, line in enumerate(read_bytes(list_file, most=MAX_LIST).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.rstrip().rpartition(" ")
        if not name or not label.isdecimal() or len(label) > 10 or int(label) > MAX_LABEL:
            raise RootgenError(
                f"'{line.strip()[:60]}' is no 'path label' line",
                where=f"{list_file}:{number}",
                hint="labels count from 0",
            )
        if not (Path(root) / name).is_file():
            raise RootgenError(f"no file '{name}' in {root}", where=f"{list_file}:{number}")
        names.append(name)
        labels.append(int(label))
    if not names:
        raise RootgenError("lists no images", where=list_file)
    return ImageSet(Files(Path(root), names, resize, gray), np.array(labels, np.int64), names=names)


def read_classes(
    root: str | Path, resize: tuple[int, int] | None = None, gray: bool = False
) -> tuple[ImageSet, tuple[str, ...]]:
    """The images below `root` and their classes: one per sub-folder, numbered in the order of their names."""
    root = Path(root)
    if not root.is_dir():
        raise RootgenError("no such folder", where=root)
    classes = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    names, labels = [], []
    for label, name in enumerate(classes):
        if any(unicodedata.category(c) == "Cc" for c in name):
            raise RootgenError(
                f"class folder '{name}' has control characters in its name", where=root, hint="rename it"
            )
        found = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise RootgenError(f"class folder '{name}' holds no image ({', '.join(SUFFIXES)})", where=root)
        names += [str(path.relative_to(root)) for path in found]
        labels += [label] * len(found)
    if not names:
        raise RootgenError("has no sub-folder of images", where=root, hint="one sub-folder per class, or give --list")
    return ImageSet(Files(root, names, resize, gray), np.array(labels, np.int64), names=names), classes


def split(whole: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """`whole` cut into a training set and a test set that takes `fraction` of every class (at least one image)."""
    images = whole.images
    if not isinstance(images, Files):
        raise TypeError("only sets of files are split")
    order = np.random.default_rng(seed).permutation(len(whole))
    testing = np.zeros(len(whole), bool)
    for label in np.unique(whole.labels):
        members = order[whole.labels[order] == label]
        testing[members[: max(1, round(fraction * len(members)))]] = True
    if testing.all():
        raise RootgenError(f"a test fraction of {fraction} leaves no training image", where=images.root)

    def part(chosen: np.ndarray) -> ImageSet:
        names = [name for name, wanted in zip(images.names, chosen, strict=True) if wanted]
        return ImageSet(Files(images.root, names, images.resize, images.gray), whole.labels[chosen], names=names)

    return part(~testing), part(testing)


def _opencv():  # type: ignore[no-untyped-def]
    """OpenCV's Python module, an optional requirement."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    try:
        import cv2
    except ImportError:
        raise RootgenError(
            "reading image files needs OpenCV", hint="python -m pip install 'opencv-python-headless<5'"
        ) from None
    return cv2
