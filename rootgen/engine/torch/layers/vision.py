"""Layers that slide over an image: Convolution, Deconvolution, Pooling, SPP, Im2col, Crop. `group` becomes `groups=`.

PyTorch's pooling is Caffe's wherever its output has the size that Caffe gives and `pad` is at most half the window:
both leave padding out of a maximum, and divide an average by the window as far as it lies in the padded image.
Elsewhere the padding is written out and the divisor counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.net.graph import Shape
from rootgen.net.layers.vision import (
    DEPTHWISE,
    Geometry,
    conv_geometry,
    groups,
    pool_geometry,
    pooled,
    pyramid_geometry,
)

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_LARGE_MAP = 512  # pixels, from which on _as_rows pays
_DECONVOLVE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _convolution_fillers(param: Any) -> list[Any]:
    return [param.convolution_param.weight_filler, param.convolution_param.bias_filler]


@builds("Convolution", *DEPTHWISE, fillers=_convolution_fillers, output_is_free=True)
def convolution(unit: Unit) -> Run:
    return _each_bottom(unit, _CONVOLVE)


@builds("Deconvolution", fillers=_convolution_fillers, output_is_free=True)
def deconvolution(unit: Unit) -> Run:
    return _each_bottom(unit, _DECONVOLVE)


def _each_bottom(unit: Unit, functions: dict[int, Any]) -> Run:
    """The convolution applied to every bottom, as Caffe does with the same weights."""
    axes = len(unit.bottoms[0]) - 2
    if axes not in functions or unit.axis(unit.param.convolution_param.axis) != 1:
        raise unit.error(
            f"convolution of a blob with {axes + 2} axes along axis {unit.param.convolution_param.axis} is not "
            "implemented (axis 1 of 3 to 5)"
        )
    function = functions[axes]
    window = conv_geometry(unit.layer, axes)
    by_pixel = axes == 2 and groups(unit.layer) == 1 and window[:3] == ((1, 1), (1, 1), (0, 0))
    settings = {
        "stride": window.stride,
        "padding": window.pad,
        "dilation": window.dilation,
        "groups": groups(unit.layer),
    }

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        weights, bias = unit.blobs[0], unit.blobs[1] if len(unit.blobs) > 1 else None
        if by_pixel and weights.requires_grad and weights.device.type == "cpu":
            return tuple(_as_rows(x, weights, bias) for x in bottoms)
        return tuple(function(x, weights, bias, **settings) for x in bottoms)

    return run


def _as_rows(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution of images, each seen as one row of pixels where its channels are last in memory.

    oneDNN takes up to a third less time so for the weights' gradient on large maps (benchmarks/engine.md).
    """
    n, channels, height, width = x.shape
    if height * width < _LARGE_MAP or not x.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(x, weights, bias)
    rows = x.permute(0, 2, 3, 1).view(n, 1, height * width, channels).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weights, bias)
    return out.permute(0, 2, 3, 1).reshape(n, height, width, -1).permute(0, 3, 1, 2)


@builds("Crop")
def crop(unit: Unit) -> Run:
    param = unit.param.crop_param
    first = unit.axis(param.axis)
    offsets = list(param.offset) or [0]
    offsets *= len(unit.bottoms[0]) - first if len(offsets) == 1 else 1

    def run(x: Tensor, like: Tensor) -> Tensor:
        for axis, offset in enumerate(offsets, first):
            x = x.narrow(axis, offset, like.shape[axis])
        return x

    return run


_MAX, _AVE, _STOCHASTIC = 0, 1, 2
_LOWEST = torch.finfo(torch.float32).min


class Window(NamedTuple):
    """A pooling's window, and the size of its tops, as (height, width)."""

    kernel: Shape
    stride: Shape
    pad: Shape
    size: Shape


@builds("Pooling")
def pooling(unit: Unit) -> Run:
    param = unit.param.pooling_param
    if param.pool == _STOCHASTIC:
        raise unit.error("STOCHASTIC pooling is not implemented (neither is it in Caffe on the CPU)", "use MAX or AVE")
    geometry = pool_geometry(unit.layer, unit.bottoms[0])
    window = Window(geometry.kernel, geometry.stride, geometry.pad, unit.tops[0][2:])
    if param.global_pooling and len(unit.tops) == 1:
        reduce = torch.mean if param.pool == _AVE else torch.amax
        return lambda x: reduce(x, (2, 3), keepdim=True)
    ceil = _native_rounding(unit.bottoms[0][2:], window)
    if len(unit.tops) > 1:
        if ceil is None:
            raise unit.error("the mask of a pooling with such a pad or stride is not implemented")
        return lambda x: _with_mask(x, window, ceil)
    if ceil is None:
        written = _written_max if param.pool == _MAX else _written_average
        return lambda x: written(x, window)
    function = F.max_pool2d if param.pool == _MAX else F.avg_pool2d
    return lambda x: function(x, window.kernel, window.stride, window.pad, ceil_mode=ceil)


