"""Convolution, pooling and other layers that slide over an image (base_conv_layer.cpp, pooling_layer.cpp, ...).

Of other Caffes: convolutions that are depthwise by their type, whatever `group` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import axis, four_axes, same, size
from rootgen.net.layers.registry import MANY, Shaped, layer_type
from rootgen.text import shape_text

DEPTHWISE = ("DepthwiseConvolution", "ConvolutionDepthwise")
FORWARD_CONVOLUTIONS = ("Convolution", *DEPTHWISE)


class Geometry(NamedTuple):
    """Window of a convolution or a pooling, one number per spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    @property
    def extent(self) -> Shape:
        """Pixels that the dilated kernel spans."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def conv_geometry(layer: Layer, axes: int) -> Geometry:
    """Window of a Convolution, Deconvolution or Im2col over `axes` spatial axes."""
    return Geometry(
        _per_axis(layer, "kernel", "kernel_size", axes, default=None, least=1),
        _per_axis(layer, "stride", "stride", axes, default=1, least=1),
        _per_axis(layer, "pad", "pad", axes, default=0, least=0),
        _per_axis(layer, "dilation", "dilation", axes, default=1, least=1),
    )


def channel_axis_of(layer: Layer) -> int:
    """The axis that a convolution, whose shapes are known, takes its channels from."""
    return int(layer.param.convolution_param.axis) % len(layer.shapes.bottoms[0])


def _per_axis(layer: Layer, name: str, repeated: str, axes: int, *, default: int | None, least: int) -> Shape:
    """A field of ConvolutionParameter as one number per axis: from `repeated`, or from `name`_h and `name`_w."""
    param = layer.param.convolution_param
    values = list(getattr(param, repeated))
    if name != "dilation" and (param.HasField(f"{name}_h") or param.HasField(f"{name}_w")):
        if axes != 2:
            raise layer.error(f"{name}_h and {name}_w are for 2 spatial axes, but the bottom has {axes}")
        if values:
            raise layer.error(f"has {repeated} beside {name}_h and {name}_w (Caffe takes one or the other)")
        return tuple(size(layer, f"{name}_{d}", getattr(param, f"{name}_{d}"), least) for d in "hw")
    if not values and default is not None:
        return (default,) * axes
    if len(values) not in (1, axes):
        raise layer.error(f"has {len(values)} {repeated} for {axes} spatial axes (give one, or one per axis)")
    return tuple(size(layer, repeated, value, least) for value in (values * axes if len(values) == 1 else values))


def channels_and_group(layer: Layer, channels: int) -> tuple[int, int]:
    """(num_output, group) of a convolution on `channels` channels, checked as Caffe does."""
    param = layer.param.convolution_param
    num_output = size(layer, "num_output", param.num_output)
    group = size(layer, "group", param.group)
    for name, value in (("num_output", num_output), ("the number of input channels,", channels)):
        if value % group:
            raise layer.error(
                f"group {group} does not divide {name} {value} (Caffe needs group to divide input and output channels)"
            )
    return num_output, group


def depthwise_outputs(layer: Layer, channels: int) -> tuple[int, int]:
    """(num_output, group) of a convolution whose groups are its channels; num_output is theirs where not given."""
    param = layer.param.convolution_param
    num_output = size(layer, "num_output", param.num_output) if param.num_output else channels
    if num_output % channels:
        raise layer.error(
            f"num_output {num_output} is no multiple of the number of input channels, {channels} "
            f"({layer.type} works on each channel by itself)"
        )
    return num_output, channels


def groups(layer: Layer) -> int:
    """Filter groups of a convolution: of one that is depthwise by its type its channels, num_output while not known."""
    param = layer.param.convolution_param
    if layer.type in DEPTHWISE:
        return layer.shapes.bottoms[0][param.axis] if layer.shapes.bottoms else int(param.num_output) or 1
    return int(param.group)


def _uses_at_outputs(layer: Layer) -> dict[int, int]:
    """Each weight of a convolution meets every position of the output."""
    return {0: sum(map(prod, layer.shapes.tops)) // layer.shapes.params[0][0]}


def _uses_at_inputs(layer: Layer) -> dict[int, int]:
    """Each weight of a deconvolution meets every position of the input."""
    return {0: sum(map(prod, layer.shapes.bottoms)) // layer.shapes.params[0][0]}


@layer_type(
    "Convolution",
    "weights",
    "filters slid over an image, in `group` groups",
    bottoms=(1, MANY),
    tops=(1, MANY),
    v1="CONVOLUTION",
    top_per_bottom=True,
    uses=_uses_at_outputs,
)
@layer_type(
    "DepthwiseConvolution",
    "weights",
    "a convolution of each channel by itself",
    bottoms=(1, MANY),
    tops=(1, MANY),
    top_per_bottom=True,
    uses=_uses_at_outputs,
    origin="MobileNet",
)
@layer_type(
    "ConvolutionDepthwise",
    "weights",
    "a convolution of each channel by itself",
    uses=_uses_at_outputs,
    origin="MobileNet",
)
@layer_type(
    "Deconvolution",
    "weights",
    "a convolution turned round: each input value spreads a filter",
    bottoms=(1, MANY),
    tops=(1, MANY),
    v1="DECONVOLUTION",
    top_per_bottom=True,
    uses=_uses_at_inputs,
)
def convolution(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Weights: (num_output, channels/group, kernel...), for Deconvolution (channels, num_output/group, kernel...)."""
    same(layer, bottoms)
    bottom = bottoms[0]
    param = layer.param.convolution_param
    channel_axis = axis(layer, param.axis, bottom)
    spatial = bottom[channel_axis + 1 :]
    geometry = conv_geometry(layer, len(spatial))
    channels = bottom[channel_axis]
    counts = depthwise_outputs if layer.type in DEPTHWISE else channels_and_group
    num_output, group = counts(layer, channels)
    reverse = layer.type == "Deconvolution"
    out = _deconvolved(geometry, spatial) if reverse else _convolved(layer, geometry, spatial)
    rows, columns = (channels, num_output) if reverse else (num_output, channels)
    params: tuple[Shape, ...] = ((rows, columns // group, *geometry.kernel),)
    if param.bias_term:
        params += ((num_output,),)
    return Shaped(((*bottom[:channel_axis], num_output, *out),) * len(bottoms), params)


def _convolved(layer: Layer, geometry: Geometry, spatial: Shape) -> Shape:
    """Output size, rounded down."""
    sizes = []
    for length, extent, stride, pad in zip(spatial, geometry.extent, geometry.stride, geometry.pad, strict=True):
        room = length + 2 * pad - extent
        if room < 0:
            raise layer.error(
                f"its kernel spans {extent} pixels, more than the padded input has ({length} + 2*{pad})",
                "a smaller kernel, more pad or a larger input",
            )
        sizes.append(room // stride + 1)
    return tuple(sizes)


def _deconvolved(geometry: Geometry, spatial: Shape) -> Shape:
    return tuple(
        stride * (length - 1) + extent - 2 * pad
        for length, extent, stride, pad in zip(spatial, geometry.extent, geometry.stride, geometry.pad, strict=True)
    )


@layer_type("Im2col", "arrange", "the windows that a convolution sees, laid out as channels", v1="IM2COL")
def im2col(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    channel_axis = axis(layer, layer.param.convolution_param.axis, bottom)
    spatial = bottom[channel_axis + 1 :]
    if not spatial:
        raise layer.error(f"needs a spatial axis after axis {channel_axis} of its bottom {shape_text(bottom)}")
    geometry = conv_geometry(layer, len(spatial))
    channels = bottom[channel_axis]
    for kernel in geometry.kernel:
        channels *= kernel
    return Shaped(((*bottom[:channel_axis], channels, *_convolved(layer, geometry, spatial)),))


def pool_geometry(layer: Layer, bottom: Shape) -> Geometry:
    """Window of a Pooling over the N x C x H x W `bottom`; global pooling takes the whole map."""
    param = layer.param.pooling_param
    kernel = tuple(bottom[2:]) if param.global_pooling else _one_or_two(layer, "kernel", "kernel_size", 1)
    stride = _one_or_two(layer, "stride", "stride", 1)
    pad = _one_or_two(layer, "pad", "pad", 0)
    if param.global_pooling:
        if param.HasField("kernel_size") or param.HasField("kernel_h") or param.HasField("kernel_w"):
            raise layer.error("has global_pooling and a kernel size (the kernel is the whole map)", "drop one of them")
        if stride != (1, 1) or pad != (0, 0):
            raise layer.error(f"global_pooling goes with stride 1 and pad 0, not stride {stride[0]} and pad {pad[0]}")
    if pad != (0, 0) and param.pool == 2:
        raise layer.error("pad is for MAX and AVE pooling, not for STOCHASTIC")
    for p, k in zip(pad, kernel, strict=True):
        if p and p >= k:
            raise layer.error(f"pad {p} is not smaller than the kernel {k}")
    return Geometry(kernel, stride, pad, (1, 1))


def _one_or_two(layer: Layer, name: str, single: str, least: int) -> Shape:
    """A field of PoolingParameter for height and width: from `single`, or from `name`_h and `name`_w together."""
    param = layer.param.pooling_param
    given = [param.HasField(f"{name}_h"), param.HasField(f"{name}_w")]
    if any(given):
        if not all(given) or param.HasField(single):
            raise layer.error(f"needs either {single}, or {name}_h and {name}_w together")
        return tuple(size(layer, f"{name}_{d}", getattr(param, f"{name}_{d}"), least) for d in "hw")
    return (size(layer, single, getattr(param, single), least),) * 2


def pooled(geometry: Geometry, spatial: Sequence[int], *, ceil: bool = True) -> Shape:
    """Output size of a pooling: rounded up, less a last window that would start beyond the padded image."""
    sizes = []
    for length, kernel, stride, pad in zip(spatial, geometry.kernel, geometry.stride, geometry.pad, strict=True):
        room = length + 2 * pad - kernel
        out = (-(-room // stride) if ceil else room // stride) + 1
        if any(geometry.pad) and (out - 1) * stride >= length + pad:
            out -= 1
        sizes.append(out)
    return tuple(sizes)


@layer_type("Pooling", "pixels", "the maximum or average of windows of each channel", tops=(1, 2), v1="POOLING")
def pooling(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = four_axes(layer, bottoms[0])
    param = layer.param.pooling_param
    if len(layer.tops) > 1 and param.pool != 0:
        raise layer.error("has 2 top, but only MAX pooling gives a second one (the mask)")
    geometry = pool_geometry(layer, bottom)
    out = pooled(geometry, bottom[2:], ceil=param.round_mode == 0)
    return Shaped(((bottom[0], bottom[1], *out),) * len(layer.tops))


def pyramid_geometry(bins: int, spatial: Sequence[int]) -> Geometry:
    """Window that cuts an image into `bins` each way: so large that they cover it, with what is over for pad.

    Rounded up (GetPoolingParam in spp_layer.cpp), the pad of both sides may be a pixel too much; the last bins are
    then smaller, or one fewer.
    """
    kernel = tuple(-(-length // bins) for length in spatial)
    pad = tuple((k * bins - length + 1) // 2 for k, length in zip(kernel, spatial, strict=True))
    return Geometry(kernel, kernel, pad, (1, 1))


@layer_type("SPP", "arrange", "spatial pyramid pooling: into 1, 4, 16, ... bins, side by side")
def spatial_pyramid(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Poolings into 1, 2x2, 4x4, ... bins; flattened and side by side where there are several."""
    num, channels, *spatial = four_axes(layer, bottoms[0])
    levels = size(layer, "pyramid_height", layer.param.spp_param.pyramid_height)
    if levels > 31:
        raise layer.error(f"pyramid_height {levels} has bins beyond any image")
    total = 0
    for level in range(levels):
        window = pyramid_geometry(2**level, spatial)
        for p, k in zip(window.pad, window.kernel, strict=True):
            if p and p >= k:
                raise layer.error(
                    f"pyramid_height {levels} has more bins than its bottom {shape_text(bottoms[0])} has pixels"
                )
        out = pooled(window, spatial)
        if levels == 1:
            return Shaped(((num, channels, *out),))
        total += channels * out[0] * out[1]
    return Shaped(((num, total),))


@layer_type("Crop", "pixels", "its first bottom cut to the size of its second", bottoms=2)
def crop(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """The first bottom, cut from `axis` on to the sizes of the second."""
    data, like = bottoms
    param = layer.param.crop_param
    start = axis(layer, param.axis, data)
    offsets = list(param.offset)
    if len(offsets) > 1 and len(offsets) != len(data) - start:
        raise layer.error(f"has {len(offsets)} offset for {len(data) - start} axes (give one, or one per axis)")
    if len(like) < len(data):
        raise layer.error(f"its second bottom {shape_text(like)} has fewer axes than its first, {shape_text(data)}")
    for i in range(start, len(data)):
        offset = 0 if not offsets else offsets[0] if len(offsets) == 1 else offsets[i - start]
        if offset + like[i] > data[i]:
            raise layer.error(f"on axis {i}, offset {offset} and size {like[i]} go beyond the bottom's {data[i]}")
    return Shaped(((*data[:start], *like[start : len(data)]),))
