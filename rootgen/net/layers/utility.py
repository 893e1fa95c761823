"""Layers that move, join, cut or pick values (concat_layer.cpp, slice_layer.cpp, reshape_layer.cpp, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import axis, blob_shape, channels_of, not_in_place, same, size
from rootgen.net.layers.registry import MANY, InputOptions, Shaped, layer_type, untold
from rootgen.text import shape_text


@layer_type("Flatten", "arrange", "several axes as one", v1="FLATTEN", shares_data=True)
def flatten(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    not_in_place(layer)
    start = axis(layer, layer.param.flatten_param.axis, bottom)
    end = axis(layer, layer.param.flatten_param.end_axis, bottom, "end_axis") + 1
    if end <= start:
        raise layer.error(f"end_axis {end - 1} comes before axis {start}")
    return Shaped(((*bottom[:start], prod(bottom[start:end]), *bottom[end:]),))


@layer_type("Reshape", "arrange", "the same values in another shape", shares_data=True)
def reshape(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """`num_axes` axes from `axis` on replaced by the given dims; 0 copies, one -1 is worked out."""
    bottom = bottoms[0]
    not_in_place(layer)
    param = layer.param.reshape_param
    start = param.axis if param.axis >= 0 else len(bottom) + param.axis + 1
    if not 0 <= start <= len(bottom):
        raise layer.error(
            f"axis {param.axis} is out of range for a bottom of {len(bottom)} axes ({shape_text(bottom)})"
        )
    if param.num_axes < -1:
        raise layer.error(f"num_axes is {param.num_axes}, but has to be 0 or more, or -1 for all")
    end = len(bottom) if param.num_axes == -1 else start + param.num_axes
    if end > len(bottom):
        raise layer.error(f"axis {param.axis} and num_axes {param.num_axes} go beyond its bottom {shape_text(bottom)}")
    dims = list(param.shape.dim)
    for i, dim in enumerate(dims):
        if dim == 0:
            if start + i >= len(bottom):
                raise layer.error(f"dim {i} is 0 (copy), but its bottom {shape_text(bottom)} has no axis {start + i}")
            dims[i] = bottom[start + i]
        elif dim < -1:
            raise layer.error(f"dim {i} is {dim}, but has to be -1 or more")
    if dims.count(-1) > 1:
        raise layer.error("has several dims of -1 (one at most)")
    kept = (*bottom[:start], *(dim for dim in dims if dim != -1), *bottom[end:])
    if -1 in dims:
        if prod(bottom) % prod(kept):
            raise layer.error(
                f"the {prod(bottom)} values of its bottom {shape_text(bottom)} do not divide by {prod(kept)}"
            )
        dims[dims.index(-1)] = prod(bottom) // prod(kept)
    top = (*bottom[:start], *dims, *bottom[end:])
    if prod(top) != prod(bottom):
        raise layer.error(
            f"would make {shape_text(top)}, {prod(top)} values, of {shape_text(bottom)}, {prod(bottom)} values"
        )
    return Shaped((top,))


@layer_type("BatchReindex", "arrange", "images picked by number, as often as named", bottoms=2)
def batch_reindex(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    data, index = bottoms
    if len(index) != 1 or not data:
        raise layer.error(
            f"takes data and a list of places in its batch, not {shape_text(data)} and {shape_text(index)}"
        )
    return Shaped(((index[0], *data[1:]),))


@layer_type("Split", "pass", "one blob under several names", tops=(1, MANY), v1="SPLIT", shares_data=True)
def split(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    not_in_place(layer)
    return Shaped((bottoms[0],) * len(layer.tops))


@layer_type("Concat", "arrange", "blobs side by side along one axis", bottoms=(1, MANY), v1="CONCAT")
def concat(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    first = bottoms[0]
    at = joined_axis(layer, first)
    for name, shape in zip(layer.bottoms, bottoms, strict=True):
        if len(shape) != len(first) or shape[:at] + shape[at + 1 :] != first[:at] + first[at + 1 :]:
            raise layer.error(
                f"bottom '{layer.bottoms[0]}' is {shape_text(first)}, but bottom '{name}' is {shape_text(shape)} "
                f"(they may differ on axis {at} alone)"
            )
    return Shaped(((*first[:at], sum(shape[at] for shape in bottoms), *first[at + 1 :]),))


@layer_type("Slice", "arrange", "a blob cut along one axis", tops=(1, MANY), v1="SLICE")
def slices(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    param = layer.param.slice_param
    at = joined_axis(layer, bottom)
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
        raise layer.error(f"its {count} tops do not divide axis {at} of {shape_text(bottom)}")
    else:
        lengths = [length // count] * count
    return Shaped(tuple((*bottom[:at], part, *bottom[at + 1 :]) for part in lengths))


def joined_axis(layer: Layer, shape: Shape | int) -> int:
    """The axis that a Concat joins or a Slice cuts, of a bottom of `shape` or so many axes; also by its old name."""
    concat = layer.type == "Concat"
    param, old = (layer.param.concat_param, "concat_dim") if concat else (layer.param.slice_param, "slice_dim")
    if not param.HasField(old):
        return axis(layer, param.axis, shape)
    if param.HasField("axis"):
        raise layer.error(f"has both axis and {old} (Caffe takes one)")
    return axis(layer, getattr(param, old), shape, old)


@layer_type("Tile", "arrange", "a blob repeated along one axis")
def tile(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    at = axis(layer, layer.param.tile_param.axis, bottom)
    tiles = size(layer, "tiles", layer.param.tile_param.tiles)
    return Shaped(((*bottom[:at], bottom[at] * tiles, *bottom[at + 1 :]),))


@layer_type("Eltwise", "pixels", "sum, product or maximum of blobs, value by value", bottoms=(2, MANY), v1="ELTWISE")
def eltwise(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.eltwise_param
    if len(param.coeff) not in (0, len(bottoms)):
        raise layer.error(f"has {len(param.coeff)} coeff for {len(bottoms)} bottom (one each, or none)")
    if param.coeff and param.operation == 0:
        raise layer.error("has coeff with operation PROD (they are for SUM)")
    same(layer, bottoms)
    return Shaped((bottoms[0],))


@layer_type("Axpy", "pixels", "a factor per channel times a blob, plus another", bottoms=3, origin="SENet")
def axpy(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    factor, x, y = bottoms
    if x != y:
        raise layer.error(f"adds {shape_text(y)} to {shape_text(x)} (Axpy needs equal shapes)")
    if len(x) < 2 or factor[:2] != x[:2] or any(dim != 1 for dim in factor[2:]):
        raise layer.error(f"its factor has to be one number per channel of {shape_text(x)}, not {shape_text(factor)}")
    return Shaped((x,))


@layer_type("Permute", "arrange", "axes in another order", origin="SSD")
def permute(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((tuple(bottoms[0][i] for i in permutation(layer, len(bottoms[0]))),))


def permutation(layer: Layer, axes: int) -> list[int]:
    """The order of a Permute layer's axes; those that it leaves out follow."""
    order = list(layer.param.permute_param.order)
    if len(set(order)) < len(order) or any(i >= axes for i in order):
        raise layer.error(f"order {', '.join(map(str, order))}: not each of 0 to {axes - 1} once at most")
    return order + [i for i in range(axes) if i not in order]


