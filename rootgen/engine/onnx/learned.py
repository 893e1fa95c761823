"""The learnable blobs that go into a model: from a file, or made up where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from rootgen.engine import seeds, weights
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of

Learned = dict[str, list[np.ndarray]]
"""Layer name -> its blobs."""


def load(net: Net, path: str | Path, *, whole: bool) -> Learned:
    """The blobs of a net's layers from a .caffemodel or .h5; see weights.matching.

    What `whole` does not ask for and is not there is made up. Blobs that layers share by name are one: as in Caffe
    the values of the last of those layers count.
    """
    found = weights.matching(weights.read(path, net.layers), _wanted(net), path, whole=whole)
    return _shared(net, made_up(net) | found)


def made_up(net: Net) -> Learned:
    """Random weights that neither vanish nor grow from layer to layer, and statistics that change nothing."""
    return _shared(net, {layer.name: _filled(layer) for layer in net.layers if layer.shapes.params})


def _wanted(net: Net) -> dict[str, tuple[Shape, ...]]:
    """Layer name -> the shapes of its blobs; RootgenError where two layers with blobs have one name."""
    wanted: dict[str, tuple[Shape, ...]] = {}
    for layer in net.layers:
        if layer.shapes.params and layer.name in wanted:
            raise layer.error("has the name of a layer above, so files could not tell their blobs apart", "rename it")
        if layer.shapes.params:
            wanted[layer.name] = layer.shapes.params
    return wanted


def _filled(layer: Layer) -> list[np.ndarray]:
    """Blobs for one layer."""
    shapes = layer.shapes.params
    if of(layer).statistics:
        return [np.zeros(shapes[0], np.float32), *(np.ones(shape, np.float32) for shape in shapes[1:])]
    if layer.type == "Scale":
        return [np.full(shape, 1 - i, np.float32) for i, shape in enumerate(shapes)]
    random = np.random.default_rng(seeds.derive(0, "fill", layer.name))
    filled = []
    for shape in shapes:
        inputs = prod(shape[1:])
        if len(shape) > 1:
            filled.append(random.standard_normal(shape, np.float32) * np.float32((2 / inputs) ** 0.5))
        else:
            filled.append(np.zeros(shape, np.float32))
    return filled


def _shared(net: Net, learned: Mapping[str, list[np.ndarray]]) -> Learned:
    """`learned` with one array for blobs that are shared by name, that of the last layer, in each layer's own shape."""
    owners = weights.owners(net.layers)
    last = {}
    for layer in net.layers:
        for i, values in enumerate(learned.get(layer.name, ())):
            last[owners.get((layer.name, i), (layer.name, i))] = values
    return {
        layer.name: [
            last[owners.get((layer.name, i), (layer.name, i))].reshape(shape)
            for i, shape in enumerate(layer.shapes.params)
        ]
        for layer in net.layers
        if layer.shapes.params
    }
