"""Shapes of every blob and learnable blob of a net, by Caffe 1.0's rules and without Caffe.

The rules per layer type are in shape_rules/.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from rootgen.errors import RootgenError, did_you_mean
from rootgen.layer_types import ARITY
from rootgen.net import Layer, Net
from rootgen.shape_rules import RULES, SOURCES, Shape, Shaped
from rootgen.shape_rules.common import INT_MAX, Options, check_blob, stored_shape, text

__all__ = ["LayerShapes", "Shape", "Shapes", "infer", "parse_shape", "stored_shape", "text"]


@dataclass(frozen=True)
class LayerShapes:
    """Shapes of one layer's bottoms, tops and learnable blobs, each in order.

    `known` is False for a layer whose shapes cannot be told without running it; its bottoms and tops are then
    empty, and its params those stored in the caffemodel, if any.
    """

    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    params: tuple[Shape, ...]
    known: bool = True


@dataclass(frozen=True)
class Shapes:
    """Shapes of a net: per layer (parallel to `net.layers`), per blob name, and notes on what was assumed."""

    layers: tuple[LayerShapes, ...]
    blobs: dict[str, Shape]
    notes: list[str] = field(default_factory=list)


def infer(
    net: Net,
    *,
    input_shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    given: Mapping[str, Shape] | None = None,
    partial: bool = False,
) -> Shapes:
    """Shapes of all blobs of `net`.

    `input_shape` (channels, height, width) replaces what the layers that bring images in say, `batch` their
    batch size, and `given` names shapes of blobs that no rule can tell. With `partial`, layers whose shapes
    cannot be known (Python layers, types that are not Caffe's, and all that hangs on them) are passed over with
    a note; without it they are refused. RootgenError where a size breaks Caffe's rules, naming layer and line.
    """
    _check_options(net, input_shape, batch, given or {})
    options = Options(input_shape, batch, given or {})
    blobs: dict[str, Shape] = {}
    layers = []
    shared: dict[str, _Shared] = {}
    for layer in net.layers:
        shapes = _layer_shapes(layer, blobs, options, partial)
        layers.append(shapes)
        if shapes.known:
            _check_params(layer, shapes.params, shared)
            blobs.update(zip(layer.tops, shapes.tops, strict=True))
        elif input_shape and layer.tops and not layer.bottoms:  # a Python layer that brings the images in, say
            blobs[layer.tops[0]] = (batch or 1, *input_shape)
        for top in layer.tops:
            if top in options.given and blobs.setdefault(top, options.given[top]) != options.given[top]:
                raise layer.error(f"top '{top}' is {text(blobs[top])}, not {text(options.given[top])} as given")
    unknown = [layer for layer, shapes in zip(net.layers, layers, strict=True) if not shapes.known]
    if unknown:
        names = ", ".join(f"'{layer.name}' ({layer.type})" for layer in unknown[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        options.notes.append(f"{net.source}: shapes not known of {len(unknown)} layers: {names}{more}")
        options.notes += _typos(net)
    return Shapes(tuple(layers), blobs, options.notes)


def _typos(net: Net) -> Iterator[str]:
    """A note for each layer type that is nearly one of Caffe's: a misspelt one, and not a fork's."""
    known = {name.lower(): name for name in ARITY}
    for name in dict.fromkeys(layer.type for layer in net.layers if layer.type not in ARITY):
        for near in difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.85):
            yield f"{net.source}: Caffe has no layer type '{name}' (did you mean '{known[near]}'?)"


def parse_shape(value: str, axes: int | None = None) -> Shape:
    """The shape that a word such as 3x224x224 gives."""
    parts = value.lower().split("x")
    if not all(part.isdecimal() and len(part) < 11 and 0 < int(part) <= INT_MAX for part in parts):
        raise RootgenError(f"'{value}' is no shape", hint="sizes of 1 or more with x between, as 3x224x224")
    if axes is not None and len(parts) != axes:
        raise RootgenError(f"'{value}' has {len(parts)} sizes, not {axes}", hint="channels, height, width: 3x224x224")
    return tuple(map(int, parts))


def _check_options(
    net: Net, input_shape: tuple[int, int, int] | None, batch: int | None, given: Mapping[str, Shape]
) -> None:
    if input_shape is not None and (len(input_shape) != 3 or min(input_shape) < 1):
        raise RootgenError(f"the input {text(input_shape)} is not channels x height x width")
    if batch is not None and not 1 <= batch <= INT_MAX:
        raise RootgenError(f"batch is {batch}, but has to be 1 or more")
    tops = {top for layer in net.layers for top in layer.tops}
    for name in given:
        if name not in tops:
            raise RootgenError(f"no blob '{name}' in this net", where=net.source, hint=did_you_mean(name, tops))


def _layer_shapes(layer: Layer, blobs: Mapping[str, Shape], options: Options, partial: bool) -> LayerShapes:
    """Shapes of one layer whose bottoms have the shapes in `blobs`."""
    bottoms = tuple(blobs[name] for name in layer.bottoms if name in blobs)
    whole = len(bottoms) == len(layer.bottoms)
    if layer.type not in RULES and layer.tops and all(top in options.given for top in layer.tops):
        shaped = Shaped(tuple(options.given[top] for top in layer.tops), _stored(layer))
    elif layer.type in SOURCES:
        shaped = SOURCES[layer.type](layer, options)
    elif layer.type in RULES and whole:
        shaped = RULES[layer.type](layer, bottoms)
    elif partial:
        return LayerShapes((), (), _stored(layer), known=False)
    elif whole:
        raise layer.error(
            f"the shape of its tops cannot be known: a {layer.type} layer tells it only when it runs",
            "give the shapes of its tops with --shape BLOB=NxCxHxW",
        )
    else:
        missing = next(name for name in layer.bottoms if name not in blobs)
        raise layer.error(f"the shape of its bottom '{missing}' is not known")
    for name, shape in zip(layer.tops, shaped.tops, strict=True):
        check_blob(layer, f"top '{name}'", shape)
    for i, shape in enumerate(shaped.params):
        check_blob(layer, f"learnable blob {i}", shape)
    return LayerShapes(bottoms, shaped.tops, shaped.params)


def _stored(layer: Layer) -> tuple[Shape, ...]:
    """Shapes of the blobs that a caffemodel holds for a layer."""
    stored = tuple(stored_shape(blob) for blob in layer.param.blobs)
    for i, shape in enumerate(stored):
        check_blob(layer, f"stored blob {i}", shape)
    return stored


@dataclass
class _Shared:
    """A blob that layers share by name: its owner, and for each multiplier the layer that gave it, and its value."""

    owner: str
    shape: Shape
    given: dict[str, tuple[str, float]] = field(default_factory=dict)


def _check_params(layer: Layer, params: tuple[Shape, ...], shared: dict[str, _Shared]) -> None:
    """Refuse more `param` than blobs, and blobs shared by name whose shapes or multipliers differ (AppendParam)."""
    specs = layer.param.param
    if len(specs) > len(params):
        raise layer.error(f"has {len(specs)} param, but a {layer.type} layer like this has {len(params)} blobs")
    for spec, shape in zip(specs, params, strict=False):
        if not spec.name:
            continue
        first = shared.setdefault(spec.name, _Shared(layer.name, shape))
        equal = prod(first.shape) == prod(shape) if spec.share_mode == 1 else first.shape == shape
        if not equal:
            raise layer.error(
                f"shares blob '{spec.name}' with layer '{first.owner}', but here it is {text(shape)}, "
                f"there {text(first.shape)}"
            )
        for name in ("lr_mult", "decay_mult"):
            if not spec.HasField(name):
                continue
            value = getattr(spec, name)
            giver, other = first.given.setdefault(name, (layer.name, value))
            if other != value:
                raise layer.error(
                    f"shares blob '{spec.name}' with layer '{giver}', but here {name} is {value:g}, there {other:g}",
                    "give it once, or alike",
                )
