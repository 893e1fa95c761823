"""Shapes of every blob and learnable blob of a net, by Caffe 1.0's rules and without Caffe.

The rules per layer type are in layers/.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.batch import RECURRENT, sequences
from rootgen.net.graph import Layer, LayerShapes, Net, Shape
from rootgen.net.layers.checks import check_blob, stored_shape
from rootgen.net.layers.registry import TYPES, InputOptions, Shaped, of
from rootgen.text import SIZE_MAX, shape_text


def infer(
    net: Net,
    *,
    input_shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    given: Mapping[str, Shape] | None = None,
    partial: bool = False,
) -> Net:
    """`net` with the shapes of all its blobs and layers.

    `input_shape` (channels, height, width) replaces what the layers that bring images in say, `batch` their
    batch size, and `given` names shapes of blobs that no rule can tell. With `partial`, layers whose shapes
    cannot be known (Python layers, types that are not Caffe's, and all that hangs on them) are passed over with
    a note; without it they are refused. RootgenError where a size breaks Caffe's rules, naming layer and line.
    """
    _check_options(net, input_shape, batch, given or {})
    by_sequence = _sequences(net, input_shape, given) if batch else frozenset[str]()
    options = InputOptions(input_shape, batch, given or {}, by_sequence)
    blobs: dict[str, Shape] = {}
    layers = []
    shared: dict[str, _Shared] = {}
    for layer in net.layers:
        shapes = _layer_shapes(layer, blobs, options, partial)
        layers.append(replace(layer, shapes=shapes))
        if shapes.known:
            _check_params(layer, shapes.params, shared)
            blobs.update(zip(layer.tops, shapes.tops, strict=True))
        elif input_shape and layer.tops and not layer.bottoms:  # a Python layer that brings the images in, say
            blobs[layer.tops[0]] = (batch or 1, *input_shape)
        for top in layer.tops:
            if top in options.given and blobs.setdefault(top, options.given[top]) != options.given[top]:
                there, said = shape_text(blobs[top]), shape_text(options.given[top])
                raise layer.error(f"top '{top}' is {there}, not {said} as given")
    unknown = [layer for layer in layers if not layer.shapes.known]
    if unknown:
        names = ", ".join(f"'{layer.name}' ({layer.type})" for layer in unknown[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        options.notes.append(f"{net.source}: shapes not known of {len(unknown)} layers: {names}{more}")
        options.notes += _typos(net)
    return replace(net, layers=tuple(layers), blobs=blobs, notes=tuple(options.notes))


def _sequences(net: Net, input_shape: tuple[int, int, int] | None, given: Mapping[str, Shape] | None) -> frozenset[str]:
    """The blobs of T x N x ..., told by their shapes at the net's own batch size; recurrent layers alone make such."""
    if all(layer.type not in RECURRENT for layer in net.layers):
        return frozenset()
    try:
        found = infer(net, input_shape=input_shape, given=given, partial=True)
    except RootgenError:
        return frozenset()  # it has no batch size of its own, say
    return sequences(found.layers, found.blobs)


def _typos(net: Net) -> Iterator[str]:
    """A note for each layer type that is nearly one of Caffe's: a misspelt one, and not a fork's."""
    known = {name.lower(): name for name in TYPES}
    for name in dict.fromkeys(layer.type for layer in net.layers if layer.type not in TYPES):
        for near in difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.85):
            yield f"{net.source}: Caffe has no layer type '{name}' (did you mean '{known[near]}'?)"


def _check_options(
    net: Net, input_shape: tuple[int, int, int] | None, batch: int | None, given: Mapping[str, Shape]
) -> None:
    if input_shape is not None and (len(input_shape) != 3 or min(input_shape) < 1):
        raise RootgenError(f"the input {shape_text(input_shape)} is not channels x height x width")
    if batch is not None and not 1 <= batch <= SIZE_MAX:
        raise RootgenError(f"batch is {batch}, but has to be 1 or more")
    tops = {top for layer in net.layers for top in layer.tops}
    for name in given:
        if name not in tops:
            raise RootgenError(f"no blob '{name}' in this net", where=net.source, hint=did_you_mean(name, tops))


def _layer_shapes(layer: Layer, blobs: Mapping[str, Shape], options: InputOptions, partial: bool) -> LayerShapes:
    """Shapes of one layer whose bottoms have the shapes in `blobs`."""
    bottoms = tuple(blobs[name] for name in layer.bottoms if name in blobs)
    whole = len(bottoms) == len(layer.bottoms)
    entry = of(layer)
    told = entry.shapes is not None and (whole or entry.is_source)
    if (entry.shapes is None or entry.is_source) and layer.tops and all(top in options.given for top in layer.tops):
        shaped = Shaped(tuple(options.given[top] for top in layer.tops), _stored(layer))
    elif told:
        assert entry.shapes is not None
        shaped = entry.shapes(layer, options if entry.is_source else bottoms)
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
                f"shares blob '{spec.name}' with layer '{first.owner}', but here it is {shape_text(shape)}, "
                f"there {shape_text(first.shape)}"
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
