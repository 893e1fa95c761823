"""Whether layers fit together, as Caffe's net.cpp asks.

Every layer has a known type and as many bottoms and tops as that takes, every bottom is the top of a layer
above, no two layers make one blob, and a layer works in place only on a blob that nobody else reads, the loss included.
"""

from __future__ import annotations

from collections.abc import Sequence

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer
from rootgen.net.layers.registry import TYPES


def check_type(layer: Layer, allow_unknown: bool) -> None:
    """Refuse a layer whose type Caffe does not have, or that Caffe would not set up whatever its shapes."""
    entry = TYPES.get(layer.type)
    if entry is None:
        if allow_unknown and layer.type:
            return
        what = f"no layer type '{layer.type}' in Caffe" if layer.type else "has no type"
        raise layer.error(what, did_you_mean(layer.type, TYPES) if layer.type else None)
    for names, arity, word in ((layer.bottoms, entry.bottoms, "bottom"), (layer.tops, entry.tops, "top")):
        if not arity.least <= len(names) <= arity.most:
            raise layer.error(f"has {len(names)} {word}, but {layer.type} takes {arity}")
    if entry.top_per_bottom and len(layer.bottoms) != len(layer.tops):
        raise layer.error(f"has {len(layer.bottoms)} bottom and {len(layer.tops)} top (one top per bottom)")
    for i, spec in enumerate(layer.param.param):
        if spec.lr_mult != 0 and entry.is_statistic(layer, i):
            what = f"has lr_mult {spec.lr_mult:g} (Caffe needs 0 on {layer.type}'s statistics)"
            raise layer.error(what, "leave its param out, or give three")
    down = len(layer.param.propagate_down)
    if down not in (0, len(layer.bottoms)):
        raise layer.error(f"has {down} propagate_down and {len(layer.bottoms)} bottom (one for each, or none)")
    loss = entry.is_loss  # of weight 1 by default, on the one top that Caffe adds where the net names none
    given, tops = len(layer.param.loss_weight), max(len(layer.tops), int(loss))
    if (given or loss) and (given or 1) != tops:
        raise layer.error(f"has {given} loss_weight and {tops} top (one for each{'' if loss else ', or none'})")


def check_wiring(layers: Sequence[Layer], left_out: Sequence[Layer]) -> None:
    """Refuse unknown bottoms, blobs made twice, and work in place on a blob that another layer reads too."""
    makers: dict[str, Layer] = {}
    readers: dict[str, list[Layer]] = {}  # of each blob as its latest maker left it
    for layer in layers:
        for bottom in layer.bottoms:
            if bottom not in makers:
                raise _unknown_bottom(layer, bottom, layers, left_out)
            readers[bottom].append(layer)
        for i, top in enumerate(layer.tops):
            in_place = i < len(layer.bottoms) and layer.bottoms[i] == top
            if top in makers and not in_place:
                other = makers[top]
                twice = f"by layer '{other.name}' too" if other is not layer else "twice"
                raise layer.error(f"top '{top}' is made {twice} (each blob has one maker)", "rename one of the two")
            if in_place:
                _check_in_place(layer, top, makers[top], readers[top])
            makers[top] = layer
            readers[top] = []


def _check_in_place(layer: Layer, blob: str, maker: Layer, readers: Sequence[Layer]) -> None:
    """Refuse work in place on a `blob` that has another use: Caffe would put a Split there, and have it made twice."""
    weights = maker.param.loss_weight
    place = maker.tops.index(blob)
    others = [f"layer '{reader.name}' reads too" for reader in readers if reader is not layer]
    if layer.bottoms.count(blob) > 1:
        others.append("it reads twice")
    if place < len(weights) and weights[place]:
        others.append(f"counts in the loss as layer '{maker.name}' leaves it (loss_weight {weights[place]:g})")
    if others:
        what = f"works in place on blob '{blob}', which {others[0]}; Caffe refuses that"
        raise layer.error(what, "give its top another name")


def _unknown_bottom(layer: Layer, bottom: str, layers: Sequence[Layer], left_out: Sequence[Layer]) -> RootgenError:
    """The error for a `bottom` that no layer above `layer` makes."""
    later = next((other for other in layers if bottom in other.tops), None)
    if later is None:
        filtered = next((other for other in left_out if bottom in other.tops), None)
        if filtered:
            return layer.error(
                f"bottom '{bottom}' comes from layer '{filtered.name}', which its rules leave out here",
                "choose another phase, level or stage, or mend the rules",
            )
        return layer.error(
            f"bottom '{bottom}' is the top of no layer", did_you_mean(bottom, {t for o in layers for t in o.tops})
        )
    if later is layer or _needs(later, layer, layers):
        return layer.error(
            f"bottom '{bottom}' comes from layer '{later.name}', which needs this layer's output: a cycle"
        )
    return layer.error(
        f"bottom '{bottom}' is made further down, by layer '{later.name}' (Caffe runs layers as they stand)",
        f"move '{later.name}' up",
    )


def _needs(layer: Layer, wanted: Layer, layers: Sequence[Layer]) -> bool:
    """Whether `layer` needs an output of `wanted`, directly or through others."""
    makers: dict[str, list[Layer]] = {}
    for other in layers:
        for top in other.tops:
            makers.setdefault(top, []).append(other)
    seen: set[int] = set()
    waiting = [layer]
    while waiting:
        here = waiting.pop()
        for bottom in here.bottoms:
            for maker in makers.get(bottom, ()):
                if maker is wanted:
                    return True
                if id(maker) not in seen:
                    seen.add(id(maker))
                    waiting.append(maker)
    return False
