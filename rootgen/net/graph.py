"""A network description as the graph of layers that Caffe would build for one phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rootgen.errors import RootgenError

PHASES = ("TRAIN", "TEST")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerShapes:
    """Shapes of one layer's bottoms, tops and learnable blobs, each in order.

    `known` is False for a layer whose shapes cannot be told without running it; its bottoms and tops are then
    empty, and its params those stored in the caffemodel, if any.
    """

    bottoms: tuple[Shape, ...] = ()
    tops: tuple[Shape, ...] = ()
    params: tuple[Shape, ...] = ()
    known: bool = True


NOT_KNOWN = LayerShapes(known=False)


@dataclass(frozen=True)
class Layer:
    """One layer of a Net: its wiring, its LayerParameter, its shapes, and `where` it stands, as errors name it.

    `where` reads `net.prototxt:12: layer 'conv1'`; the line is left out where the source has none. `index` is its
    place among the layers as written, those of other phases included; -1 for what `input` became. `shapes` are
    there once they were inferred (shapes.infer).
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    param: Any
    where: str
    index: int = -1
    shapes: LayerShapes = NOT_KNOWN

    def error(self, what: str, hint: str | None = None) -> RootgenError:
        """The error `what`, placed at this layer."""
        return RootgenError(what, where=self.where, hint=hint)


@dataclass(frozen=True)
class Net:
    """The layers of one phase, in the order in which Caffe runs them; `source` is the file or "<text>".

    `blobs` are the shapes of all blobs, and `notes` what was assumed about them, once they were inferred.
    Layers are known to each other by their place in `layers`; one that works in place is told apart from the
    layer that made its blob.
    """

    name: str
    phase: str
    layers: tuple[Layer, ...]
    source: str
    blobs: dict[str, Shape] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def makers(self) -> tuple[tuple[int, ...], ...]:
        """Per layer, the places of the layers that its bottoms come from, in the bottoms' order."""
        makers: dict[str, int] = {}
        found = []
        for place, layer in enumerate(self.layers):
            found.append(tuple(makers[bottom] for bottom in layer.bottoms))
            makers.update(dict.fromkeys(layer.tops, place))
        return tuple(found)

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Per layer, the places of the layers that read a top as this layer leaves it; twice where read twice."""
        found: list[list[int]] = [[] for _ in self.layers]
        for place, makers in enumerate(self.makers):
            for maker in makers:
                found[maker].append(place)
        return tuple(map(tuple, found))

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Blobs that no layer reads, sorted as Caffe sorts them."""
        free: set[str] = set()
        for layer in self.layers:
            free.difference_update(layer.bottoms)
            free.update(layer.tops)
        return tuple(sorted(free))
