"""The learnable blobs of a net on PyTorch: filled, or shared by name; and arrays of NumPy as tensors, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rootgen.engine import seeds
from rootgen.engine.torch.fillers import fill
from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.registry import of


@dataclass
class Learnable:
    """A learnable blob, its name in messages, and its multipliers; one that layers share stands once.

    A multiplier that any of those layers gives counts (AppendParam in net.cpp).
    """

    name: str
    blob: Tensor
    lr_mult: float
    decay_mult: float


class BlobStore:
    """The learnable blobs of one net, in order; what layers share by name stands in it once."""

    def __init__(self, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        self.learnable: list[Learnable] = []
        self._seed, self._device, self._dtype = seed, device, dtype
        self._shared: dict[str, Learnable] = {}

    def add(self, layer: Layer, i: int, shape: Shape, filler: Any) -> Tensor:
        """Blob number `i` of a layer, filled (with zeros where `filler` is None); or the one that it shares by name."""
        spec = layer.param.param[i] if i < len(layer.param.param) else None
        if spec is not None and spec.name in self._shared:
            return self._share(layer, spec, shape)
        if filler is None:
            blob = torch.zeros(shape)
        else:
            generator = torch.Generator().manual_seed(seeds.derive(self._seed, "fill", layer.name, i))
            blob = fill(shape, filler, generator, layer.where)
        blob = blob.to(self._device, self._dtype)
        if blob.dim() == 4:
            blob = blob.contiguous(memory_format=torch.channels_last)
        lr_mult, decay_mult = (spec.lr_mult, spec.decay_mult) if spec is not None else (1.0, 1.0)
        fixed = of(layer).is_statistic(layer, i)  # no weights: Caffe sets lr_mult 0
        learnable = Learnable(f"{layer.name}[{i}]", blob, 0.0 if fixed else lr_mult, decay_mult)
        self.learnable.append(learnable)
        if spec is not None and spec.name:
            self._shared[spec.name] = learnable
        return blob

    def _share(self, layer: Layer, spec: Any, shape: Shape) -> Tensor:
        shared = self._shared[spec.name]
        if tuple(shared.blob.shape) != shape:
            raise layer.error(f"sharing '{spec.name}' between blobs of different shapes is not implemented")
        for name in ("lr_mult", "decay_mult"):  # where two layers give one, infer has found them alike
            if spec.HasField(name):
                setattr(shared, name, getattr(spec, name))
        return shared.blob


def from_numpy(values: np.ndarray) -> Tensor:
    """A tensor of an array; a copy only where PyTorch cannot share it."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A float32 array of its own, in Caffe's axis order."""
    return tensor.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format).numpy()
