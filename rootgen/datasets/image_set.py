"""A set of labelled images, whether they lie in memory or are decoded when asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


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
