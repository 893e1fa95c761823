"""Layers of the Caffes that find objects: Fast R-CNN, R-FCN and SSD."""

from __future__ import annotations

from collections.abc import Sequence

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import channels_of, four_axes, size
from rootgen.net.layers.registry import MANY, Shaped, layer_type
from rootgen.text import shape_text


def _regions(layer: Layer, shape: Shape) -> int:
    """How many regions a bottom of (image, x1, y1, x2, y2) per region names; trailing axes of 1 are no matter."""
    count, *rest = shape or (0,)
    if rest[:1] != [5] or any(dim != 1 for dim in rest[1:]):
        raise layer.error(f"takes regions of 5 numbers each, (image, x1, y1, x2, y2), not {shape_text(shape)}")
    return count


@layer_type("ROIPooling", "arrange", "the maxima of a grid of bins on each region", bottoms=2, origin="Fast R-CNN")
def roi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.roi_pooling_param
    channels = four_axes(layer, bottoms[0])[1]
    grid = size(layer, "pooled_h", param.pooled_h), size(layer, "pooled_w", param.pooled_w)
    return Shaped(((_regions(layer, bottoms[1]), channels, *grid),))


@layer_type(
    "PSROIPooling",
    "arrange",
    "averages of bins on each region, each of a channel of its own",
    bottoms=2,
    origin="R-FCN",
)
def psroi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.psroi_pooling_param
    channels = four_axes(layer, bottoms[0])[1]
    outputs, grid = size(layer, "output_dim", param.output_dim), size(layer, "group_size", param.group_size)
    if channels != outputs * grid * grid:
        raise layer.error(
            f"has {channels} channels, not output_dim {outputs} times group_size {grid} squared ({outputs * grid**2})"
        )
    return Shaped(((_regions(layer, bottoms[1]), outputs, grid, grid),))


def aspect_ratios(layer: Layer) -> list[float]:
    """The ratios of width to height of a PriorBox's boxes: 1, those given, and with `flip` their inverses."""
    param = layer.param.prior_box_param
    ratios = [1.0]
    for ratio in param.aspect_ratio:
        if not ratio > 0:
            raise layer.error(f"aspect_ratio is {ratio:g}, but has to be above 0")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flip else [ratio]
    return ratios


@layer_type("PriorBox", "data", "the boxes that a map's pixels stand for", bottoms=2, self_made=True, origin="SSD")
def prior_box(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """1 x 2 x 4 numbers per box: its corners, and the variances by which offsets from it are scaled."""
    param = layer.param.prior_box_param
    height, width = four_axes(layer, bottoms[0])[2:]
    four_axes(layer, bottoms[1])
    if not param.min_size or not all(length > 0 for length in param.min_size):
        raise layer.error("needs min_size, above 0")
    if len(param.max_size) not in (0, len(param.min_size)):
        raise layer.error(f"has {len(param.max_size)} max_size for {len(param.min_size)} min_size (none, or one each)")
    for least, most in zip(param.min_size, param.max_size, strict=False):
        if most <= least:
            raise layer.error(f"max_size {most:g} is not above min_size {least:g}")
    if len(param.variance) not in (0, 1, 4):
        raise layer.error(f"has {len(param.variance)} variance (none, one, or four)")
    boxes = len(param.min_size) * len(aspect_ratios(layer)) + len(param.max_size)
    return Shaped(((1, 2, height * width * boxes * 4),))


@layer_type("DetectionOutput", "score", "the boxes that are left, best first", bottoms=(3, MANY), origin="SSD")
def detection_output(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """1 x 1 x boxes x 7; how many boxes only running it tells, and a net says 1 before (detection_output_layer.cpp)."""
    del layer, bottoms
    return Shaped(((1, 1, 1, 7),))


@layer_type("Normalize", "pass", "divided by the length of all channels, times a learnt factor", origin="SSD")
def normalize(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    channels = channels_of(layer, bottoms[0])
    return Shaped((bottoms[0],), ((),) if layer.param.norm_param.channel_shared else ((channels,),))