def _native_rounding(image: Shape, window: Window) -> bool | None:
    """The ceil_mode with which PyTorch gives tops of the window's size, or None where it cannot."""
    if any(2 * p > k for p, k in zip(window.pad, window.kernel, strict=True)):
        return None
    probe = torch.empty((1, 1, *image), device="meta")
    fits = all(k <= length + 2 * p for length, p, k in zip(image, window.pad, window.kernel, strict=True))
    for ceil in (False, True) if fits else (True,):  # rounded down, a larger window has no place, which PyTorch refuses
        if F.max_pool2d(probe, window.kernel, window.stride, window.pad, ceil_mode=ceil).shape[2:] == window.size:
            return ceil
    return None


def _with_mask(x: Tensor, window: Window, ceil: bool) -> tuple[Tensor, Tensor]:
    top, mask = F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=ceil, return_indices=True)
    return top, mask.to(x.dtype)


def _padded(x: Tensor, window: Window, value: float) -> Tensor:
    """`x` with the padding written out, as far as the last window reaches."""
    reach = [(n - 1) * s + k for n, s, k in zip(window.size, window.stride, window.kernel, strict=True)]
    after = [r - p - length for r, p, length in zip(reach, window.pad, x.shape[2:], strict=True)]
    return F.pad(x, (window.pad[1], after[1], window.pad[0], after[0]), value=value)


def _written_max(x: Tensor, window: Window) -> Tensor:
    return F.max_pool2d(_padded(x, window, _LOWEST), window.kernel, window.stride)


def _written_average(x: Tensor, window: Window) -> Tensor:
    sums = F.avg_pool2d(_padded(x, window, 0), window.kernel, window.stride, divisor_override=1)
    rows, columns = (_extent(*axis).to(x) for axis in zip(x.shape[2:], *window, strict=True))
    return sums / (rows[:, None] * columns)


def _extent(length: int, kernel: int, stride: int, pad: int, count: int) -> Tensor:
    """How much of each window along one axis lies in the padded image (1 where none does)."""
    start = torch.arange(count) * stride - pad
    return ((start + kernel).clamp(max=length + pad) - start).clamp(min=1)


def _window(geometry: Geometry, image: Shape) -> Window:
    """The window of a pooling of images of H x W."""
    return Window(geometry.kernel, geometry.stride, geometry.pad, pooled(geometry, image))


@builds("Im2col")
def im2col(unit: Unit) -> Run:
    """The windows of a convolution over any number of spatial axes: ... x C x H x W to ... x (C kh kw) x H' x W'."""
    channels = unit.axis(unit.param.convolution_param.axis)
    axes = len(unit.bottoms[0]) - channels - 1
    window = conv_geometry(unit.layer, axes)
    padding = [side for pad in reversed(window.pad) for side in (pad, pad)]  # F.pad begins with the last axis

    def run(x: Tensor) -> Tensor:
        lead = x.shape[: channels + 1]
        x = F.pad(x, padding)
        for i, (extent, stride, dilation) in enumerate(zip(window.extent, window.stride, window.dilation, strict=True)):
            x = x.unfold(channels + 1 + i, extent, stride)[..., ::dilation]
        places = x.shape[channels + 1 : channels + 1 + axes]
        for i in range(axes):  # ... C H' W' kh kw to ... C kh kw H' W'
            x = x.movedim(channels + 1 + axes + i, channels + 1 + i)
        return x.reshape(*lead[:-1], lead[-1] * math.prod(window.kernel), *places)

    return run


@builds("SPP")
def spatial_pyramid(unit: Unit) -> Run:
    """Poolings into 1, 2 x 2, 4 x 4, ... bins; where there are several, flattened and side by side: N x sum(C h w)."""
    param = unit.param.spp_param
    if param.pool == _STOCHASTIC:
        raise unit.error("STOCHASTIC pooling is not implemented (neither is it in Caffe on the CPU)", "use MAX or AVE")
    image = unit.bottoms[0][2:]
    bins = (2**level for level in range(param.pyramid_height))
    levels = [_pool(_window(pyramid_geometry(count, image), image), image, param.pool) for count in bins]
    if len(levels) == 1:
        return levels[0]
    return lambda x: torch.cat([level(x).flatten(1) for level in levels], 1)


def _pool(window: Window, image: Shape, method: int) -> Callable[[Tensor], Tensor]:
    """Caffe's pooling of images of H x W, by PyTorch's wherever that gives the same."""
    ceil = _native_rounding(image, window)
    if ceil is None:
        written = _written_max if method == _MAX else _written_average
        return lambda x: written(x, window)
    function = F.max_pool2d if method == _MAX else F.avg_pool2d
    return lambda x: function(x, window.kernel, window.stride, window.pad, ceil_mode=ceil)
