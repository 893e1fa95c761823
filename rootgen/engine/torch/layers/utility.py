"""Layers that move, join, cut or pick values, and Softmax."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.net.layers.utility import joined_axis, permutation


@builds("Flatten", "Reshape")
def reshape(unit: Unit) -> Run:
    return unit.reshaped


@builds("Split")
def split(unit: Unit) -> Run:
    return lambda x: (x,) * len(unit.tops)


@builds("Silence")
def silence(_: Unit) -> Run:
    return lambda *_: ()


@builds("Concat", output_is_free=True)
def concat(unit: Unit) -> Run:
    axis = joined_axis(unit.layer, unit.bottoms[0])
    return lambda *bottoms: torch.cat(bottoms, axis)


@builds("Slice")
def slices(unit: Unit) -> Run:
    axis = joined_axis(unit.layer, unit.bottoms[0])
    return lambda x: torch.split(x, [top[axis] for top in unit.tops], axis)


@builds("Tile")
def tile(unit: Unit) -> Run:
    param = unit.param.tile_param
    axis = unit.axis(param.axis)
    return lambda x: torch.cat([x] * param.tiles, axis)


@builds("Reduction")
def reduction(unit: Unit) -> Run:
    param = unit.param.reduction_param
    axis = unit.axis(param.axis)
    total, absolute, squares, mean = 1, 2, 3, 4

    def run(x: Tensor) -> Tensor:
        flat = x.flatten(axis)
        values = {total: flat, absolute: flat.abs(), squares: flat * flat, mean: flat}[param.operation]
        out = values.mean(axis) if param.operation == mean else values.sum(axis)
        return out * param.coeff

    return run


@builds("ArgMax")
def arg_max(unit: Unit) -> Run:
    param = unit.param.argmax_param

    def run(x: Tensor) -> Tensor:
        if param.HasField("axis"):
            values, places = x.topk(param.top_k, unit.axis(param.axis))
            return values if param.out_max_val else places.to(x.dtype)
        values, places = x.flatten(1).topk(param.top_k, 1)
        parts = [places.to(x.dtype), values] if param.out_max_val else [places.to(x.dtype)]
        return unit.reshaped(torch.stack(parts, 1))

    return run


@builds("Eltwise", output_is_free=True)
def eltwise(unit: Unit) -> Run:
    param = unit.param.eltwise_param
    product, greatest = 0, 2
    coeff = list(param.coeff)  # one per bottom, and none for PROD: Shapes' business; MAX takes no notice of them

    def run(*bottoms: Tensor) -> Tensor:
        if param.operation == product:
            return reduce(torch.mul, bottoms)
        if param.operation == greatest:
            return reduce(torch.maximum, bottoms)
        terms = [x if c == 1 else x * c for x, c in zip(bottoms, coeff or [1.0] * len(bottoms), strict=True)]
        return reduce(torch.add, terms)

    return run


@builds("Axpy")
def axpy(_: Unit) -> Run:
    return lambda factor, x, y: factor.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y


@builds("Permute")
def permute(unit: Unit) -> Run:
    order = permutation(unit.layer, len(unit.bottoms[0]))
    return lambda x: x.permute(order).contiguous()


@builds("ShuffleChannel")
def shuffle_channel(unit: Unit) -> Run:
    """Channel j of every group before channel j + 1 of any."""
    group = unit.param.shuffle_channel_param.group
    return lambda x: x.unflatten(1, (group, -1)).transpose(1, 2).flatten(1, 2)


@builds("Softmax")
def softmax(unit: Unit) -> Run:
    axis = unit.axis(unit.param.softmax_param.axis)
    return lambda x: F.softmax(x, axis)


@builds("Parameter")
def parameter(unit: Unit) -> Run:
    return lambda: unit.blobs[0]


@builds("Filter")
def selected(unit: Unit) -> Run:
    """The images whose place in the last bottom, the selector, is not 0; of every other bottom, in their order.

    How many come out is known only when a batch is there: the tops have the shapes of the bottoms in `unit.tops`,
    as in Caffe before its first pass. Where none is selected the tops are empty, 0 x ..., as in Caffe; of such a
    batch there is no gradient, for which Caffe divides by their number.
    """

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        *data, selector = bottoms
        places = selector.flatten().nonzero().flatten()
        if not len(places) and torch.is_grad_enabled() and any(x.requires_grad for x in data):
            raise unit.error(
                f"its selector '{unit.layer.bottoms[-1]}' selects none of the {len(selector)} images of a batch, which "
                "leaves nothing to take a gradient of (Caffe divides by zero here)",
                "see to it that every batch has an image to select, or say propagate_down: false",
            )
        return tuple(x.index_select(0, places) for x in data)

    return run


@builds("BatchReindex")
def batch_reindex(unit: Unit) -> Run:
    """The images at the places that the second bottom lists, each as often as it is listed.

    Places are cut to whole numbers; the gradients of an image's copies add up.
    """

    def run(x: Tensor, index: Tensor) -> Tensor:
        wrong = ~((index >= 0) & (index < x.shape[0]))  # so that NaN is wrong too
        if wrong.any():
            place = int(wrong.nonzero()[0])
            raise unit.error(
                f"index {index[place].item():g} at place {place} of bottom '{unit.layer.bottoms[1]}', but bottom "
                f"'{unit.layer.bottoms[0]}' has {x.shape[0]} images (0 to {x.shape[0] - 1})"
            )
        return x.index_select(0, index.long())

    return run
