"""Im2col and SPP: layers that slide over an image beside Convolution and Pooling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.pooling import Window, _native_rounding, _written_average, _written_max
from rootgen.engine.torch.unit import Run, Unit, builds
from rootgen.shape_rules.spatial import Geometry, conv_geometry, pooled
from rootgen.shapes import Shape

_MAX, _STOCHASTIC = 0, 2  # SPPParameter.PoolMethod


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
    levels = [_pool(_bins(2**level, image), image, param.pool) for level in range(param.pyramid_height)]
    if len(levels) == 1:
        return levels[0]
    return lambda x: torch.cat([level(x).flatten(1) for level in levels], 1)


def _bins(count: int, image: Shape) -> Window:
    """The window that cuts an image into `count` bins each way: so large that they cover it, with what is over for pad.

    Rounded up (GetPoolingParam in spp_layer.cpp), the pad of both sides may be a pixel too much; the last bins are
    then smaller, or one fewer.
    """
    kernel = tuple(math.ceil(length / count) for length in image)
    pad = tuple((k * count - length + 1) // 2 for k, length in zip(kernel, image, strict=True))
    return Window(kernel, kernel, pad, pooled(Geometry(kernel, kernel, pad, (1, 1)), image))


def _pool(window: Window, image: Shape, method: int) -> Callable[[Tensor], Tensor]:
    """Caffe's pooling of images of H x W, by PyTorch's wherever that gives the same."""
    ceil = _native_rounding(image, window)
    if ceil is None:
        written = _written_max if method == _MAX else _written_average
        return lambda x: written(x, window)
    function = F.max_pool2d if method == _MAX else F.avg_pool2d
    return lambda x: function(x, window.kernel, window.stride, window.pad, ceil_mode=ceil)
