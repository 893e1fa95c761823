"""Strides taken as early as they can be: what a 1x1 convolution with a stride steps over is not computed before it.

Where all that reads a map steps over it alike, the layers that make it step instead: the values that are left are the
same, and so are the net's outputs. A shortcut that others read in full goes through a depthwise convolution that picks
its pixels, with weights of one: every Caffe has that, and a Pooling that rounds its size down only the latest ones. For
nets that do not train: the maps in between get smaller, and with them what BatchNorm would see of a batch.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import numpy as np

from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.net.layers.utility import joined_axis
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, Geometry, channel_axis_of, conv_geometry
from rootgen.net.read import layer_fields
from rootgen.proto.scanner import Field, scan
from rootgen.transform import edit

_VALUE_BY_VALUE = ("Eltwise", "Concat", "BatchNorm", "Scale", "Bias", "Power", "Dropout")  # and every activation
_CHANNELS = 1
Stride = tuple[int, ...]  # one number per spatial axis


@dataclass
class EarlyStrides:
    """The text with strides taken early, each stride that is another, as it was and as it is, and what was put in.

    Without any, nothing could be done, and the text is as it was. `blobs` are those of the layers put in, which pick
    pixels: C x 1 x 1 of them, all one.
    """

    text: str
    strides: dict[str, tuple[Stride, Stride]] = field(default_factory=dict)
    blobs: dict[str, list[np.ndarray]] = field(default_factory=dict)


def early_strides(text: str, net: Net) -> EarlyStrides:
    """`text`, whose TEST phase is `net` with its shapes, with strides as early as can be.

    RootgenError where layers are of the V0 form or stand in a list.
    """
    plan = _Plan(net)
    if not any(plan.wanted):
        return EarlyStrides(text)
    fields = layer_fields(scan(text, net.source))
    edit.check_removable(fields, net.source)
    result = EarlyStrides(text)
    edits: list[edit.Edit] = []
    picked: dict[object, str] = {}  # the blob with every so many pixels of what a layer makes, for readers of one phase
    for place, layer in enumerate(net.layers):
        if layer.type in FORWARD_CONVOLUTIONS and layer.shapes.known:
            before, after = _geometry(layer).stride, plan.stride(place)
            if before != after:
                result.strides[layer.name] = before, after
                edits += _set_stride(text, fields[layer.index], layer, after)
        wanted = plan.wanted[place]
        if not wanted or layer.type in FORWARD_CONVOLUTIONS:
            continue
        own = fields[layer.index]
        for i, (bottom, maker) in enumerate(zip(own.inner("bottom"), net.makers[place], strict=True)):
            if plan.wanted[maker] == wanted:
                continue
            rules = edit.rules_of(text, own)
            pick = (maker, wanted, *rules)
            if pick not in picked:
                name = picked[pick] = _free_name(net, layer.bottoms[i], wanted, result.blobs)
                channels = layer.shapes.bottoms[i][_CHANNELS]
                result.blobs[name] = [np.ones((channels, 1) + (1,) * len(wanted))]
                words = [edit.quoted(layer.bottoms[i])], [edit.quoted(name)]
                lines = edit.head(name, "Convolution", own.name == "layers", *words)
                new = edit.block(own.name, [*lines, *rules, *_picking(channels, wanted)])
                made = net.layers[maker].index
                # Right after the maker: what reads a sum's other part stays next to what makes that.
                edits.append(edit.insert_before(text, own, new) if made < 0 else edit.after(text, fields[made], new))
            edits.append(edit.set_string(bottom, picked[pick]))
    result.text = edit.apply(text, edits)
    return result


class _Plan:
    """Which stride each layer takes in place of those that read it: `wanted`, by place, () for none."""

    def __init__(self, net: Net) -> None:
        self.net = net
        refused: set[int] = set()
        while True:
            self.wanted = self._wanted(refused)
            useless = {place for place, wanted in enumerate(self.wanted) if wanted and not self._saves(place)}
            if not useless:
                return
            refused |= useless

    def stride(self, place: int) -> Stride:
        """A convolution's stride by this plan."""
        asked = self._asked(place, self.wanted)
        if asked and self.wanted[self.net.makers[place][0]] == asked:
            return (1,) * len(asked)
        own = _geometry(self.net.layers[place]).stride
        wanted = self.wanted[place] or (1,) * len(own)
        return tuple(a * b for a, b in zip(own, wanted, strict=True))

    def _wanted(self, refused: set[int]) -> list[Stride]:
        """From the last layer to the first: what all that read a layer ask of it, where it can do that."""
        wanted: list[Stride] = [()] * len(self.net.layers)
        for place in reversed(range(len(wanted))):
            asked = {self._asked(reader, wanted) for reader in self.net.readers[place]}
            if len(asked) == 1 and place not in refused and self._can(place):
                wanted[place] = asked.pop()
        return wanted

    def _asked(self, place: int, wanted: list[Stride]) -> Stride:
        """What a layer steps over of its bottoms, those that it makes in place of its readers included; () for none."""
        layer = self.net.layers[place]
        if layer.type not in FORWARD_CONVOLUTIONS:
            return wanted[place]
        if not _is_pointwise(layer):
            return ()
        own = _geometry(layer).stride
        both = tuple(a * b for a, b in zip(own, wanted[place] or (1,) * len(own), strict=True))
        return both if max(both) > 1 else ()

    def _can(self, place: int) -> bool:
        """Whether a layer can make every so many pixels alone."""
        layer = self.net.layers[place]
        shapes = layer.shapes
        if not shapes.known or len(layer.tops) != 1 or layer.param.loss_weight:
            return False
        if layer.type in FORWARD_CONVOLUTIONS:
            return len(layer.bottoms) == 1 and channel_axis_of(layer) == _CHANNELS
        if of(layer).kind != "activation" and layer.type not in _VALUE_BY_VALUE:
            return False
        if layer.type == "BatchNorm" and not _fixed(layer, self.net.phase):
            return False
        if layer.type == "Concat" and joined_axis(layer, shapes.bottoms[0]) != _CHANNELS:
            return False
        alike = all(len(shape) > _CHANNELS + 1 and shape[2:] == shapes.tops[0][2:] for shape in shapes.bottoms)
        return alike and all(len(shape) <= 1 for shape in shapes.params)

    def _saves(self, place: int) -> bool:
        """Whether a layer that takes a stride saves a convolution some of its work, or a layer before it does."""
        layer, wanted = self.net.layers[place], self.wanted[place]
        if layer.type in FORWARD_CONVOLUTIONS:
            return True
        taken = [self.wanted[maker] == wanted for maker in self.net.makers[place]]
        rest = {name for name, does in zip(layer.bottoms, taken, strict=True) if not does}
        return any(taken) and not rest.intersection(layer.tops)


