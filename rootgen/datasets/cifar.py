"""CIFAR-10 as its authors publish it: the python and the binary archive, packed or unpacked.

Both hold five training batches and a test batch of 3 x 32 x 32 images, channels in the order red, green,
blue. Source: the format notes on www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.datasets import batch_pickle, tar
from rootgen.datasets.image_set import ImageSet
from rootgen.errors import RootgenError
from rootgen.files import read_bytes

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
BATCHES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
BATCH_SIZE = 10_000
MAX_BYTES = 2**26  # of one batch; the official ones have 31 MB

log = logging.getLogger("rootgen")


def read_sets(source: str | Path) -> tuple[ImageSet, ImageSet]:
    """Training and test set of an archive, of its unpacked folder, or of a folder that holds either."""
    place = _find(Path(source))
    files = _unpack(place) if place.is_file() else {path.name: path for path in place.iterdir() if path.is_file()}
    train, test = (_read_batches(files, names, place) for names in BATCHES.values())
    return train, test


def _find(source: Path) -> Path:
    """The archive or the folder of batches that `source` is or holds."""
    if not source.exists():
        raise RootgenError("no such file or folder", where=source)
    if source.is_file() or any((source / name).is_file() for name in ("test_batch", "test_batch.bin")):
        return source
    for name in (*FOLDERS, *ARCHIVES):
        if (source / name).exists():
            return source / name
    raise RootgenError(
        f"holds neither CIFAR-10 batches nor one of {', '.join((*FOLDERS, *ARCHIVES))}", where=source, hint="--source"
    )


def _unpack(archive: Path) -> dict[str, bytes]:
    """name -> content of every batch in a tar archive."""
    names = {f"{name}{end}" for part in BATCHES.values() for name in part for end in ("", ".bin")}
    return dict(tar.members(archive, names.__contains__, MAX_BYTES))


def _read_batches(files: dict[str, Any], names: list[str], place: Path) -> ImageSet:
    """The images of several batches, one after the other."""
    images, labels = [], []
    for name in names:
        binary = f"{name}.bin"
        if binary not in files and name not in files:
            raise RootgenError(f"has no batch '{name}' or '{binary}'", where=place, hint="fetch the archive again")
        file = files[binary] if binary in files else files[name]
        content = file if isinstance(file, bytes) else read_bytes(file, most=MAX_BYTES)
        read = _read_binary if binary in files else _read_pickle
        batch, batch_labels = read(content, place / name)
        if len(batch) != BATCH_SIZE:
            log.warning("%s: %d images, where the official batch has %d", place / name, len(batch), BATCH_SIZE)
        images.append(batch.reshape(-1, *SHAPE))
        labels.append(batch_labels)
    return ImageSet(np.concatenate(images), np.concatenate(labels), key_digits=5)


def _read_binary(content: bytes, where: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) and labels of a binary batch: records of one label byte and 3072 pixels."""
    if not content or len(content) % (1 + PIXELS):
        raise RootgenError(
            f"{len(content)} bytes are no whole number of {1 + PIXELS}-byte records", where=where, hint="fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], _labels(records[:, 0].tolist(), where)


def _read_pickle(content: bytes, where: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) and labels of a python batch: a pickled dictionary of `data` and `labels`."""
    try:
        batch = batch_pickle.load(content)
    except (ValueError, LookupError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise RootgenError(f"not a CIFAR-10 python batch: {reason}", where=where, hint="fetch it again") from None
    batch = batch if isinstance(batch, dict) else {}
    data, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise RootgenError("its labels are no whole numbers", where=where, hint="fetch it again")
    if not isinstance(data, np.ndarray) or data.shape != (len(labels), PIXELS):
        raise RootgenError(
            f"data {getattr(data, 'shape', 'none')} and {len(labels)} labels, not uint8 (n, {PIXELS}) and n labels",
            where=where,
            hint="fetch it again",
        )
    return data, _labels(labels, where)


def _labels(labels: Sequence[int], where: Path) -> np.ndarray:
    least, most = min(labels, default=0), max(labels, default=0)
    if not 0 <= least <= most < len(CLASSES):
        raise RootgenError(f"labels from {least} to {most}; CIFAR-10's go from 0 to 9", where=where)
    return np.array(labels, np.int64)
