"""A set of labelled images, whether they lie in memory or are decoded when asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rootgen.errors import RootgenError

# What a mean image may hold: 4 bytes each, in a protobuf message of less than 2 GiB with its fields for the shape.
MAX_VALUES = 2**29 - 16


def check_size(shape: tuple[int, int, int], hint: str) -> None:
    """RootgenError where the mean image of images of `shape` (channels, height, width) could not be written."""
    values = shape[0] * shape[1] * shape[2]
    if values > MAX_VALUES:
        size = "x".join(map(str, shape))
        raise RootgenError(f"images of {size} are too large: their mean has to be below protobuf's 2 GiB", hint=hint)


class Images(Protocol):
    """Images by index: an array of shape (count, channels, height, width), or files decoded on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class ImageSet:
    """Images, their labels, and how Caffe's own converter would name them in an LMDB.

    The n-th record gets the key n in `key_digits` digits, followed by `_` and the image's name where the
    set has names.
    """

    images: Images
    labels: np.ndarray
    key_digits: int = 8
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, position: int, index: int) -> bytes:
        """Key of image `index` when it is written as record number `position`."""
        number = f"{position:0{self.key_digits}d}"
        return os.fsencode(number if self.names is None else f"{number}_{self.names[index]}")
