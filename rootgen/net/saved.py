"""A net as Caffe saved it with its weights, without what Caffe put in when it built the net.

That is Splits (insert_splits.cpp), the loss_weight that they took over, the loss_weight 1 of loss layers, and the
`param` that keep BatchNorm's statistics from being learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of


def is_saved(net: Net) -> bool:
    """Whether a net comes from a file that Caffe saved: each layer tells its phase, which nobody writes by hand."""
    return all(layer.param.HasField("phase") for layer in net.layers)


def as_written(net: Net) -> Net:
    """`net` without the additions; blobs have their own names again."""
    renamed: dict[str, str] = {}  # a Split's top -> the blob that it was made of
    weights: dict[str, float] = {}  # a Split's name -> the loss_weight that it took over
    inserted = list(_splits(net))
    for layer in inserted:
        renamed.update(dict.fromkeys(layer.tops, layer.bottoms[0]))
        if layer.param.loss_weight:
            weights[layer.name] = layer.param.loss_weight[0]
    gone = {id(layer) for layer in inserted}
    kept = (layer for layer in net.layers if id(layer) not in gone)
    return replace(net, layers=tuple(_restored(layer, renamed, weights) for layer in kept))


def _splits(net: Net) -> Iterator[Layer]:
    """Each Split that Caffe put in and named, by its blob and the layer that made it."""
    makers: dict[str, Layer] = {}
    for layer in net.layers:
        if layer.type == "Split" and layer.bottoms[0] in makers:
            maker = makers[layer.bottoms[0]]
            name = _split_name(layer.bottoms[0], maker, maker.tops.index(layer.bottoms[0]))
            if layer.name == name and layer.tops == tuple(f"{name}_{i}" for i in range(len(layer.tops))):
                yield layer
        makers.update(dict.fromkeys(layer.tops, layer))


def _split_name(blob: str, maker: Layer, place: int) -> str:
    """The name that Caffe gives to the Split of the top `blob` at `place` of the layer `maker`."""
    return f"{blob}_{maker.name}_{place}_split"


def _restored(layer: Layer, renamed: dict[str, str], weights: dict[str, float]) -> Layer:
    """A layer as it was before Caffe's additions."""
    param: Any = type(layer.param)()
    param.CopyFrom(layer.param)
    bottoms = [renamed.get(name, name) for name in layer.bottoms]
    param.ClearField("bottom")
    param.bottom.extend(bottoms)
    taken = [weights.get(_split_name(top, layer, i), 0) for i, top in enumerate(layer.tops)]
    if any(taken) and not param.loss_weight:
        param.loss_weight.extend(taken)
    if of(layer).is_loss and list(param.loss_weight) == [1]:
        param.ClearField("loss_weight")
    if of(layer).statistics and all(not spec.name and spec.lr_mult == 0 for spec in param.param):
        param.ClearField("param")
    return replace(layer, bottoms=tuple(bottoms), param=param)
