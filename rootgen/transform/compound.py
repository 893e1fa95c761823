"""A convolution of a prototxt made several side by side: filter groups of given sizes, or a basis of kernels.

In plain Caffe: a Slice hands each group its input channels (a basis reads all of them), a Convolution each makes the
outputs, and a Concat puts these side by side under the name of the layer's top, so that no other layer has to change.
Each convolution is a copy of the layer's own text with what differs changed: fillers, learning rates and rules stay.

The kernels of a basis are filled by msra, for each counts its own inputs: all outputs have the variance that the whole
kernel's would have, and so has the gradient that they send back. Behind a basis that nothing combines a 1x1 convolution
goes in without a ReLU before it, filled by xavier, which keeps the variance of what it combines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rootgen.compound import Basis, Shaped, Sizes
from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.vision import conv_geometry
from rootgen.proto.scanner import Field
from rootgen.transform import edit
from rootgen.transform.edit import Edit
from rootgen.transform.result import Change

FILLER = 'weight_filler { type: "msra" }'


class Part(NamedTuple):
    """One of the convolutions: what its name and top have behind the layer's, its outputs, its kernel in a basis."""

    suffix: str
    num_output: int
    kernel: Shaped | None = None


def parts_of(change: Change) -> list[Part]:
    """The convolutions that stand for a layer; none where it stays one."""
    if change.basis:
        return [Part(f"_{one.height}x{one.width}", one.num_output, one) for one in change.basis]
    return [Part(f"_group{i}", size) for i, size in enumerate(change.sizes.outputs, 1)] if change.sizes else []


def names_of_groups(layer: str, sizes: Sizes) -> list[str]:
    """The names of the convolutions that stand for a layer with groups of these sizes."""
    return [f"{layer}_group{i}" for i, _ in enumerate(sizes.outputs, 1)]


def kernels(layer: Layer, basis: Basis, group: int) -> tuple[Shaped, ...]:
    """The kernels of `basis` for a layer in `group` groups; RootgenError where the output size would be another."""
    if len(layer.shapes.bottoms[0]) != 4:
        raise RootgenError(f"a basis is for 2 spatial axes, and it has {len(layer.shapes.bottoms[0]) - 2}")
    height, width = conv_geometry(layer, 2).kernel
    found = basis.split((height, width), layer.param.convolution_param.num_output, group)
    for one in found:
        pads(layer, one)
    return found


def pads(layer: Layer, kernel: Shaped) -> tuple[int, int]:
    """Pad of a smaller kernel in the middle of the layer's own; RootgenError where it has no place there."""
    window = conv_geometry(layer, 2)
    found = []
    for own, size, pad, dilation in zip(window.kernel, kernel[:2], window.pad, window.dilation, strict=True):
        less = (own - size) * dilation
        where = f"a kernel of {kernel.height}x{kernel.width} in its {window.kernel[0]}x{window.kernel[1]}"
        if less < 0 or less % 2:
            raise RootgenError(f"{where} is {'larger' if less < 0 else 'not in the middle'}")
        if less // 2 > pad:
            raise RootgenError(f"{where} needs a pad of {less // 2} or more, and it has {pad}")
        found.append(pad - less // 2)
    return found[0], found[1]


def obstacle(change: Change, nets: Mapping[str, Net]) -> str:
    """Why a layer cannot be made several; "" where it can."""
    layer = change.layer
    if not layer.param.name:
        return "it has no name, after which they would be called"
    if layer.bottoms == layer.tops:
        return "it works in place"
    if len(layer.bottoms) != 1 or len(layer.tops) != 1 or layer.param.convolution_param.axis != 1:
        return "it has several bottoms or tops, or its channels are not on axis 1"
    layers, blobs, shared = names_of(change)
    others = [other for net in nets.values() for other in net.layers]
    for kind, wanted, known in (
        ("layer", layers, {other.name for other in others}),
        ("blob", blobs, {blob for net in nets.values() for blob in net.blobs}),
        ("param", shared, {spec.name for other in others for spec in other.param.param}),
    ):
        for name in wanted:
            if name in known:
                return f"there is a {kind} '{name}' already"
    return ""


def names_of(change: Change) -> tuple[list[str], list[str], list[str]]:
    """Names of the new layers, of their blobs, and under which their blobs are shared where the layer's are."""
    param, parts = change.layer.param, parts_of(change)
    layers = [f"{param.name}{part.suffix}" for part in parts]
    blobs = [f"{param.top[0]}{part.suffix}" for part in parts]
    shared = [f"{spec.name}{part.suffix}" for spec in param.param if spec.name for part in parts]
    if change.sizes:
        blobs += [f"{param.top[0]}{part.suffix}_in" for part in parts]
        layers.append(f"{param.name}_slice")
    return [*layers, f"{param.name}_concat"], blobs, shared


def edit_of(text: str, layer: Field, change: Change, *, mixing: bool) -> Edit:
    """The edit that puts the convolutions in place of `layer`, and with `mixing` a 1x1 convolution behind them."""
    param, parts, old = change.layer.param, parts_of(change), layer.name == "layers"
    bottom, top = (edit.word_of(text, layer, name) for name in ("bottom", "top"))
    rules = edit.rules_of(text, layer)
    bottoms = [edit.derived(top, f"{part.suffix}_in") for part in parts] if change.sizes else [bottom] * len(parts)
    tops = [edit.derived(top, part.suffix) for part in parts]

    def block(body: str) -> str:
        return edit.laid_out(text, layer, f"{layer.name} {body}")

    found = []
    if change.sizes:
        starts = [sum(change.sizes.inputs[:i]) for i in range(1, len(parts))]
        points = ["slice_param {", *(f"  slice_point: {start}" for start in starts), "}"]
        lines = [*edit.head(f"{param.name}_slice", "Slice", old, [bottom], bottoms), *rules, *points]
        found.append(block(edit.body(lines)))
    for part, own_bottom, own_top in zip(parts, bottoms, tops, strict=True):
        edits = [
            edit.set_string(layer.inner("name")[0], f"{param.name}{part.suffix}"),
            edit.set_scalar(layer.inner("bottom")[0], own_bottom),
            edit.set_scalar(layer.inner("top")[0], own_top),
            *_shared(layer, change, part),
            *_of_convolution(text, layer, change, part),
        ]
        found.append(edit.within(text, layer, edits))
    behind: list[str] = []
    if mixing:
        top, behind = edit.mixing(text, layer, param, linear=bool(change.basis))
    lines = [*edit.head(f"{param.name}_concat", "Concat", old, tops, [top]), *rules]
    found += map(block, [edit.body(lines), *behind])
    return edit.put_in_place(text, layer, found)


def _shared(layer: Field, change: Change, part: Part) -> Iterator[Edit]:
    """Blobs that are shared by name get names of their own."""
    for field, spec in zip(layer.inner("param"), change.layer.param.param, strict=False):
        if spec.name:
            (name,) = [field] if layer.name == "layers" else field.inner("name")
            yield edit.set_string(name, f"{spec.name}{part.suffix}")


def _of_convolution(text: str, layer: Field, change: Change, part: Part) -> Iterator[Edit]:
    """The edits inside convolution_param: outputs, groups, and for a basis kernel, pad and filler."""
    (param,) = layer.inner("convolution_param")
    yield edit.set_scalar(param.inner("num_output")[0], part.num_output)
    group = param.inner("group")
    wanted = 1 if change.sizes else change.after
    if group and wanted == 1:
        yield edit.remove(text, group[0])
    elif group:
        yield edit.set_scalar(group[0], wanted)
    if not part.kernel:
        return
    pad_h, pad_w = pads(change.layer, part.kernel)
    lines = [f"kernel_h: {part.kernel.height}", f"kernel_w: {part.kernel.width}"]
    lines += [f"pad_h: {pad_h}", f"pad_w: {pad_w}"] if pad_h or pad_w else []
    lines += [f"group: {wanted}"] if wanted > 1 and not group else []
    filler = param.inner("weight_filler")
    if filler:
        yield Edit(filler[0].start, filler[0].end, FILLER)
    else:
        lines.append(FILLER)
    first, *others = (field for name in ("kernel_size", "kernel_h", "kernel_w") for field in param.inner(name))
    yield edit.put_in_place(text, first, lines)
    for field in (*others, *(field for name in ("pad", "pad_h", "pad_w") for field in param.inner(name))):
        yield edit.remove(text, field)


def in_lists(layer: Field) -> bool:
    """Whether a layer's kernel or pad stands in a list, out of which nothing can be taken."""
    fields = [
        field
        for param in layer.inner("convolution_param")
        for name in ("kernel_size", "pad")
        for field in param.inner(name)
    ]
    return any(field.listed for field in fields)
