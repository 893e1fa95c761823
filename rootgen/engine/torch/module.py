"""A Caffe net as a torch.nn.Module: its layers' blobs are parameters and buffers, a call runs its layers.

The embedded engine runs its nets through it too (network.py), so there is one implementation of the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rootgen.engine import weights
from rootgen.engine.torch.blobs import BlobStore, LayerBlobs, Learnable, from_numpy, to_numpy
from rootgen.engine.torch.layer import Unit, share_passes
from rootgen.engine.torch.layers import FILLERS
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import PHASES, Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.proto import schema
from rootgen.text import shape_text


class NetModule(nn.Module):
    """The layers of one phase of a net, ready to call; those that bring data in are its inputs.

    A call takes a tensor per input blob, in the net's order or by the blob's name, and returns the blob of `outputs`,
    or a dict of them by name where there are several. The batch size is free where the layers leave it so; all other
    sizes are the net's.

    `state_dict()` has a layer's blobs under its name: conv1.0, conv1.1. Blobs that layers share stand once, under the
    first; statistics (BatchNorm's, BN's) are buffers, not parameters. A parameter with lr_mult 0 has requires_grad
    off at first.

    `train()` and `eval()` choose how layers run that do so by phase: Dropout, BatchNorm without use_global_stats, BN.
    Which layers there are was chosen by the phase that the net was read in, as is whether it began in train mode; so
    what include and exclude rules say cannot be switched, and crop and mirror of a Data layer's transform_param
    are not part of the module. What one pass of an RNN or LSTM leaves to the next is neither copied nor saved.
    """

    def __init__(
        self,
        net: Net,
        phase: str = "TEST",
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
        source: NetModule | None = None,
    ) -> None:
        """`net` knows its shapes; `source` is a module to share the blobs of layers of the same name with.

        What is random in a pass comes from `generator`, or from PyTorch's own; first weights come from `seed`.
        """
        super().__init__()
        self.net, self.outputs, self.generator = net, net.outputs, generator
        self.feeders: list[Layer] = [layer for layer in net.layers if of(layer).fed]
        store = BlobStore(self, seed, torch.device(device), dtype)
        self.learnable: list[Learnable] = store.learnable
        self._blobs: list[LayerBlobs] = []
        self._units: dict[bool, list[Unit]] = {}
        self.register_buffer("_kind", torch.zeros((), dtype=dtype, device=device), persistent=False)
        super().train(phase == PHASES[0])
        others = {unit.layer.name: unit for unit in reversed(source.units)} if source else {}
        units = []
        for layer in self._running:
            unit = Unit(layer, phase, generator)
            other = others.get(layer.name)
            unit.blobs = LayerBlobs(_filled(layer, store)) if other is None else _shared(layer, phase, other)
            self._blobs.append(unit.blobs)
            units.append(unit)
        share_passes(units)
        self._units[self.training] = units

    @property
    def phase(self) -> str:
        """How layers run now, TRAIN or TEST."""
        return PHASES[not self.training]

    @property
    def units(self) -> list[Unit]:
        """The layers that run, in order, as in the phase."""
        return self._units[self.training]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The blobs that a call takes, in order: those that come from outside and that `outputs` need."""
        needed = self.needed(tuple(self.outputs))
        return tuple(top for layer in self.feeders for top in layer.tops if top in needed)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Blob -> its weight in the loss, for each that has one."""
        pairs = ((top, w) for unit in self.units for top, w in zip(unit.layer.tops, unit.loss_weights, strict=False))
        return {top: weight for top, weight in pairs if weight}

    def train(self, mode: bool = True) -> NetModule:
        """Run layers as in TRAIN, or without `mode` as in TEST."""
        super().train(mode)
        if mode not in self._units:
            self._units[mode] = self._built()
        return self

    def forward(self, *inputs: Tensor, **by_name: Tensor) -> Any:
        """The output blob of a batch, or the dict of several; see the class."""
        given = self._given(inputs, by_name)
        if torch.compiler.is_compiling() and not self._fits(given):
            self._fit({name: tuple(value.shape) for name, value in given.items()})
        values, _ = self.run(given, tuple(self.outputs))
        found = {name: values[name] for name in self.outputs}
        return found if len(found) != 1 else found[self.outputs[0]]

    def run(
        self, values: Mapping[str, Tensor], wanted: Iterable[str] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """(blob name -> value, weighted loss) of a pass over `values`, a tensor per blob from outside.

        All blobs, or with `wanted` at least those; layers that they do not need are then left out, and blobs dropped
        after their last use. In-place layers leave their own value under the name.
        """
        values = dict(values)
        units, last_use = self._plan(None if wanted is None else tuple(wanted))
        loss = torch.zeros_like(self._kind)
        for place, unit in enumerate(units):
            bottoms = [values[name] for name in unit.layer.bottoms]
            for i in unit.stopped:
                bottoms[i] = bottoms[i].detach()
            unit.fit(bottoms)
            tops = (unit.pass_through or unit.run)(*bottoms)
            tops = (tops,) if isinstance(tops, Tensor) else tops
            if not unit.layer.bottoms:  # made up in memory: see layers/data.py
                tops = tuple(top.to(self._kind) for top in tops)
            values.update(zip(unit.layer.tops, tops, strict=False))
            for weight, top in zip(unit.loss_weights, tops, strict=False):
                if weight:
                    loss = loss + weight * top.sum()
            for name in last_use.get(place, ()):
                values.pop(name, None)
        return values, loss

    def needed(self, wanted: tuple[str, ...] | None) -> set[str]:
        """The blobs that a pass for the `wanted` ones (None: all) reads or gives."""
        units, _ = self._plan(wanted)
        return {name for unit in units for name in unit.layer.bottoms} | set(wanted or ())

    def named(self) -> dict[str, LayerBlobs]:
        """Layer name -> its blobs, for every layer that has any; RootgenError where two of them have one name."""
        found: dict[str, LayerBlobs] = {}
        for unit in self.units:
            if unit.blobs and unit.layer.name in found:
                raise unit.error(
                    "has the name of a layer above, so files could not tell their blobs apart", "rename it"
                )
            if unit.blobs:
                found[unit.layer.name] = unit.blobs
        return found

    def learned(self) -> dict[str, list[np.ndarray]]:
        """Layer name -> its blobs, as float32 arrays, for every layer that has any."""
        return {name: [to_numpy(blob) for blob in blobs] for name, blobs in self.named().items()}

    def load_caffemodel(self, path: str | Path, *, whole: bool = False) -> None:
        """Copy blobs from a .caffemodel or .h5; with `whole`, every layer that has blobs must be there."""
        ours = self.named()
        wanted = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in ours.items()}
        found = weights.matching(weights.read(path, self.net.layers), wanted, path, whole=whole)
        with torch.no_grad():
            for name, arrays in found.items():
                for blob, values in zip(ours[name], arrays, strict=True):
                    blob.copy_(from_numpy(values))

    def check_input(self, layer: Layer, top: str, shape: Sequence[int]) -> None:
        """Refuse a value for a `top` from outside whose shape is another than the net's, but for the batch size."""
        wanted = self.net.blobs[top]
        if tuple(shape[1:]) != wanted[1:] or not shape:
            raise layer.error(f"input '{top}' of {shape_text(shape)} where the net takes {shape_text(wanted)}")

    def extra_repr(self) -> str:
        """What print shows beside the layers' names."""
        return f"{self.net.name or self.net.source}, {', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    def __getstate__(self) -> dict[str, Any]:
        """What copies and files hold: the blobs, the net, and no function."""
        return {**self.__dict__, "_units": {}, "generator": None, "net": _packed(self.net), "feeders": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.net = _unpacked(state["net"])
        self.feeders = [layer for layer in self.net.layers if of(layer).fed]
        self._units = {self.training: self._built()}

    @property
    def _running(self) -> list[Layer]:
        return [layer for layer in self.net.layers if not of(layer).fed]

    def _built(self) -> list[Unit]:
        """The layers as in the phase of now, with the blobs that are there."""
        units = [
            Unit(layer, self.phase, self.generator, blobs)
            for layer, blobs in zip(self._running, self._blobs, strict=True)
        ]
        share_passes(units)
        return units

    def _given(self, inputs: Sequence[Tensor], by_name: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Blob name -> tensor of a call's arguments, checked, and laid out as convolutions like it."""
        names = self.inputs
        if len(inputs) > len(names):
            raise TypeError(f"{len(inputs)} tensors for a net that takes {len(names)}: {', '.join(names) or 'none'}")
        given = dict(zip(names, inputs, strict=False))
        for name, value in by_name.items():
            if name not in names or name in given:
                why = "is given twice" if name in given else "is no input of this net"
                raise RootgenError(f"'{name}' {why}", where=self.net.source, hint=did_you_mean(name, names))
            given[name] = value
        for name, value in given.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"input '{name}' is a {type(value).__name__}, not a tensor")
        for layer in self.feeders:
            for top in layer.tops:
                if top in names and top not in given:
                    raise RootgenError(f"input '{top}' is not given", where=self.net.source)
                if top in given:
                    self.check_input(layer, top, given[top].shape)
        return {name: in_order(v if v.is_floating_point() else v.to(self._kind)) for name, v in given.items()}

    def _fits(self, given: Mapping[str, Tensor]) -> bool:
        """Whether the layers that read what is given had it in these shapes the last time."""
        reads = (
            (name, shape) for unit in self.units for name, shape in zip(unit.layer.bottoms, unit.bottoms, strict=True)
        )
        return all(tuple(given[name].shape) == shape for name, shape in reads if name in given)

    @torch.compiler.disable
    def _fit(self, shapes: dict[str, Shape]) -> None:
        """Have the layers take on the shapes that follow from those given, so that compiled code has no need to ask."""
        units, _ = self._plan(tuple(self.outputs))
        for unit in units:
            unit.take(tuple(shapes[name] for name in unit.layer.bottoms))
            shapes.update(zip(unit.layer.tops, unit.tops, strict=False))

    def _plan(self, wanted: tuple[str, ...] | None) -> tuple[list[Unit], dict[int, list[str]]]:
        """The layers that a pass runs, and which blobs may be dropped after which of them."""
        if wanted is None:
            return self.units, {}
        needed = set(wanted)
        units: list[Unit] = []
        for unit in reversed(self.units):
            if needed.intersection(unit.layer.tops):
                units.insert(0, unit)
                needed.update(unit.layer.bottoms)
        last = {name: place for place, unit in enumerate(units) for name in (*unit.layer.bottoms, *unit.layer.tops)}
        drops: dict[int, list[str]] = {}
        for name, place in last.items():
            if name not in wanted:
                drops.setdefault(place, []).append(name)
        return units, drops


def in_order(tensor: Tensor) -> Tensor:
    """Images with their channels last in memory, which convolutions like; others as they are."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _filled(layer: Layer, store: BlobStore) -> list[Any]:
    """The places of a layer's blobs, newly filled or shared by name."""
    fillers = FILLERS[layer.type](layer.param) if layer.type in FILLERS else []
    shapes = layer.shapes.params
    return [store.add(layer, i, shape, fillers[i] if fillers else None) for i, shape in enumerate(shapes)]


def _shared(layer: Layer, phase: str, other: Unit) -> LayerBlobs:
    """The blobs of the same layer of another net."""
    found = tuple(tuple(blob.shape) for blob in other.blobs)
    if found != layer.shapes.params:
        theirs, ours = (", ".join(map(shape_text, s)) or "none" for s in (found, layer.shapes.params))
        raise layer.error(f"learnable blobs {ours} in {phase}, but {theirs} in {other.phase}")
    return other.blobs


def _packed(net: Net) -> Net:
    """`net` with its layers' parameters in their binary form, without blobs, so that it can be copied and pickled."""
    layers = []
    for layer in net.layers:
        param = type(layer.param)()
        param.CopyFrom(layer.param)
        param.ClearField("blobs")
        packed = (param.SerializePartialToString(), schema.has_forks(param))
        layers.append(replace(layer, param=packed))
    return replace(net, layers=tuple(layers))


def _unpacked(net: Net) -> Net:
    layers = []
    for layer in net.layers:
        content, forks = layer.param
        param = schema.message("LayerParameter", forks=forks)()
        param.ParseFromString(content)
        layers.append(replace(layer, param=param))
    return replace(net, layers=tuple(layers))
