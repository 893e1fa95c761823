"""Where the channels of a net's blobs may be put in another order without anyone noticing.

Blobs whose channels are one to one (a convolution's output, normalised, activated, pooled, summed with others) are
one space: an order of its channels has to be the same in all of them. Whoever makes a space by weights can make it in
another order, and whoever reads it by weights can read it so; a space that anything else looks into (the net's
output, a softmax, filter groups that are there already) is fixed. A Concat's output is the spaces of its bottoms side
by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.utility import joined_axis

CHANNELS = 1  # the axis
WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct")


@dataclass
class Space:
    """One set of channels: how many, why they have to stay in order ("" where they need not), who makes and reads them.

    `makers` and `readers` are places of layers with weights.
    """

    channels: int
    fixed: str = ""
    makers: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


@dataclass
class Spaces:
    """The spaces of a net; per layer, the spaces of its first bottom and of its first top, side by side."""

    net: Net
    spaces: list[Space] = field(default_factory=list)
    inputs: dict[int, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def of_inputs(self, place: int) -> list[Space]:
        """The spaces that a layer's first bottom is made of."""
        return [self.spaces[one] for one in self.inputs[place]]


def spaces_of(net: Net) -> Spaces:
    """The spaces of `net`, whose shapes were inferred."""
    return _Finder(net).found()


class _Finder:
    """Builds the spaces layer by layer; `parent` joins those that turn out to be one."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.spaces: list[Space] = []
        self.parent: list[int] = []
        self.blobs: dict[str, tuple[int, ...]] = {}
        self.inputs: dict[int, tuple[int, ...]] = {}
        self.outputs: dict[int, tuple[int, ...]] = {}
        names = [spec.name for layer in net.layers for spec in layer.param.param if spec.name]
        self.shared = {name for name in names if names.count(name) > 1}

    def found(self) -> Spaces:
        for place, layer in enumerate(self.net.layers):
            self._layer(place, layer)
        for name in self.net.outputs:
            self._fix(self.blobs.get(name, ()), f"'{name}' is an output of the net")
        keep = {root: i for i, root in enumerate(sorted({self._root(one) for one in range(len(self.spaces))}))}
        result = Spaces(self.net, [self.spaces[root] for root in keep])
        for there, here in ((self.inputs, result.inputs), (self.outputs, result.outputs)):
            here.update({place: tuple(keep[self._root(one)] for one in ones) for place, ones in there.items()})
        return result

    def _layer(self, place: int, layer: Layer) -> None:
        bottoms = [self.blobs.get(name, ()) for name in layer.bottoms]
        entry = of(layer)
        if not layer.shapes.known:
            for ones in bottoms:
                self._fix(ones, f"'{layer.name}' is a {layer.type}, of which too little is known")
            return
        if layer.type not in WEIGHTED and (layer.shapes.params or layer.type == "Concat"):
            shapes = layer.shapes.bottoms
            if not all(map(self._a_place_each, bottoms, shapes)):  # behind a Flatten: pixels, which have no order here
                for ones in bottoms:
                    self._fix(ones, f"'{layer.name}' takes the pixels of each channel for channels")
        if layer.type in WEIGHTED:
            self._weights(place, layer, bottoms)
        elif layer.type == "Concat" and joined_axis(layer, layer.shapes.bottoms[0]) == CHANNELS:
            self._set(layer, tuple(one for ones in bottoms for one in ones))
        elif layer.type in ("Eltwise", "Split"):
            for ones in bottoms[1:]:
                self._join(bottoms[0], ones, layer)
            self._set(layer, bottoms[0])
        elif entry.keeps_channels and _channelwise(layer) and len(layer.bottoms) == 1:
            if any(spec.name in self.shared for spec in layer.param.param):
                self._fix(bottoms[0], f"'{layer.name}' shares its blobs")
            self.inputs[place] = self.outputs[place] = bottoms[0]
            self._set(layer, bottoms[0])
        elif _is_flatten(layer):
            self._set(layer, bottoms[0])
        else:
            for ones in bottoms:
                self._fix(ones, f"'{layer.name}', a {layer.type}, sees their order")
            for top, shape in zip(layer.tops, layer.shapes.tops, strict=False):
                made = self._new(shape[CHANNELS] if len(shape) > CHANNELS else 0, f"'{layer.name}' makes them")
                self.blobs[top] = (made,)

    def _a_place_each(self, ones: tuple[int, ...], shape: Shape) -> bool:
        """Whether axis 1 of a blob has a place for each channel of its spaces."""
        count = sum(self.spaces[self._root(one)].channels for one in ones)
        return not ones or len(shape) <= CHANNELS or shape[CHANNELS] == count

    def _weights(self, place: int, layer: Layer, bottoms: list[tuple[int, ...]]) -> None:
        """A layer of weights reads one space, or several side by side, and makes another."""
        why = ""
        if len(layer.bottoms) > 1:
            why = "applies its weights to several blobs"
        elif any(spec.name in self.shared for spec in layer.param.param):
            why = "shares its weights"
        elif layer.type != "InnerProduct" and layer.param.convolution_param.group > 1:
            why = "has filter groups"
        elif _axis(layer) != CHANNELS:
            why = f"has its channels on axis {_axis(layer)}"
        for ones in bottoms:
            self._fix(ones, why and f"'{layer.name}' {why}")
            for one in ones:
                self.spaces[self._root(one)].readers.append(place)
        channels = layer.shapes.tops[0][CHANNELS] if len(layer.shapes.tops[0]) > CHANNELS else 0
        made = self._new(channels, why and f"'{layer.name}' {why}")
        self.spaces[made].makers.append(place)
        self.inputs[place] = bottoms[0]
        self.outputs[place] = (made,)
        self._set(layer, (made,))

    def _set(self, layer: Layer, ones: tuple[int, ...]) -> None:
        for top in layer.tops:
            self.blobs[top] = ones

    def _new(self, channels: int, fixed: str) -> int:
        self.spaces.append(Space(channels, fixed))
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def _root(self, one: int) -> int:
        while self.parent[one] != one:
            one = self.parent[one]
        return one

    def _fix(self, ones: tuple[int, ...], why: str) -> None:
        for one in ones if why else ():
            space = self.spaces[self._root(one)]
            space.fixed = space.fixed or why

    def _join(self, first: tuple[int, ...], second: tuple[int, ...], layer: Layer) -> None:
        """Make the spaces of two blobs one each, where they are cut alike; else fix all of them."""
        if [self.spaces[self._root(one)].channels for one in first] != [
            self.spaces[self._root(one)].channels for one in second
        ]:
            self._fix((*first, *second), f"'{layer.name}' adds what is put together otherwise")
            return
        for one, other in zip(first, second, strict=True):
            a, b = self._root(one), self._root(other)
            if a != b:
                into, gone = self.spaces[a], self.spaces[b]
                into.fixed = into.fixed or gone.fixed
                into.makers += gone.makers
                into.readers += gone.readers
                self.parent[b] = a


def _axis(layer: Layer) -> int:
    param = layer.param.inner_product_param if layer.type == "InnerProduct" else layer.param.convolution_param
    return int(param.axis) % len(layer.shapes.bottoms[0])


def _channelwise(layer: Layer) -> bool:
    """Whether a layer that keeps channels treats each by itself, with blobs that begin with an axis of channels."""
    if layer.type == "LRN":
        return bool(layer.param.lrn_param.norm_region != 0)
    if layer.type == "MVN":
        return not layer.param.mvn_param.across_channels
    if layer.type in ("Scale", "Bias"):
        param = layer.param.scale_param if layer.type == "Scale" else layer.param.bias_param
        return bool(param.axis % len(layer.shapes.bottoms[0]) == CHANNELS)
    return True


def _is_flatten(layer: Layer) -> bool:
    """Whether a layer lays each channel's pixels out one after the other, which an InnerProduct then reads."""
    if layer.type != "Flatten" or not layer.shapes.bottoms:
        return False
    bottom, top = layer.shapes.bottoms[0], layer.shapes.tops[0]
    return len(top) == CHANNELS + 1 and top[:CHANNELS] == bottom[:CHANNELS]


