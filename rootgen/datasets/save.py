"""A data set as Caffe reads it: train_lmdb, test_lmdb, mean.binaryproto and labels.txt in one folder.

Padding and mean go together. Images are padded with zeros, and the mean image, taken over the padded images
as Caffe's compute_image_mean takes it, is therefore exactly zero on the border: after the mean is
subtracted the border is zero, which is the recipe's "mean-subtracted, zero-padded". A random crop of the
padded image is then a random crop of the zero-padded one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rootgen.datasets.catalogue import Dataset
from rootgen.datasets.image_set import ImageSet, check_size
from rootgen.errors import RootgenError
from rootgen.files import replacing, write_bytes
from rootgen.locks import locked
from rootgen.progress import Report
from rootgen.proto import schema
from rootgen.proto.database import Writer

BATCH = 500  # records written in one transaction
LABELS = "labels.txt"
MEAN_VALUES = "mean_values.txt"  # of the channels, as `emit --mean` takes them
LISTED = "odd_images.txt"  # which were left out, or had another form than their name says
STATE = "unfinished.json"  # how far an unfinished folder is
CONTENT = {"train_lmdb", "test_lmdb", "mean.binaryproto", LABELS, MEAN_VALUES, LISTED, STATE}


def save(
    dataset: Dataset,
    out: str | Path,
    *,
    pad: int = 0,
    seed: int | None = 0,
    force: bool = False,
    report: Report | None = None,
) -> tuple[int, int, int]:
    """Shape (channels, height, width) of the images written to the folder `out`, which appears whole or not at all.

    pad: rows and columns of zeros added on each side. seed: of the order of the training images (None:
    as they come); test images stay in order. force: replace what an earlier run left in `out`.
    """
    with _replacing_folder(Path(out), force) as folder, _enough_memory():
        folder.mkdir()
        border = dataset.margin + pad
        order = np.arange(len(dataset.train))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        framing = (dataset.color, border)
        mean = _write(folder / "train_lmdb", dataset.train, order, framing, report)
        if dataset.test is not None:
            order = np.arange(len(dataset.test))
            test_mean = _write(folder / "test_lmdb", dataset.test, order, framing, report)
            if test_mean.shape != mean.shape:
                raise RootgenError(
                    f"test images are {_size(test_mean.shape)}, training images {_size(mean.shape)}",
                    hint="give --resize HxW",
                )
        write_bytes(folder / "mean.binaryproto", mean_bytes(mean))
        if dataset.classes:
            write_bytes(folder / LABELS, os.fsencode("\n".join(dataset.classes) + "\n"))
    return mean.shape


def mean_bytes(mean: np.ndarray) -> bytes:
    """A mean image (channels, height, width) as the BlobProto that compute_image_mean writes."""
    blob = schema.BlobProto(num=1, channels=mean.shape[0], height=mean.shape[1], width=mean.shape[2])
    blob.data.extend(mean.astype(np.float32).ravel().tolist())
    return schema.to_bytes(blob)


def prepare(image: np.ndarray, color: bool, border: int) -> np.ndarray:
    """`image` with `border` zeros on every side; one channel copied to three if `color`."""
    channels, height, width = image.shape
    shape = (3 if color else channels, height + 2 * border, width + 2 * border)
    check_size(shape, "a smaller --pad" if border else "give --resize HxW")
    framed = np.zeros(shape, np.uint8)
    framed[:, border : border + height, border : border + width] = image
    return framed


def _write(
    path: Path, images: ImageSet, order: np.ndarray, framing: tuple[bool, int], report: Report | None
) -> np.ndarray:
    """Write `images` in `order`, framed as `prepare` says, to a new LMDB at `path`; their mean image."""
    total: np.ndarray | None = None
    first = ""
    with Writer(path) as writer, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(order), BATCH):
            indices = order[start : start + BATCH]
            framed = list(pool.map(lambda index: prepare(images.images[index], *framing), indices))
            keys = [images.key(start + offset, index) for offset, index in enumerate(indices)]
            if total is None:
                total = np.zeros(framed[0].shape, np.float64)
                first = os.fsdecode(keys[0])
            for image, key in zip(framed, keys, strict=True):
                if image.shape != total.shape:
                    raise RootgenError(
                        f"image {os.fsdecode(key)} is {_size(image.shape)}, {first} is {_size(total.shape)}; "
                        "a mean image needs one size",
                        hint="give --resize HxW",
                    )
            writer.put(keys, framed, images.labels[indices])
            total += np.sum(framed, axis=0, dtype=np.float64)
            if report:
                report(f"write {path.name}", min(start + BATCH, len(order)), len(order))
    if total is None:
        raise RootgenError("there are no images to write", where=path.name)
    return total.astype(np.float32) / np.float32(len(order))  # rounded as compute_image_mean rounds


def refuse_existing(out: str | Path, force: bool) -> None:
    """RootgenError unless `out` is free, or holds what an earlier `save` left and `force` is given."""
    out = Path(out)
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.is_file():
        raise RootgenError("is a file, not a folder", where=out)
    if os.path.ismount(out):  # Path's own takes '.' for one
        raise RootgenError("is a mount point, which nothing can take the place of", where=out, hint="a folder in it")
    if held and not force:
        raise RootgenError("is there already", where=out, hint="give --force to replace it, or another --out")
    if held - CONTENT:
        other = ", ".join(sorted(held - CONTENT)[:3])
        raise RootgenError(f"not replaced: it holds {other}, which rootgen data did not write", where=out)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turn a want of memory, for an image, a batch of them or their mean, into one clear line."""
    try:
        yield
    except MemoryError:
        raise RootgenError(
            "images of this size, or so many in a batch, do not fit into memory", hint="a smaller --resize or --pad"
        ) from None


@contextmanager
def _replacing_folder(out: Path, force: bool) -> Iterator[Path]:
    """A folder to fill that becomes `out` if the block ends well."""
    refuse_existing(out, force)
    with locked(lock_of(out), str(out)), replacing(out, over=True) as beside:
        refuse_existing(out, force)
        yield beside
        refuse_existing(out, force)  # once more: who began at the same moment may be done already


def lock_of(out: Path) -> Path:
    """The file whose lock whoever makes the data set `out` holds, by whichever of its names."""
    real = Path(os.path.realpath(out))
    return real.with_name(f".{real.name}.lock")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
