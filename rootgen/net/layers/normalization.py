"""LRN, MVN and BatchNorm (lrn_layer.cpp, mvn_layer.cpp, batch_norm_layer.cpp); BN of SegNet and PSPNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import channels_of, four_axes, legacy, size
from rootgen.net.layers.registry import Shaped, layer_type


@layer_type("LRN", "pass", "local response normalization, across channels or within each", v1="LRN")
def lrn(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    if size(layer, "local_size", layer.param.lrn_param.local_size) % 2 == 0:
        raise layer.error(f"local_size {layer.param.lrn_param.local_size} is even (LRN needs an odd one)")
    return Shaped((four_axes(layer, bottoms[0]),))


@layer_type(
    "MVN", "per channel", "subtracts the mean of each image, divides by its deviation", v1="MVN", needs_images=True
)
def mvn(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    return Shaped((legacy(layer, bottoms[0]),))


@layer_type("BatchNorm", "per channel", "subtracts the batch's mean, divides by its deviation", statistics=True)
def batch_norm(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Statistics: means (C), variances (C), and the factor (1) by which both are scaled."""
    channels = channels_of(layer, bottoms[0])
    return Shaped((bottoms[0],), ((channels,), (channels,), (1,)))


def is_segnets_bn(param: Any) -> bool:
    """Whether a BN layer is SegNet's, which keeps no statistics, and not PSPNet's: its fields or two blobs tell."""
    names = ("scale_filler", "shift_filler", "bn_mode")
    return len(param.blobs) == 2 or any(param.bn_param.HasField(name) for name in names)


def _bn_statistics(layer: Layer) -> tuple[int, ...]:
    return () if is_segnets_bn(layer.param) else (2, 3)


@layer_type(
    "BN",
    "per channel",
    "BatchNorm and Scale in one",
    statistics=_bn_statistics,
    origin="SegNet, PSPNet",
)
def batch_norm_and_scale(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Slope and bias; in PSPNet's form running mean and variance too: each 1 x C x 1 x 1."""
    blob = (1, channels_of(layer, bottoms[0]), 1, 1)
    return Shaped((bottoms[0],), (blob,) * (2 if is_segnets_bn(layer.param) else 4))
