"""Layers with weights: Convolution, Deconvolution, InnerProduct, Embed. Here Caffe's `group` becomes `groups=`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.unit import Run, Unit, builds
from rootgen.shape_rules.spatial import conv_geometry

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_DECONVOLVE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _convolution_fillers(param: Any) -> list[Any]:
    return [param.convolution_param.weight_filler, param.convolution_param.bias_filler]


@builds("Convolution", fillers=_convolution_fillers)
def convolution(unit: Unit) -> Run:
    return _each_bottom(unit, _CONVOLVE)


@builds("Deconvolution", fillers=_convolution_fillers)
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
        "groups": unit.param.convolution_param.group,
    }

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        bias = unit.blobs[1] if len(unit.blobs) > 1 else None
        return tuple(function(x, unit.blobs[0], bias, **settings) for x in bottoms)

    return run


@builds(
    "InnerProduct",
    fillers=lambda param: [param.inner_product_param.weight_filler, param.inner_product_param.bias_filler],
)
def inner_product(unit: Unit) -> Run:
    param = unit.param.inner_product_param
    axis = unit.axis(param.axis)

    def run(x: Tensor) -> Tensor:
        weight = unit.blobs[0].t() if param.transpose else unit.blobs[0]
        return F.linear(x.flatten(axis), weight, unit.blobs[1] if param.bias_term else None)

    return run


@builds("Embed", fillers=lambda param: [param.embed_param.weight_filler, param.embed_param.bias_filler])
def embed(unit: Unit) -> Run:
    rows = unit.param.embed_param.input_dim

    def run(x: Tensor) -> Tensor:
        index = x.long()
        if bool(((index < 0) | (index >= rows)).any()):
            raise unit.error(f"indices {int(index.min())} to {int(index.max())}: outside 0 to {rows - 1} (input_dim)")
        out = F.embedding(index, unit.blobs[0])
        return out + unit.blobs[1] if unit.param.embed_param.bias_term else out

    return run


def channels_last(weight: Tensor) -> Tensor:
    """A convolution's weights laid out for images that have their channels last in memory."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight
