"""Bytes of activations: what Caffe keeps of a net's blobs in single precision.

Caffe frees no blob between layers, so a forward pass holds all of them at once, each once however many layers
work on it in place. Layers' own buffers (im2col columns, dropout masks, BatchNorm's normalised copy) are left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.text import Shown, Table, byte_size

FLOAT_BYTES = 4  # single precision


@dataclass(frozen=True, repr=False)
class Memory(Shown):
    """Activation bytes at a batch size: of a forward pass, and of forward and backward together."""

    batch: int
    forward: int
    forward_backward: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The one row, for pandas.DataFrame."""
        return [asdict(self)]

    def cells(self) -> list[list[object]]:
        """(what, size in words) of either pass."""
        return [
            [f"activations, forward, batch {self.batch}", byte_size(self.forward)],
            [f"activations, forward and backward, batch {self.batch}", byte_size(self.forward_backward)],
        ]

    def tables(self) -> list[Table]:
        """Both passes."""
        return [Table(["memory", ""], self.cells())]


def activations(net: Net, batch: int) -> Memory:
    """Activation bytes of `net` at the batch size that its shapes were inferred for, which is `batch`.

    Backward adds a gradient as large as the blob for each blob that a learnable layer comes before, and one
    more per reader where several layers read it (Caffe inserts a Split there and sums them).
    """
    data: dict[str, int] = {}
    gradients: dict[str, int] = {}
    readers: Counter[str] = Counter()
    for layer in net.layers:
        found = layer.shapes
        if not found.known:
            continue
        learns = _learns(layer, len(found.params)) or any(name in gradients for name in layer.bottoms)
        for name, shape in zip(layer.tops, found.tops, strict=True):
            if name not in data or name not in layer.bottoms:
                shared = of(layer).shares_data and name not in layer.bottoms
                data[name] = 0 if shared else prod(shape)
            if learns and name not in gradients:
                gradients[name] = prod(shape) if layer.type == "Split" else data[name]
        readers.update(name for name in layer.bottoms if name in gradients and name not in layer.tops)
    copies = sum(readers[name] * prod(net.blobs[name]) for name in gradients if readers[name] > 1)
    forward = FLOAT_BYTES * sum(data.values())
    return Memory(batch, forward, forward + FLOAT_BYTES * (sum(gradients.values()) + copies))


def _learns(layer: Layer, blobs: int) -> bool:
    """Whether a solver changes one of the layer's blobs."""
    specs, entry = layer.param.param, of(layer)
    learnt = [i for i in range(blobs) if not entry.is_statistic(layer, i)]
    return any(i >= len(specs) or specs[i].lr_mult != 0 for i in learnt)
