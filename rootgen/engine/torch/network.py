"""A net of one phase on PyTorch: its layers' blobs, its data, and forward passes through it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rootgen.engine import seeds
from rootgen.engine.api import NetTime, images_per_batch
from rootgen.engine.feed import Feed, open_feeds
from rootgen.engine.torch import device as devices
from rootgen.engine.torch import precision, timing
from rootgen.engine.torch.blobs import LayerBlobs, from_numpy, to_numpy
from rootgen.engine.torch.layer import Unit
from rootgen.engine.torch.layers.loss import find_matrices
from rootgen.engine.torch.module import NetModule, in_order
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.shapes import infer

log = logging.getLogger("rootgen")

Through = Callable[[Mapping[str, Tensor], Iterable[str] | None], tuple[dict[str, Tensor], Tensor]]


@dataclass(frozen=True)
class NetworkOptions:
    """How to run a net: phase, device, the seed of all that is random, the precision of its arithmetic.

    `beside` is the folder to look for data in after the current one, `batch` replaces the batch size of every
    blob that comes from outside, and without `read_data` no database is opened. `stride`: every such batch is asked
    for, as where several processes share them out. `mixed`: convolutions and inner products in bfloat16.
    """

    phase: str
    device: torch.device
    seed: int = 0
    beside: Path | None = None
    dtype: torch.dtype = torch.float32
    batch: int | None = None
    read_data: bool = True
    stride: int = 1
    mixed: bool = False


class TorchNetwork:
    """A net of one phase with its weights, ready to run."""

    engine = "torch"

    module: NetModule
    net: Net

    def __init__(self, net: Net, options: NetworkOptions, source: TorchNetwork | None = None) -> None:
        """`source` is a net to share the blobs of layers of the same name with."""
        self.phase, self.seed, self.dtype = options.phase, options.seed, options.dtype
        self.torch_device = options.device
        self.device = devices.describe(options.device, options.mixed)
        self.generator = torch.Generator(options.device)
        where = options.phase, options.seed, options.beside
        self.feeds = open_feeds(net, *where, batch=options.batch, stride=options.stride) if options.read_data else {}
        net = find_matrices(_with_shapes(net, self.feeds, options.batch), options.beside)
        self.module = NetModule(
            net,
            options.phase,
            seed=options.seed,
            device=options.device,
            dtype=options.dtype,
            generator=self.generator,
            source=source.module if source else None,
        )
        self.mixed = options.mixed
        if self.mixed:
            precision.keep_float32(self.module.units)
        self.through: Through = self.module.run  # what takes the inputs through the net
        self.net, self.feeders, self.learnable = net, self.module.feeders, self.module.learnable
        self.blobs: dict[str, Shape] = net.blobs
        self.outputs = net.outputs
        self._batch = 0

    @property
    def units(self) -> list[Unit]:
        """The layers that run, in order."""
        return self.module.units

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch; see engine.Network."""
        return {name: to_numpy(value) for name, value in self.tensors(wanted, inputs).items()}

    def tensors(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, Tensor]:
        """What `forward` gives, left on the device; see engine.TensorNetwork."""
        for name in wanted:
            if name not in self.blobs:
                raise RootgenError(f"no blob '{name}'", where=self.net.source, hint=did_you_mean(name, self.blobs))
        with torch.inference_mode(), devices.told():
            values, _ = self.run(self._batch, inputs, wanted)
        self._batch += 1
        return {name: values[name] for name in wanted}

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True, layers: bool = True) -> NetTime:
        """Milliseconds per layer and per pass; see engine.Network."""
        with devices.told():
            return timing.measure(self, iterations, warmup, backward, layers)

    def run(
        self, batch: int, inputs: Mapping[str, np.ndarray] | None = None, wanted: Iterable[str] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """(blob name -> value, weighted loss) of a pass over batch number `batch`.

        All blobs, or with `wanted` at least those; layers that they do not need are then left out, and blobs
        dropped after their last use. In-place layers leave their own value under the name.
        """
        self.generator.manual_seed(seeds.derive(self.seed, "pass", batch))
        values = self._inputs(batch, inputs, self.module.needed(None if wanted is None else tuple(wanted)))
        with precision.mixed(self.torch_device) if self.mixed else nullcontext():
            return self.through(values, wanted)

    def refuse_unfed(self) -> None:
        """RootgenError where a database that the net reads is not there."""
        for layer in self.feeders:
            if layer.name not in self.feeds:
                raise _no_input(layer, layer.tops[0])

    def named(self) -> dict[str, LayerBlobs]:
        """See NetModule.named."""
        return self.module.named()

    def learned(self) -> dict[str, list[np.ndarray]]:
        """Layer name -> its blobs, as float32 arrays, for every layer that has any."""
        return self.module.learned()

    def load(self, path: str | Path, *, whole: bool = False) -> None:
        """Copy blobs from a .caffemodel or .h5; with `whole`, every layer that has blobs must be there."""
        self.module.load_caffemodel(path, whole=whole)

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
        return in_order(from_numpy(values).to(self.torch_device, self.dtype))

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
        self.module.check_input(layer, top, values.shape)


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