def _geometry(layer: Layer) -> Geometry:
    return conv_geometry(layer, len(layer.shapes.bottoms[0]) - channel_axis_of(layer) - 1)


def _is_pointwise(layer: Layer) -> bool:
    """Whether a convolution reads one pixel for each that it makes, and all of these are in the image."""
    if not layer.shapes.known or len(layer.bottoms) != 1 or channel_axis_of(layer) != _CHANNELS:
        return False
    geometry = _geometry(layer)
    return bool(geometry.kernel) and set(geometry.kernel) == {1} and not any(geometry.pad)


def _fixed(layer: Layer, phase: str) -> bool:
    """Whether a BatchNorm takes its blobs for statistics, not the batch's own."""
    param = layer.param.batch_norm_param
    return bool(param.use_global_stats) if param.HasField("use_global_stats") else phase == "TEST"


def _set_stride(text: str, own: Field, layer: Layer, stride: Stride) -> Iterator[edit.Edit]:
    """Give a convolution another stride: in the fields that it has for it where these can say so."""
    (param,) = own.inner("convolution_param")
    existing = param.inner("stride") or [*param.inner("stride_h"), *param.inner("stride_w")]
    values = _values(stride)
    if len(existing) in (len(values), len(stride)):
        yield from (edit.set_scalar(*pair) for pair in zip(existing, stride, strict=False))
    elif existing and existing[0].listed:
        yield edit.set_scalar(existing[0], ", ".join(map(str, values)))
    elif existing:
        yield edit.put_in_place(text, existing[0], _words(stride))
    else:
        yield edit.after_geometry(text, param, "\n".join(_words(stride)))


def _values(stride: Stride) -> Stride:
    """One number where all axes have it."""
    return stride[:1] if len(set(stride)) == 1 else stride


def _words(stride: Stride) -> list[str]:
    return [f"stride: {value}" for value in _values(stride)]


def _free_name(net: Net, name: str, stride: Stride, others: Container[str]) -> str:
    """A name that no blob and no layer has, for every so many pixels of the blob `name`."""
    taken = {*net.blobs, *(layer.name for layer in net.layers)}
    found = f"{name}_stride{'x'.join(map(str, _values(stride)))}"
    while found in taken or found in others:
        found += "_"
    return found


def _picking(channels: int, stride: Stride) -> list[str]:
    """The settings of a convolution that picks pixels."""
    return [
        "convolution_param {",
        f"  num_output: {channels}",
        "  bias_term: false",
        "  kernel_size: 1",
        *(f"  {word}" for word in _words(stride)),
        f"  group: {channels}",
        '  weight_filler { type: "constant" value: 1 }',
        "}",
    ]
