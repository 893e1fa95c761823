"""Layers that slide over an image: Convolution, Deconvolution, Pooling, SPP, Im2col, Crop.

Caffe's pooling is said by pads at the end, as many pixels as its last window reaches beyond the image (none where it
reaches less far), and never by rounding up: what ceil_mode does at the border differs from one runtime to the next.
Padding is left out of a maximum. An average is divided by the window as far as it lies in the padded image: that is
count_include_pad where no window goes beyond the padding, its opposite where there is none, and else a factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from rootgen.engine.onnx.layer import Part, writes
from rootgen.net.graph import LayerShapes, Shape
from rootgen.net.layers.vision import (
    DEPTHWISE,
    Geometry,
    conv_geometry,
    groups,
    pool_geometry,
    pooled,
    pyramid_geometry,
)

_AXES = (1, 2, 3)  # spatial axes that ONNX Runtime convolves over


@writes("Convolution", *DEPTHWISE)
def convolution(part: Part) -> tuple[str, ...]:
    return _each_bottom(part, "Conv")


@writes("Deconvolution")
def deconvolution(part: Part) -> tuple[str, ...]:
    return _each_bottom(part, "ConvTranspose")


def _each_bottom(part: Part, kind: str) -> tuple[str, ...]:
    """The convolution of every bottom by the same weights."""
    settings = {**_window(part), "group": groups(part.layer)}
    inputs = [part.blob(i) for i in range(len(part.blobs))]
    return tuple(_over_channels(part, x, lambda x: part.op(kind, x, *inputs, **settings)) for x in part.bottoms)


def _window(part: Part) -> dict[str, Any]:
    """The window of a convolution as ONNX's attributes."""
    count = len(part.shapes.bottoms[0]) - _channel_axis(part) - 1
    if count not in _AXES:
        raise part.error(f"ONNX Runtime cannot run a convolution over {count} spatial axes (1 to 3)")
    window = conv_geometry(part.layer, count)
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": window.pad * 2,
        "dilations": window.dilation,
    }


def _channel_axis(part: Part) -> int:
    return part.axis(part.param.convolution_param.axis)


def _over_channels(part: Part, x: str, run: Callable[[str], str]) -> str:
    """`run` with the axes before the channels as one, which is where ONNX wants the images."""
    axis = _channel_axis(part)
    if axis == 1:
        return run(x)

    def joined(shapes: LayerShapes) -> Shape:
        bottom = shapes.bottoms[0]
        return (math.prod(bottom[:axis]), *bottom[axis:])

    return part.reshape(run(part.reshape(x, joined)), lambda shapes: shapes.tops[0])


@writes("Im2col")
def im2col(part: Part) -> str:
    """A convolution of each channel with filters that each pick one pixel of the window."""
    window = _window(part)
    kernel, channels = tuple(window["kernel_shape"]), part.shapes.bottoms[0][_channel_axis(part)]
    picks = np.eye(math.prod(kernel), dtype=np.float32).reshape(-1, 1, *kernel)
    weight = part.number(np.tile(picks, (channels, *(1,) * (len(kernel) + 1))))
    return _over_channels(part, part.bottoms[0], lambda x: part.op("Conv", x, weight, **window, group=channels))


@writes("Crop")
def crop(part: Part) -> str:
    first = part.axis(part.param.crop_param.axis)
    count = len(part.shapes.bottoms[0]) - first
    offsets = list(part.param.crop_param.offset) or [0]
    offsets = offsets * count if len(offsets) == 1 else offsets
    cut = []
    for axis, offset in enumerate(offsets, first):
        data, like = ([shapes.bottoms[i][axis] for shapes in (part.shapes, part.other)] for i in (0, 1))
        if data != like:
            size = part.fixed(lambda shapes, axis=axis: shapes.bottoms[1][axis], "an axis that it cuts")  # type: ignore[misc]
            cut.append((offset, offset + size, axis))
    if not cut:
        return part.bottoms[0]
    starts, ends, axes = zip(*cut, strict=True)
    return part.op("Slice", part.bottoms[0], part.whole(*starts), part.whole(*ends), part.whole(*axes))


_MAX, _AVE, _STOCHASTIC = 0, 1, 2
_LOWEST = float(np.finfo(np.float32).min)  # a maximum of nothing, in Caffe


