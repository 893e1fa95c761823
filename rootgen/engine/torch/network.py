"""A net of one phase on PyTorch: its layers' blobs, its data, and forward passes through it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rootgen.engine import seeds, weights
from rootgen.engine.api import NetTime, images_per_batch
from rootgen.engine.feed import Feed
from rootgen.engine.torch import device as devices
from rootgen.engine.torch import timing
from rootgen.engine.torch.blobs import BlobStore, Learnable, from_numpy, to_numpy
from rootgen.engine.torch.layer import Unit, overwrite_in_place
from rootgen.engine.torch.layers import FILLERS
from rootgen.errors import RootgenError, did_you_mean
from rootgen.files import locate
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.shapes import infer
from rootgen.text import shape_text

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class NetworkOptions:
    """How to run a net: phase, device, the seed of all that is random, the precision of its arithmetic.

    `beside` is the folder to look for data in after the current one, `batch` replaces the batch size of every
    blob that comes from outside, and without `read_data` no database is opened.
    """

    phase: str
    device: torch.device
    seed: int = 0
    beside: Path | None = None
    dtype: torch.dtype = torch.float32
    batch: int | None = None
    read_data: bool = True


class TorchNetwork:
    """A net of one phase with its weights, ready to run."""

    engine = "torch"

    def __init__(self, net: Net, options: NetworkOptions, source: TorchNetwork | None = None) -> None:
        """`source` is a net to share the blobs of layers of the same name with."""
        self.phase, self.seed, self.dtype = options.phase, options.seed, options.dtype
        self.torch_device = options.device
        self.device = devices.describe(options.device)
        self.generator = torch.Generator(options.device)
        self.feeds = _open_feeds(net, options)
        self.net = net = _with_shapes(net, self.feeds, options.batch)
        self.blobs: dict[str, Shape] = net.blobs
        store = BlobStore(options.seed, options.device, options.dtype)
        self.learnable: list[Learnable] = store.learnable
        self.units: list[Unit] = []
        self.feeders: list[Layer] = [layer for layer in net.layers if of(layer).fed]
        for layer in net.layers:
            if not of(layer).fed:
                self.units.append(self._unit(layer, store, source))
        overwrite_in_place(self.units)
        self.outputs = net.outputs
        self._batch = 0

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch; see engine.Network."""
        for name in wanted:
            if name not in self.blobs:
                raise RootgenError(f"no blob '{name}'", where=self.net.source, hint=did_you_mean(name, self.blobs))
        with torch.inference_mode(), devices.told():
            values, _ = self.run(self._batch, inputs, wanted)
        self._batch += 1
        return {name: to_numpy(values[name]) for name in wanted}

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True) -> NetTime:
        """Milliseconds per layer and per pass; see engine.Network."""
        with devices.told():
            return timing.measure(self, iterations, warmup, backward)

    def run(
        self, batch: int, inputs: Mapping[str, np.ndarray] | None = None, wanted: Iterable[str] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """(blob name -> value, weighted loss) of a pass over batch number `batch`.

        All blobs, or with `wanted` at least those; layers that they do not need are then left out, and blobs
        dropped after their last use. In-place layers leave their own value under the name.
        """
        self.generator.manual_seed(seeds.derive(self.seed, "pass", batch))
        units, last_use = self._plan(None if wanted is None else tuple(wanted))
        values = self._inputs(
            batch, inputs, {name for unit in units for name in unit.layer.bottoms} | set(wanted or ())
        )
        loss = torch.zeros((), dtype=self.dtype, device=self.torch_device)
        for place, unit in enumerate(units):
            bottoms = [values[name] for name in unit.layer.bottoms]
            for i, passes in enumerate(unit.param.propagate_down):
                if not passes:
                    bottoms[i] = bottoms[i].detach()
            unit.fit(bottoms)
            tops = unit.run(*bottoms)
            tops = (tops,) if isinstance(tops, Tensor) else tops
            values.update(zip(unit.layer.tops, tops, strict=False))
            for weight, top in zip(unit.loss_weights, tops, strict=False):
                if weight:
                    loss = loss + weight * top.sum()
            for name in last_use.get(place, ()):
                values.pop(name, None)
        return values, loss

    def named(self) -> dict[str, list[Tensor]]:
        """Layer name -> its blobs, for every layer that has any; RootgenError where two of them have one name."""
        found: dict[str, list[Tensor]] = {}
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

    def load(self, path: str | Path, *, whole: bool = False) -> None:
        """Copy blobs from a .caffemodel or .h5; with `whole`, every layer that has blobs must be there."""
        ours = self.named()
        wanted = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in ours.items()}
        found = weights.matching(weights.read(path, self.net.layers), wanted, path, whole=whole)
        with torch.no_grad():
            for name, arrays in found.items():
                for blob, values in zip(ours[name], arrays, strict=True):
                    blob.copy_(from_numpy(values))

    def close(self) -> None:
        """Stop reading data."""
        for feed in self.feeds.values():
            feed.close()

    @property
    def batch_size(self) -> int:
        """Images per batch, of the first blob that comes from outside."""
        return images_per_batch(self.feeders, self.blobs, self.net.layers)

    @property
    def data_seconds(self) -> float:
        """Seconds spent waiting for data so far."""
        return sum(feed.waited for feed in self.feeds.values())

    def tensor(self, values: np.ndarray) -> Tensor:
        """An array on the net's device; images with their channels last in memory, which convolutions like."""
        tensor = from_numpy(values).to(self.torch_device, self.dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def _unit(self, layer: Layer, store: BlobStore, source: TorchNetwork | None) -> Unit:
        """A layer with its blobs: those of the same layer of `source`, or filled."""
        unit, shapes = Unit(layer, self.phase, self.generator), layer.shapes
        other = next((o for o in source.units if o.layer.name == layer.name), None) if source else None
        if other is not None:
            found = tuple(tuple(blob.shape) for blob in other.blobs)
            if found != shapes.params:
                theirs, ours = (", ".join(map(shape_text, s)) or "none" for s in (found, shapes.params))
                raise layer.error(f"learnable blobs {ours} in {self.phase}, but {theirs} in {other.phase}")
            unit.blobs = other.blobs
            return unit
        fillers = FILLERS[layer.type](layer.param) if layer.type in FILLERS else []
        for i, shape in enumerate(shapes.params):
            unit.blobs.append(store.add(layer, i, shape, fillers[i] if fillers else None))
        return unit

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

    def _inputs(self, batch: int, inputs: Mapping[str, np.ndarray] | None, needed: set[str]) -> dict[str, Tensor]:
        """Blobs that come from outside, as far as they are needed: from `inputs`, else from Data layers."""
        given = dict(inputs or {})
        values: dict[str, Tensor] = {}
        for layer in self.feeders:
            tops = [top for top in layer.tops if top in needed]
            missing = [top for top in tops if top not in given]
            if missing and inputs is None and layer.name in self.feeds:
                given.update(self.feeds[layer.name].batch(batch))
            elif missing:
                raise _no_input(layer, missing[0])
            for top in tops:
                self._check_input(layer, top, given[top])
                values[top] = self.tensor(given[top])
        return values

    def _check_input(self, layer: Layer, top: str, values: np.ndarray) -> None:
        """Refuse an array whose shape is not the blob's, but for the batch size."""
        if tuple(values.shape[1:]) != self.blobs[top][1:] or not values.shape:
            raise layer.error(
                f"input '{top}' of {shape_text(values.shape)} where the net takes {shape_text(self.blobs[top])}"
            )


def _open_feeds(net: Net, options: NetworkOptions) -> dict[str, Feed]:
    """Data layer name -> its feed, where the database is there and wanted."""
    feeds = {}
    for layer in net.layers if options.read_data else ():
        if layer.type == "Data" and locate(layer.param.data_param.source, options.beside, layer.where).exists():
            if layer.param.data_param.rand_skip:  # a batch follows from its number alone: see Feed
                log.warning("%s: rand_skip is left out", layer.where)
            feeds[layer.name] = Feed(layer, options.phase, options.seed, options.beside, batch_size=options.batch)
    return feeds


def _with_shapes(net: Net, feeds: Mapping[str, Feed], batch: int | None) -> Net:
    """The net with its shapes, with those of fed layers as their data has them."""
    given: dict[str, Shape] = {}
    for feed in feeds.values():
        given.update(feed.shapes)
    shaped = infer(net, batch=batch, given=given)
    for note in shaped.notes:
        log.info("%s", note)
    return shaped


def _no_input(layer: Layer, top: str) -> RootgenError:
    if layer.type == "Data":
        return layer.error(
            f"no database '{layer.param.data_param.source}', and '{top}' is not given",
            "`rootgen data` makes one; relative paths start at the current folder",
        )
    hint = None if layer.type in ("Input", "MemoryData") else "the embedded engine reads Data layers; make an LMDB"
    return layer.error(f"{layer.type} layer: '{top}' is not given", hint)
