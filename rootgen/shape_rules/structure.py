"""Layers that pass values on, elementwise or in another arrangement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from rootgen.layer_types import ELEMENTWISE
from rootgen.net import Layer
from rootgen.shape_rules.common import Shape, Shaped, axis, legacy, rule, same, size, text


@rule(*(ELEMENTWISE - {"PReLU"}))
def elementwise(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    del layer
    return Shaped((bottoms[0],))


@rule("Softmax")
def softmax(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    axis(layer, layer.param.softmax_param.axis, bottoms[0])
    return Shaped((bottoms[0],))


@rule("MVN")
def mvn(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((legacy(layer, bottoms[0]),))


@rule("Eltwise")
def eltwise(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.eltwise_param
    if len(param.coeff) not in (0, len(bottoms)):
        raise layer.error(f"has {len(param.coeff)} coeff for {len(bottoms)} bottom (one each, or none)")
    if param.coeff and param.operation == 0:
        raise layer.error("has coeff with operation PROD (they are for SUM)")
    same(layer, bottoms)
    return Shaped((bottoms[0],))


@rule("Split")
def split(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((bottoms[0],) * len(layer.tops))


@rule("Silence", "HDF5Output")
def sink(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    del layer, bottoms
    return Shaped(())


@rule("Concat")
def concat(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    first = bottoms[0]
    at = _axis_or_dim(layer, layer.param.concat_param, "concat_dim", first)
    for name, shape in zip(layer.bottoms, bottoms, strict=True):
        if len(shape) != len(first) or shape[:at] + shape[at + 1 :] != first[:at] + first[at + 1 :]:
            raise layer.error(
                f"bottom '{layer.bottoms[0]}' is {text(first)}, but bottom '{name}' is {text(shape)} "
                f"(they may differ on axis {at} alone)"
            )
    return Shaped(((*first[:at], sum(shape[at] for shape in bottoms), *first[at + 1 :]),))


@rule("Slice")
def slices(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    param = layer.param.slice_param
    at = _axis_or_dim(layer, param, "slice_dim", bottom)
    count, length = len(layer.tops), bottom[at]
    if param.slice_point:
        points = [0, *param.slice_point, length]
        if len(points) != count + 1:
            raise layer.error(f"has {len(points) - 2} slice_point for {count} top (one fewer than tops)")
        if any(a >= b for a, b in pairwise(points)):
            inner = ", ".join(map(str, points[1:-1]))
            raise layer.error(f"slice_point {inner} have to rise and stay below {length}, the size of axis {at}")
        lengths = [b - a for a, b in pairwise(points)]
    elif length % count:
        raise layer.error(f"its {count} tops do not divide axis {at} of {text(bottom)}")
    else:
        lengths = [length // count] * count
    return Shaped(tuple((*bottom[:at], part, *bottom[at + 1 :]) for part in lengths))


def _axis_or_dim(layer: Layer, param: Any, old: str, shape: Shape) -> int:
    """The axis of a Concat or Slice, given as `axis` or by its old name."""
    if not param.HasField(old):
        return axis(layer, param.axis, shape)
    if param.HasField("axis"):
        raise layer.error(f"has both axis and {old} (Caffe takes one)")
    return axis(layer, getattr(param, old), shape, old)


@rule("Reshape")
def reshape(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """`num_axes` axes from `axis` on replaced by the given dims; 0 copies, one -1 is worked out."""
    bottom = bottoms[0]
    _not_in_place(layer)
    param = layer.param.reshape_param
    start = param.axis if param.axis >= 0 else len(bottom) + param.axis + 1
    if not 0 <= start <= len(bottom):
        raise layer.error(f"axis {param.axis} is out of range for a bottom of {len(bottom)} axes ({text(bottom)})")
    if param.num_axes < -1:
        raise layer.error(f"num_axes is {param.num_axes}, but has to be 0 or more, or -1 for all")
    end = len(bottom) if param.num_axes == -1 else start + param.num_axes
    if end > len(bottom):
        raise layer.error(f"axis {param.axis} and num_axes {param.num_axes} go beyond its bottom {text(bottom)}")
    dims = list(param.shape.dim)
    for i, dim in enumerate(dims):
        if dim == 0:
            if start + i >= len(bottom):
                raise layer.error(f"dim {i} is 0 (copy), but its bottom {text(bottom)} has no axis {start + i}")
            dims[i] = bottom[start + i]
        elif dim < -1:
            raise layer.error(f"dim {i} is {dim}, but has to be -1 or more")
    if dims.count(-1) > 1:
        raise layer.error("has several dims of -1 (one at most)")
    kept = (*bottom[:start], *(dim for dim in dims if dim != -1), *bottom[end:])
    if -1 in dims:
        if prod(bottom) % prod(kept):
            raise layer.error(f"the {prod(bottom)} values of its bottom {text(bottom)} do not divide by {prod(kept)}")
        dims[dims.index(-1)] = prod(bottom) // prod(kept)
    top = (*bottom[:start], *dims, *bottom[end:])
    if prod(top) != prod(bottom):
        raise layer.error(f"would make {text(top)}, {prod(top)} values, of {text(bottom)}, {prod(bottom)} values")
    return Shaped((top,))


@rule("Flatten")
def flatten(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    _not_in_place(layer)
    start = axis(layer, layer.param.flatten_param.axis, bottom)
    end = axis(layer, layer.param.flatten_param.end_axis, bottom, "end_axis") + 1
    if end <= start:
        raise layer.error(f"end_axis {end - 1} comes before axis {start}")
    return Shaped(((*bottom[:start], prod(bottom[start:end]), *bottom[end:]),))


def _not_in_place(layer: Layer) -> None:
    if layer.tops[0] == layer.bottoms[0]:
        raise layer.error(f"{layer.type} cannot work in place", "give its top another name")


@rule("Tile")
def tile(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    at = axis(layer, layer.param.tile_param.axis, bottom)
    tiles = size(layer, "tiles", layer.param.tile_param.tiles)
    return Shaped(((*bottom[:at], bottom[at] * tiles, *bottom[at + 1 :]),))


@rule("Reduction")
def reduction(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((bottoms[0][: axis(layer, layer.param.reduction_param.axis, bottoms[0])],))


@rule("ArgMax")
def argmax(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    param = layer.param.argmax_param
    top_k = size(layer, "top_k", param.top_k)
    if param.HasField("axis"):
        at = axis(layer, param.axis, bottom)
        choices, top = bottom[at], (*bottom[:at], top_k, *bottom[at + 1 :])
    else:
        if not bottom:
            raise layer.error("takes a bottom with an axis, not a scalar")
        choices = prod(bottom[1:])
        pair = 2 if param.out_max_val else 1
        top = (bottom[0], pair, top_k, *(1,) * (len(bottom) - 3))
    if top_k > choices:
        raise layer.error(f"top_k {top_k} is more than the {choices} values to choose from")
    return Shaped((top,))


@rule("BatchReindex")
def batch_reindex(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    data, index = bottoms
    if len(index) != 1 or not data:
        raise layer.error(f"takes data and a list of places in its batch, not {text(data)} and {text(index)}")
    return Shaped(((index[0], *data[1:]),))


@rule("Filter")
def filtered(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """The bottoms but the last, the selector; before the first image is seen Caffe shapes them like the whole batch."""
    *data, selector = bottoms
    if len(layer.tops) != len(data):
        raise layer.error(f"has {len(layer.tops)} top for {len(data)} bottom beside the selector (one each)")
    if not selector or any(dim != 1 for dim in selector[1:]):
        raise layer.error(f"its selector has to be one number per image, not {text(selector)}")
    for shape in data:
        if shape[:1] != selector[:1]:
            raise layer.error(f"its selector is for {selector[0]} images, but a bottom is {text(shape)}")
    return Shaped(tuple(data))