class _Pool(NamedTuple):
    """A pooling's window, the size of its bottom and of its top, as (height, width)."""

    window: Geometry
    image: Shape
    size: Shape

    @property
    def after(self) -> Shape:
        """Pixels that the last window reaches beyond the image; 0 where it ends within."""
        steps = zip(self.size, self.window.stride, self.window.kernel, self.window.pad, self.image, strict=True)
        return tuple(max(0, (n - 1) * s + k - p - length) for n, s, k, p, length in steps)

    @property
    def divisors(self) -> np.ndarray:
        """How many pixels of each window lie in the padded image: rows x columns."""
        axes = zip(self.size, self.window.stride, self.window.kernel, self.window.pad, self.image, strict=True)
        rows, columns = (
            np.minimum(np.arange(n) * s + k, length + 2 * p) - np.arange(n) * s for n, s, k, p, length in axes
        )
        return np.outer(rows, columns)


@writes("Pooling")
def pooling(part: Part) -> str | tuple[str, ...]:
    param, image = part.param.pooling_param, part.shapes.bottoms[0][2:]
    _refuse_stochastic(part, param.pool)
    if param.global_pooling and len(part.layer.tops) == 1:
        return part.op("GlobalAveragePool" if param.pool == _AVE else "GlobalMaxPool", part.bottoms[0])
    pool = _Pool(pool_geometry(part.layer, part.shapes.bottoms[0]), image, part.shapes.tops[0][2:])
    if len(part.layer.tops) == 1:
        return _pooled(part, part.bottoms[0], pool, param.pool)
    if _has_empty_windows(pool):
        raise part.error("ONNX cannot say the mask of windows that hold no pixel")
    top, places = part.node("MaxPool", part.bottoms[0], outputs=2, **_pool_attributes(pool))
    inside = part.op("Mod", places, part.number(math.prod(image), np.int64))  # ONNX counts through the whole blob
    return top, part.op("Cast", inside, to=TensorProto.FLOAT)


def _refuse_stochastic(part: Part, method: int) -> None:
    if method == _STOCHASTIC:
        raise part.error("ONNX cannot say STOCHASTIC pooling, which draws at random", "use MAX or AVE")


def _has_empty_windows(pool: _Pool) -> bool:
    """Whether a last window begins beyond the image, as Caffe has them without pad where the stride is larger."""
    return any(a >= k for a, k in zip(pool.after, pool.window.kernel, strict=True))


def _pool_attributes(pool: _Pool) -> dict[str, Any]:
    window = pool.window
    return {"kernel_shape": window.kernel, "strides": window.stride, "pads": (*window.pad, *pool.after)}


def _pooled(part: Part, x: str, pool: _Pool, method: int) -> str:
    """`x` pooled by MAX or AVE."""
    attributes = _pool_attributes(pool)
    empty = _has_empty_windows(pool)
    if empty and method == _AVE:
        raise part.error("ONNX cannot say the average of windows that hold no pixel, of which Caffe makes NaN")
    if empty:  # no runtime takes such pads, and what such a window gives has to show
        pads, attributes["pads"] = attributes["pads"], [0] * 4
        x = part.op("Pad", x, part.whole(0, 0, *pads[:2], 0, 0, *pads[2:]), part.number(_LOWEST))
    if method == _MAX:
        return part.op("MaxPool", x, **attributes)
    within = all(a <= p for a, p in zip(pool.after, pool.window.pad, strict=True))
    if not (within or any(pool.window.pad)):
        return part.op("AveragePool", x, **attributes, count_include_pad=0)
    average = part.op("AveragePool", x, **attributes, count_include_pad=1)
    if within:
        return average
    return part.op("Mul", average, part.number(math.prod(pool.window.kernel) / pool.divisors))


@writes("SPP")
def spatial_pyramid(part: Part) -> str:
    """Poolings into 1, 2 x 2, 4 x 4, ... bins; where there are several, flattened and side by side."""
    param = part.param.spp_param
    _refuse_stochastic(part, param.pool)
    image = part.shapes.bottoms[0][2:]
    levels = []
    for level in range(param.pyramid_height):
        window = pyramid_geometry(2**level, image)
        levels.append(_pooled(part, part.bottoms[0], _Pool(window, image, pooled(window, image)), param.pool))
    return levels[0] if len(levels) == 1 else part.op("Concat", *_flat(part, levels), axis=1)


def _flat(part: Part, values: Sequence[str]) -> list[str]:
    return [part.op("Flatten", value, axis=1) for value in values]
