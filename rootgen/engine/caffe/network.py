"""A net of one phase in pycaffe: forward passes, weights, timing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rootgen.engine import weights
from rootgen.engine.api import NetTime, images_per_batch
from rootgen.engine.caffe import timing
from rootgen.engine.caffe.prepare import Checked
from rootgen.engine.checks import Labels, labels_of
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer
from rootgen.net.layers.registry import of
from rootgen.text import shape_text

_READERS = ("Data", "ImageData", "WindowData", "HDF5Data")  # of these, those that no feed stands for


class _Pass(NamedTuple):
    """A forward pass for some blobs: ranges of layers, first and last, that go at once, as Caffe may join them."""

    whole: tuple[tuple[int, int], ...]
    between: tuple[tuple[int, int], ...]  # without the layers whose tops are given
    fed: tuple[tuple[Layer, str], ...]  # layers that bring in a top that it reads
    only_outputs: bool  # it gives outputs of the net alone


class CaffeNetwork:
    """A pycaffe Net behind engine.Network."""

    engine = "caffe"

    def __init__(self, net: Any, checked: Checked, device: str) -> None:
        """`net` is the caffe.Net made of what was `checked`."""
        self.caffe_net, self.checked, self.net, self.device = net, checked, checked.net, device
        named = {name for layer in self.net.layers for name in layer.tops}  # Caffe adds blobs between split layers
        self.blobs = {name: tuple(blob.shape) for name, blob in net.blobs.items() if name in named}
        self.layer_names = list(net._layer_names)
        self.outputs = tuple(net.outputs)
        self.feeders = [layer for layer in self.net.layers if of(layer).fed]
        self._fed = {self.layer_names.index(layer.name) for layer in self.feeders if layer.name in self.layer_names}
        self._labels: dict[int, Labels] = {}  # place of a layer -> the classes that it reads
        for layer in self.net.layers:
            if found := labels_of(layer):
                self._labels[self.layer_names.index(layer.name)] = found
        self._batch = 0  # the next one of `forward`
        self._passes: dict[tuple[str, ...], _Pass] = {}  # blobs wanted -> what gives them

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch; see engine.Network."""
        way = self._passes.get(names := tuple(wanted)) or self._pass_for(names)
        self._check_given(way, inputs)
        if inputs is not None:
            self.put(inputs)
        elif self.checked.feeds:
            self._take_batch(self._batch)
            self._batch += 1
        self._spare_blobs(way.only_outputs)
        try:
            for begin, end in way.whole if inputs is None else way.between:
                self._run(begin, end)
        finally:
            self._spare_blobs(False)
        return {name: np.array(self.caffe_net.blobs[name].data, np.float32) for name in names}

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True, layers: bool = True) -> NetTime:
        """Milliseconds per layer and per pass; see engine.Network."""
        return timing.measure(self, iterations, warmup, backward, layers)

    def pass_forward(self, batch: int) -> float:
        """Run every layer on batch number `batch`; the weighted loss."""
        self._take_batch(batch)
        return self._run(0, len(self.layer_names) - 1)

    def pass_backward(self) -> None:
        """Add the gradients of the loss of the last `pass_forward`."""
        self.caffe_net._backward(len(self.layer_names) - 1, 0)

    def scalars(self) -> tuple[str, ...]:
        """Output blobs that hold one number."""
        return tuple(name for name in self.outputs if math.prod(self.blobs[name]) == 1)

    def scalar(self, name: str) -> float:
        """The one number of a blob."""
        return float(self.caffe_net.blobs[name].data.reshape(-1)[0])

    def load(self, path: str | Path, *, whole: bool = False) -> None:
        """Copy blobs from a .caffemodel or .h5; with `whole`, every layer that has blobs must be there."""
        params = self.caffe_net.params
        wanted = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in params.items()}
        for name, arrays in weights.matching(weights.read(path, self.net.layers), wanted, path, whole=whole).items():
            for blob, values in zip(params[name], arrays, strict=True):
                blob.data[...] = values

    def not_finite(self) -> str:
        """Where the first value that is not finite stands, '' where all blobs are finite."""
        for name, blobs in self.caffe_net.params.items():
            for i, blob in enumerate(blobs):
                if not np.isfinite(blob.data).all():
                    return f"weights {name}[{i}] are not finite"
        for layer in self.net.layers:
            for top in layer.tops:
                if not np.isfinite(self.caffe_net.blobs[top].data).all():
                    return f"first in blob '{top}' of layer '{layer.name}'"
        return ""

    @property
    def batch_size(self) -> int:
        """Images per batch, of the first blob that comes from outside."""
        return images_per_batch(self.feeders, self.blobs, self.net.layers)

    @property
    def data_seconds(self) -> float:
        """Seconds spent waiting for data so far."""
        return sum(feed.waited for feed in self.checked.feeds.values())

    @property
    def begins_anew(self) -> list[Layer]:
        """Layers that read data themselves, so that nobody can tell them where to go on."""
        given = {layer.name for layer in self.checked.outside} | set(self.checked.feeds)
        return [layer for layer in self.feeders if layer.name not in given and layer.type in _READERS]

    def _run(self, first: int, last: int) -> float:
        """Run the layers from `first` to `last`, the classes looked at before one goes by them; the weighted loss."""
        loss, begin = np.float32(0), first
        for place, labels in self._labels.items():
            if first <= place <= last:
                if place > begin:
                    loss += np.float32(self.caffe_net._forward(begin, place - 1))
                labels.check(self.caffe_net.blobs[labels.blob].data)
                begin = place
        return float(loss + np.float32(self.caffe_net._forward(begin, last)))

    def _spare_blobs(self, spare: bool) -> None:
        """Whether passes may leave blobs out that are no outputs; a Caffe without our patches stores them all."""
        if hasattr(self.caffe_net, "outputs_only"):
            self.caffe_net.outputs_only = spare

    def _take_batch(self, number: int) -> None:
        """Put batch `number` of every database into its blobs."""
        for feed in self.checked.feeds.values():
            self.put(feed.batch(number))

    def _pass_for(self, wanted: tuple[str, ...]) -> _Pass:
        """What a pass for these blobs runs and reads: found once, as to look for it takes as long as a layer."""
        for name in wanted:
            if name not in self.blobs:
                raise RootgenError(f"no blob '{name}'", where=self.net.source, hint=did_you_mean(name, self.blobs))
        places = {name: place for place, name in enumerate(self.layer_names)}
        makers = {name: places[layer.name] for layer in self.net.layers for name in layer.tops}
        last = max((makers[name] for name in wanted), default=-1)
        read = {name for layer in self.net.layers if places[layer.name] <= last for name in layer.bottoms}.union(wanted)
        fed = tuple((layer, top) for layer in self.feeders for top in layer.tops if top in read)
        begins = [0, *(place + 1 for place in sorted(self._fed) if place <= last)]
        ends = [*(begin - 2 for begin in begins[1:]), last]
        between = tuple((begin, end) for begin, end in zip(begins, ends, strict=True) if begin <= end)
        whole = ((0, last),) if last >= 0 else ()
        return self._passes.setdefault(wanted, _Pass(whole, between, fed, set(wanted) <= set(self.outputs)))

    def _check_given(self, way: _Pass, inputs: Mapping[str, np.ndarray] | None) -> None:
        """Refuse a pass that lacks an input, or has one of another shape."""
        for layer, top in way.fed:
            self._check_top(layer, top, inputs)

    def _check_top(self, layer: Layer, top: str, inputs: Mapping[str, np.ndarray] | None) -> None:
        if inputs is None and layer not in self.checked.outside:
            return  # the layer feeds itself
        if inputs is None or top not in inputs:
            if layer.type == "Data":
                raise layer.error(f"no database '{layer.param.data_param.source}', and '{top}' is not given")
            raise layer.error(f"{layer.type} layer: '{top}' is not given")
        found = inputs[top].shape
        if not found or tuple(found[1:]) != self.blobs[top][1:]:
            raise layer.error(f"input '{top}' of {shape_text(found)} where the net takes {shape_text(self.blobs[top])}")

    def put(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Set input blobs, reshaping the net where the batch is of another size."""
        changed = False
        for name, values in inputs.items():
            blob = self.caffe_net.blobs[name]
            if tuple(blob.shape) != values.shape:
                blob.reshape(*values.shape)
                changed = True
            blob.data[...] = values
        if changed:
            self.caffe_net.reshape()
