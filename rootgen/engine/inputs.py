"""Inputs made up in memory, for timing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rootgen.net import Layer
from rootgen.shapes import Shape


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
