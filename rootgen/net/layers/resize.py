"""Maps made larger or smaller, as SegNet's, DeepLab's and the YOLO nets' Caffes do without weights."""

from __future__ import annotations

from collections.abc import Sequence

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import four_axes, size
from rootgen.net.layers.registry import Shaped, layer_type
from rootgen.text import shape_text


@layer_type(
    "Upsample",
    "pixels",
    "pixels repeated; with a second bottom, the mask of a pooling, each put where the maximum was",
    bottoms=(1, 2),
    origin="SegNet",
)
def upsample(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """`scale` times the size, less a pixel where pad_out says so; or upsample_h x upsample_w."""
    param = layer.param.upsample_param
    num, channels, *spatial = four_axes(layer, bottoms[0])
    if len(bottoms) > 1 and bottoms[1] != bottoms[0]:
        raise layer.error(
            f"its mask '{layer.bottoms[1]}' is {shape_text(bottoms[1])}, not {shape_text(bottoms[0])} as its bottom"
        )
    if not any(param.HasField(name) for name in ("scale", "scale_h", "scale_w", "upsample_h", "upsample_w")):
        raise layer.error("gives no scale (and other Caffes differ in what it then is)")
    out = []
    for d, length in zip("hw", spatial, strict=True):
        if param.HasField(f"upsample_{d}"):
            out.append(size(layer, f"upsample_{d}", getattr(param, f"upsample_{d}")))
        else:
            name = f"scale_{d}" if param.HasField(f"scale_{d}") else "scale"
            out.append(length * size(layer, name, getattr(param, name)) - getattr(param, f"pad_out_{d}"))
    return Shaped(((num, channels, *out),))


@layer_type("Interp", "pixels", "bilinear interpolation to another size", origin="DeepLab")
def interp(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """To height x width; or the corners kept and every shrink_factor-th pixel, zoom_factor steps between pixels."""
    param = layer.param.interp_param
    num, channels, *spatial = four_axes(layer, bottoms[0])
    for name in ("pad_beg", "pad_end"):
        if getattr(param, name) > 0:
            raise layer.error(f"{name} is {getattr(param, name)}, but has to be 0 or less (pixels cut off)")
    inner = [length + param.pad_beg + param.pad_end for length in spatial]
    if min(inner) < 1:
        raise layer.error(f"pad_beg and pad_end leave nothing of {shape_text(bottoms[0])}")
    shrinks, zooms = param.HasField("shrink_factor"), param.HasField("zoom_factor")
    if param.HasField("height") and param.HasField("width") and shrinks == zooms:  # both factors count without a size
        return Shaped(((num, channels, size(layer, "height", param.height), size(layer, "width", param.width)),))
    if not (shrinks or zooms):
        raise layer.error("gives neither height and width, nor zoom_factor or shrink_factor")
    shrink = size(layer, "shrink_factor", param.shrink_factor)
    zoom = size(layer, "zoom_factor", param.zoom_factor)
    return Shaped(((num, channels, *(((length - 1) // shrink) * zoom + 1 for length in inner)),))
