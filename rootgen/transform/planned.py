"""What a plan means for each convolution of a net.

The rule (root, column, tree) gives groups to the spatial convolutions of successive stages (stages.py). The
convolution on the image keeps what it has; so does one that is depthwise, or whose channels the groups do not
divide. Layers set by hand come on top, and those have to fit; so has a basis that is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rootgen.compound import Basis, Sizes
from rootgen.errors import RootgenError
from rootgen.grouping import Plan, of_layer
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.vision import DEPTHWISE, FORWARD_CONVOLUTIONS, conv_geometry
from rootgen.transform.compound import kernels
from rootgen.transform.result import Change
from rootgen.transform.stages import Spatial, spatial_convolutions

SETTLED = ("on the image", "depthwise")  # why a layer is kept whatever the number of groups


def planned(net: Net, plan: Plan, stage_by: str) -> Iterator[Change]:
    """What the plan means for each spatial convolution, and for others that it sets by hand."""
    spatials = {one.layer.index: one for one in spatial_convolutions(net, stage_by)}
    stages = max((one.stage + 1 for one in spatials.values() if one.stage is not None), default=0)
    for layer in net.layers:
        if layer.type not in FORWARD_CONVOLUTIONS:
            continue
        one, change = spatials.get(layer.index), None
        hand = of_layer(plan.by_hand, layer.name)
        rule = hand if isinstance(hand, Plan) else plan
        if hand is not None and not isinstance(hand, Plan):
            change = _by_hand(layer, one, hand)
        elif one is not None and rule.kind != "original":
            group = rule.stage_groups(stages)[one.stage] if one.stage is not None else 1
            kept = _kept(one, group)
            change = _changed(layer, one, one.group if kept else group, kept)
        change = _with_basis(layer, one, change, plan)
        if change is not None:
            yield change


def _changed(layer: Layer, one: Spatial | None, group: int, kept: str = "") -> Change:
    """A convolution, spatial or not, with `group` groups."""
    known, before = layer.shapes, one.group if one else layer.param.convolution_param.group
    channels = one.channels if one else known.params[0][1] * before
    stage, unmixed = (one.stage, one.unmixed) if one else (None, "")
    return Change(layer, stage, known.tops[0], channels, before, group, kept, unmixed)


def _by_hand(layer: Layer, one: Spatial | None, groups: int | Sizes) -> Change:
    """The change of a layer whose groups were set by hand."""
    if layer.type in DEPTHWISE:
        raise layer.error(f"cannot take {groups} groups: a {layer.type} has one per channel")
    if not layer.shapes.known:
        raise layer.error("cannot take groups: its shapes are not known", "give the input with --input or --shape")
    change = _changed(layer, one, groups if isinstance(groups, int) else len(groups))
    num_output = layer.param.convolution_param.num_output
    if isinstance(groups, Sizes):
        try:
            sizes = groups.of(change.channels, num_output)
        except RootgenError as error:
            raise layer.error(error.what, error.hint) from None
        return replace(change, sizes=sizes if len(sizes) > 1 else None)
    why = not_dividing(groups, change.channels, num_output)
    if why:
        raise layer.error(f"{why} (Caffe needs group to divide input and output channels)")
    return change


def _with_basis(layer: Layer, one: Spatial | None, change: Change | None, plan: Plan) -> Change | None:
    """The change of a layer with the basis that the plan has for it: one by name has to fit, one for all may not."""
    bases = dict(plan.basis)
    named = of_layer([pair for pair in plan.basis if pair[0]], layer.name)
    basis = named or bases.get("")
    if one is None and layer.name in bases:
        raise layer.error("is no spatial convolution of known shape: a basis takes the place of its kernel")
    if one is None or basis is None:
        return change
    change = change or _changed(layer, one, one.group)
    why = _no_basis(one, change, basis, by_name=named is not None)
    if not why:
        try:
            return replace(change, basis=kernels(layer, basis, change.after))
        except RootgenError as error:
            why = error.what
    if named:
        raise layer.error(f"cannot take a basis: {why}")
    return replace(change, without_basis=why)


def _no_basis(one: Spatial, change: Change, basis: Basis, *, by_name: bool) -> str:
    """Why a layer is not one to put a basis in; "" where it is."""
    layer = one.layer
    if not by_name and (why := _settled(one)):
        return why
    if layer.type in DEPTHWISE or layer.param.convolution_param.axis != 1:
        return "a group per channel is its type" if layer.type in DEPTHWISE else "its channels are not on axis 1"
    if change.sizes:
        return f"it has groups of {change.sizes}"
    kernel = conv_geometry(layer, len(one.output) - 2).kernel
    if not by_name and basis.extent((kernel[0], kernel[-1])) != kernel:
        return f"{basis} is not as large as its kernel of {'x'.join(map(str, kernel))}"
    return ""


def _kept(one: Spatial, group: int) -> str:
    """Why a rule leaves a spatial convolution's groups as they are; "" where it does not."""
    return _settled(one) or not_dividing(group, one.channels, one.num_output)


def _settled(one: Spatial) -> str:
    """Why a rule leaves a spatial convolution alone, whatever it is; "" where it does not."""
    return SETTLED[0] if one.stage is None else SETTLED[1] if one.depthwise else ""


def not_dividing(group: int, channels: int, num_output: int) -> str:
    """Why a convolution cannot have so many groups; "" where it can."""
    for name, value in (("input channels", channels), ("outputs", num_output)):
        if value % group:
            return f"{group} groups do not divide its {value} {name}"
    return ""
