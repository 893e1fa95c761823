"""The learnable blobs of a net on PyTorch: filled, or shared by name; and arrays of NumPy as tensors, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor, nn

from rootgen.engine import seeds
from rootgen.engine.torch.fillers import fill
from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.registry import of
from rootgen.text import shape_text


class Slot(NamedTuple):
    """Where a blob is kept: the module that owns it, under which name; what stands there may be exchanged."""

    owner: nn.Module
    key: str

    @property
    def blob(self) -> Tensor:
        found: Tensor = getattr(self.owner, self.key)
        return found


class Home(nn.Module):
    """What keeps the blobs of one layer; print shows their shapes."""

    def extra_repr(self) -> str:
        return ", ".join(shape_text(blob.shape) for blob in (*self._parameters.values(), *self._buffers.values()))


class LayerBlobs(Sequence[Tensor]):
    """The learnable blobs of a layer in Caffe's order, looked up where they are kept each time they are asked for.

    So they are the right ones after `to`, `load_state_dict(assign=True)` and `torch.func.functional_call` as well.
    """

    def __init__(self, slots: Sequence[Slot] = ()) -> None:
        self.slots = tuple(slots)

    def __len__(self) -> int:
        return len(self.slots)

    @overload
    def __getitem__(self, i: int) -> Tensor: ...

    @overload
    def __getitem__(self, i: slice) -> list[Tensor]: ...

    def __getitem__(self, i: int | slice) -> Tensor | list[Tensor]:
        return [slot.blob for slot in self.slots[i]] if isinstance(i, slice) else self.slots[i].blob


@dataclass
class Learnable:
    """A learnable blob, its name in messages, and its multipliers; one that layers share stands once.

    A multiplier that any of those layers gives counts (AppendParam in net.cpp).
    """

    name: str
    slot: Slot
    lr_mult: float
    decay_mult: float

    @property
    def blob(self) -> Tensor:
        return self.slot.blob


class BlobStore:
    """The learnable blobs of one net, in order; what layers share by name stands in it once.

    They are kept in submodules of `root`: layer conv1's as parameters conv1.0 and conv1.1, statistics as buffers.
    """

    def __init__(self, root: nn.Module, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        self.learnable: list[Learnable] = []
        self._root, self._seed, self._device, self._dtype = root, seed, device, dtype
        self._shared: dict[str, Learnable] = {}

    def add(self, layer: Layer, i: int, shape: Shape, filler: Any) -> Slot:
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
        lr_mult = 0.0 if fixed else lr_mult
        learnable = Learnable(f"{layer.name}[{i}]", self._keep(layer, i, blob, fixed), lr_mult, decay_mult)
        self.learnable.append(learnable)
        if spec is not None and spec.name:
            self._shared[spec.name] = learnable
        return learnable.slot

    def _keep(self, layer: Layer, i: int, blob: Tensor, fixed: bool) -> Slot:
        """Put a blob into the submodule of its layer; a second layer of that name has one of its own."""
        again, key = 1, str(i)
        home = self._home(layer.name)
        while any(key in held for held in (home._parameters, home._buffers, home._modules)):  # `a.1` has a's module 1
            again += 1
            home = self._home(f"{layer.name}#{again}")
        if fixed:
            home.register_buffer(key, blob)
        else:
            home.register_parameter(key, nn.Parameter(blob, requires_grad=False))
        return Slot(home, key)

    def _home(self, name: str) -> nn.Module:
        """The submodule of a layer; each dot in its name goes one deeper, as in PyTorch's own names.

        Names are put in past add_module, which refuses those that a module has an attribute of (`type`, `half`).
        """
        home = self._root
        for part in name.split("."):
            home = home._modules.setdefault(part, Home()) or home
        return home

    def _share(self, layer: Layer, spec: Any, shape: Shape) -> Slot:
        shared = self._shared[spec.name]
        if tuple(shared.blob.shape) != shape:
            raise layer.error(f"sharing '{spec.name}' between blobs of different shapes is not implemented")
        for name in ("lr_mult", "decay_mult"):  # where two layers give one, infer has found them alike
            if spec.HasField(name):
                setattr(shared, name, getattr(spec, name))
        return shared.slot


def from_numpy(values: np.ndarray) -> Tensor:
    """A tensor of an array; a copy only where PyTorch cannot share it."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A float32 array of its own, in Caffe's axis order."""
    return tensor.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format).numpy()