@layer_type("ShuffleChannel", "arrange", "channels of all groups taken in turn", origin="ShuffleNet")
def shuffle_channel(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    channels, group = channels_of(layer, bottoms[0]), size(layer, "group", layer.param.shuffle_channel_param.group)
    if channels % group:
        raise layer.error(f"group {group} does not divide the number of channels, {channels}")
    return Shaped((bottoms[0],))


@layer_type(
    "Filter", "arrange", "the images that a selector chooses", bottoms=(2, MANY), tops=(1, MANY), needs_images=True
)
def filtered(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """The bottoms but the last, the selector; before the first image is seen Caffe shapes them like the whole batch."""
    *data, selector = bottoms
    if len(layer.tops) != len(data):
        raise layer.error(f"has {len(layer.tops)} top for {len(data)} bottom beside the selector (one each)")
    if not selector or any(dim != 1 for dim in selector[1:]):
        raise layer.error(f"its selector has to be one number per image, not {shape_text(selector)}")
    for shape in data:
        if shape[:1] != selector[:1]:
            raise layer.error(f"its selector is for {selector[0]} images, but a bottom is {shape_text(shape)}")
    return Shaped(tuple(data))


@layer_type("Reduction", "arrange", "sum, sum of absolutes or squares, or mean, over the last axes")
def reduction(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((bottoms[0][: axis(layer, layer.param.reduction_param.axis, bottoms[0])],))


@layer_type(
    "Silence",
    "sink",
    "takes blobs that nobody reads, so that they are not shown",
    bottoms=(1, MANY),
    tops=0,
    v1="SILENCE",
)
def sink(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    del layer, bottoms
    return Shaped(())


@layer_type("ArgMax", "score", "the place of the largest values", v1="ARGMAX")
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


@layer_type("Softmax", "score", "exponentials, divided by their sum", v1="SOFTMAX")
def softmax(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    axis(layer, layer.param.softmax_param.axis, bottoms[0])
    return Shaped((bottoms[0],))


@layer_type("Parameter", "weights", "a learnable blob as a top", bottoms=0)
def parameter(layer: Layer, options: InputOptions) -> Shaped:
    del options
    shape = blob_shape(layer, "its blob", layer.param.parameter_param.shape)
    return Shaped((shape,), (shape,))


layer_type(
    "Python",
    "code",
    "a layer of the user's own, in Python",
    bottoms=(0, MANY),
    tops=(0, MANY),
    only_caffe="it is code of the user's own, written for pycaffe",
)(untold)
