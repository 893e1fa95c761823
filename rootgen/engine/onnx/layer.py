"""One layer on its way into an ONNX graph, and the function that its type registers to write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootgen.engine.onnx.graph import Graph
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer, LayerShapes, Shape
from rootgen.net.layers.checks import axis
from rootgen.net.layers.registry import of

Write = Callable[["Part"], "str | tuple[str, ...]"]  # to the value of its top, or of each of its tops

WRITERS: dict[str, Write] = {}


@dataclass
class Part:
    """A layer of a net, and the graph that it is written into.

    `bottoms` are the values of its bottoms, `blobs` its learnable blobs as arrays and `owners` what tells each of
    them apart from all others, so that shared ones stand once. `other` are the layer's shapes in another batch size
    where the batch may change, else its own shapes.
    """

    layer: Layer
    other: LayerShapes
    graph: Graph
    bottoms: tuple[str, ...]
    blobs: tuple[np.ndarray, ...]
    owners: tuple[tuple[str, int], ...]

    @property
    def param(self) -> Any:
        """The LayerParameter."""
        return self.layer.param

    @property
    def shapes(self) -> LayerShapes:
        """The layer's shapes in the net's own batch size."""
        return self.layer.shapes

    def error(self, what: str, hint: str | None = None) -> RootgenError:
        """The error `what`, placed at this layer."""
        return self.layer.error(what, hint)

    def axis(self, index: int, bottom: int = 0) -> int:
        """An axis of a bottom, counted from the front where `index` is negative."""
        return axis(self.layer, index, self.shapes.bottoms[bottom])

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> tuple[str, ...]:
        """The outputs of a new node."""
        name, doc = f"{self.layer.name}/{kind}", f"{self.layer.type} {self.layer.name}"
        return tuple(self.graph.node(kind, inputs, name, outputs=outputs, doc=doc, **attributes).output)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The one output of a new node."""
        return self.node(kind, *inputs, **attributes)[0]

    def number(self, values: Any, kind: Any = np.float32) -> str:
        """A constant."""
        return self.graph.constant(np.asarray(values, kind), f"{self.layer.name}/constant")

    def whole(self, *values: int) -> str:
        """A constant list of whole numbers."""
        return self.number(values, np.int64)

    def array(self, values: np.ndarray, name: str) -> str:
        """A constant of this layer that is made of its blobs, called `name`."""
        key = (*self.owners, name)
        return self.graph.constant(np.asarray(values, np.float32), f"{self.layer.name}/{name}", key)

    def blob(self, i: int, shape: Shape | None = None) -> str:
        """The constant that holds learnable blob `i`, in its own or in another shape."""
        values = self.blobs[i].astype(np.float32, copy=False)
        owner, number = self.owners[i]
        values = values if shape is None else values.reshape(shape)
        return self.graph.constant(values, f"{owner}[{number}]", (owner, number))

    def reshape(self, value: str, to: Callable[[LayerShapes], Shape]) -> str:
        """`value` in the shape that `to` makes of the layer's shapes, whatever the batch.

        RootgenError where the batch stands in more than one axis, which ONNX's Reshape cannot follow.
        """
        dims = [size if size == other else -1 for size, other in zip(to(self.shapes), to(self.other), strict=True)]
        if dims.count(-1) > 1:
            raise self.frozen("in more than one axis of a shape that it makes")
        return self.op("Reshape", value, self.whole(*dims))

    def fixed(self, size: Callable[[LayerShapes], int], what: str) -> int:
        """A size that does not change with the batch; RootgenError where it does."""
        if size(self.shapes) != size(self.other):
            raise self.frozen(f"in {what}")
        return size(self.shapes)

    def frozen(self, place: str) -> RootgenError:
        """The error for a layer that a changing batch does not go through."""
        return self.error(f"the batch cannot change: it stands {place}", "export it without --dynamic-batch")


def writes(*types: str) -> Callable[[Write], Write]:
    """Register the decorated function as what writes layers of `types`."""

    def register(write: Write) -> Write:
        WRITERS.update(dict.fromkeys(types, write))
        return write

    return register


def writer(layer: Layer) -> Write:
    """What writes a layer; RootgenError, naming its type, where ONNX cannot say it."""
    write = WRITERS.get(layer.type)
    if write is not None:
        return write
    if of(layer).not_in_torch:
        raise layer.error(f"ONNX cannot say {layer.type} layers: {of(layer).not_in_torch}")
    raise layer.error(f"ONNX cannot say layer type '{layer.type}'", did_you_mean(layer.type, WRITERS))
