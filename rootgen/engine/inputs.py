"""What comes into a net from outside: by which layers, how many at a time; and such inputs made up for timing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rootgen.net import Layer
from rootgen.shapes import Shape

FED = ("Input", "Data", "MemoryData", "ImageData", "HDF5Data", "WindowData")
"""Types of layers whose tops come from outside the net."""


def images_per_batch(feeders: Iterable[Layer], blobs: Mapping[str, Shape]) -> int:
    """The first axis of the first top of `feeders`, the net's layers of FED types; else of the net's first blob."""
    fed = [blobs[layer.tops[0]] for layer in feeders] or [next(iter(blobs.values()))]
    return fed[0][0] if fed[0] else 1


def made_up(feeders: Iterable[Layer], blobs: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """A value for every top of the layers that bring blobs in from outside: images of noise, labels of class 0."""
    random = np.random.default_rng(0)
    inputs = {}
    for layer in feeders:
        for i, top in enumerate(layer.tops):
            shape = blobs[top]
            label = i > 0 or len(shape) < 2
            inputs[top] = np.zeros(shape, np.float32) if label else random.standard_normal(shape, np.float32)
    return inputs
