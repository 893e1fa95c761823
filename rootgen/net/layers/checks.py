"""What the shape rules share: Caffe's checks of axes, sizes and counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.registry import Shaped
from rootgen.text import SIZE_MAX, shape_text

MAX_AXES = 32


def axis(layer: Layer, index: int, shape: Shape | int, name: str = "axis") -> int:
    """`index` as a place in `shape`, or among so many axes; negative ones count from the end (CanonicalAxisIndex)."""
    axes = shape if isinstance(shape, int) else len(shape)
    if not -axes <= index < axes:
        sizes = "" if isinstance(shape, int) else f" ({shape_text(shape)})"
        raise layer.error(f"{name} {index} is out of range for a bottom of {axes} axes{sizes}")
    return index % axes


def size(layer: Layer, name: str, value: int, least: int = 1) -> int:
    """`value` of field `name`, which Caffe needs to be `least` or more and a C int."""
    if value < least:
        raise layer.error(f"{name} is {value}, but has to be {least} or more")
    if value > SIZE_MAX:
        raise layer.error(f"{name} is {value}, beyond Caffe's limit of {SIZE_MAX}")
    return value


def check_blob(layer: Layer, what: str, shape: Shape) -> None:
    """Refuse a blob that has an empty axis, over 32 axes, or over SIZE_MAX values."""
    if any(dim < 1 for dim in shape):
        raise layer.error(
            f"{what} would be {shape_text(shape)} (each size has to be 1 or more)", "is the input too small?"
        )
    if len(shape) > MAX_AXES:
        raise layer.error(f"{what} would have {len(shape)} axes (Caffe takes at most {MAX_AXES})")
    if prod(shape) > SIZE_MAX:
        raise layer.error(f"{what} would be {shape_text(shape)}, over Caffe's limit of {SIZE_MAX} values per blob")


def four_axes(layer: Layer, shape: Shape) -> Shape:
    """`shape`, which has to be N x C x H x W."""
    if len(shape) != 4:
        raise layer.error(f"takes a bottom of 4 axes (N x C x H x W), not {shape_text(shape)}")
    return shape


def legacy(layer: Layer, shape: Shape) -> Shape:
    """`shape` with ones added up to four axes, as Caffe's num(), channels(), height() and width() see it."""
    if len(shape) > 4:
        raise layer.error(f"takes a bottom of at most 4 axes, not {shape_text(shape)}")
    return shape + (1,) * (4 - len(shape))


def same(layer: Layer, shapes: Sequence[Shape]) -> None:
    """Refuse bottoms that differ in shape."""
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise layer.error(
                f"bottom '{layer.bottoms[0]}' is {shape_text(shapes[0])}, but bottom '{layer.bottoms[i]}' is "
                f"{shape_text(shape)} ({layer.type} needs equal shapes)"
            )


def blob_shape(layer: Layer, what: str, message: Any) -> Shape:
    """The shape that a BlobShape message gives, checked."""
    shape = tuple(message.dim)
    check_blob(layer, what, shape)
    return shape


def stored_shape(blob: Any) -> Shape:
    """Shape of a BlobProto, in today's form or as num, channels, height, width."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    legacy_fields = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy_fields):
        return tuple(getattr(blob, name) for name in legacy_fields)
    return (len(blob.data) or len(blob.double_data),)


def unknown(layer: Layer, why: str, hint: str) -> RootgenError:
    """The error for a shape that nothing in the net or beside it tells."""
    return layer.error(f"the shape of its tops cannot be known: {why}", hint)


def channels_of(layer: Layer, shape: Shape) -> int:
    """The channels of a bottom, which are on its second axis."""
    if len(shape) < 2:
        raise layer.error(f"takes a bottom of 2 axes or more, not {shape_text(shape)}")
    return shape[1]


def same_shape(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """The rule of a layer whose top has its bottom's shape, and that has nothing to learn."""
    del layer
    return Shaped((bottoms[0],))


def not_in_place(layer: Layer) -> None:
    """Refuse a top that is the layer's bottom, for a type whose backward pass needs both (Caffe checks a few)."""
    if layer.bottoms[0] in layer.tops:
        raise layer.error(f"{layer.type} cannot work in place", "give its top another name")
