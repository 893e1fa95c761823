"""A net of one phase in pycaffe: forward passes, weights, timing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch; see engine.Network."""
        for name in wanted:
            if name not in self.blobs:
                raise RootgenError(f"no blob '{name}'", where=self.net.source, hint=did_you_mean(name, self.blobs))
        self._check_given(wanted, inputs)
        if inputs is not None:
            self.put(inputs)
        elif self.checked.feeds:
            self._take_batch(self._batch)
            self._batch += 1
        last = max((self._maker(name) for name in wanted), default=-1)
        given = [] if inputs is None else sorted(place for place in self._fed if place <= last)
        begin = 0
        self._spare_blobs(set(wanted) <= set(self.outputs))
        try:
            for place in [*given, last + 1]:  # what lies between goes at once, as Caffe may join layers
                if place > begin:
                    self._run(begin, place - 1)
                begin = place + 1
        finally:
            self._spare_blobs(False)
        return {name: np.array(self.caffe_net.blobs[name].data, np.float32) for name in wanted}

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

    def _maker(self, blob: str) -> int:
        """Place of the last layer that writes `blob`."""
        name = [layer.name for layer in self.net.layers if blob in layer.tops][-1]
        return self.layer_names.index(name)

    def _check_given(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None) -> None:
        """Refuse a pass that lacks an input, or has one of another shape."""
        last = max((self._maker(name) for name in wanted), default=-1)
        read = {name for layer in self.net.layers if self.layer_names.index(layer.name) <= last
                for name in layer.bottoms} | set(wanted)  # fmt: skip
        for layer in self.feeders:
            for top in filter(read.__contains__, layer.tops):
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
