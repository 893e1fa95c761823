"""Pooling by Caffe's rules (pooling_layer.cpp), whose output size is Shapes' business.

PyTorch's pooling is the same wherever its output has the size that Caffe gives and `pad` is at most half the
window: both leave padding out of a maximum, and divide an average by the window as far as it lies in the padded
image. Elsewhere the padding is written out and the divisor counted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.net.graph import Shape
from rootgen.net.layers.vision import pool_geometry

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