def permuted(
    spaces: Spaces, learned: Mapping[str, list[np.ndarray]], orders: Mapping[int, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """The blobs of the net with the channels of each space in `orders` (space -> old places in the new order).

    Every layer that makes or reads such a space, or works on its channels one by one, is put in order; the net's
    outputs stay what they were.
    """
    result = {name: list(blobs) for name, blobs in learned.items()}
    for place, layer in enumerate(spaces.net.layers):
        if layer.name not in result:
            continue
        if place in spaces.outputs:
            order = order_of(spaces, spaces.outputs[place], orders)
            result[layer.name] = list(_of_outputs(layer, result[layer.name], order))
        if layer.type in WEIGHTED and place in spaces.inputs:
            order = order_of(spaces, spaces.inputs[place], orders)
            result[layer.name][0] = _of_inputs(layer, result[layer.name][0], order)
    return result


def order_of(spaces: Spaces, ones: tuple[int, ...], orders: Mapping[int, np.ndarray]) -> np.ndarray | None:
    """The order of spaces side by side; None where they stay as they are."""
    if not any(one in orders for one in ones):
        return None
    parts, start = [], 0
    for one in ones:
        count = spaces.spaces[one].channels
        parts.append(start + orders.get(one, np.arange(count)))
        start += count
    return np.concatenate(parts)


def _of_outputs(layer: Layer, blobs: list[np.ndarray], order: np.ndarray | None) -> Iterator[np.ndarray]:
    """A layer's blobs with the channels of its top in another order."""
    for i, blob in enumerate(blobs):
        if order is None:
            yield blob
        elif (i == 0 and layer.type == "Deconvolution") or (
            i == 0 and layer.type == "InnerProduct" and layer.param.inner_product_param.transpose
        ):
            yield blob[:, order]
        else:  # BatchNorm's third blob and PReLU's shared slope are single numbers
            yield blob[order] if blob.ndim and len(blob) == len(order) else blob


def _of_inputs(layer: Layer, weight: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """A layer's weights with the channels of its bottom in another order."""
    if order is None:
        return weight
    if layer.type == "Deconvolution":
        return weight[order]
    if layer.type == "Convolution":
        return weight[:, order]
    pixels = prod(layer.shapes.bottoms[0][CHANNELS:]) // len(order)
    places = (order[:, None] * pixels + np.arange(pixels)).ravel()
    return weight[places] if layer.param.inner_product_param.transpose else weight[:, places]
