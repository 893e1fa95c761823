"""Convolution, Deconvolution and Crop; pooling.py has Pooling. Here Caffe's `group` becomes `groups=`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.net.layers.vision import DEPTHWISE, conv_geometry, groups

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
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
    settings = {
        "stride": window.stride,
        "padding": window.pad,
        "dilation": window.dilation,
        "groups": groups(unit.layer),
    }

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        bias = unit.blobs[1] if len(unit.blobs) > 1 else None
        return tuple(function(x, unit.blobs[0], bias, **settings) for x in bottoms)

    return run


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
