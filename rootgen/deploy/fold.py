"""BatchNorm, Scale, Bias, Power and Dropout folded into the layers of weights beside them, as in the TEST phase.

Each goes into the Convolution, Deconvolution or InnerProduct that makes its input (through Concat, into all of them),
if nobody else reads that; else into the Convolutions and InnerProducts that read its output, if none of them pads.
What cannot go is left, and said why. Arithmetic is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rootgen.deploy.affine import CHANNELS, Affine, affine_of, into_inputs, into_outputs, outputs_of
from rootgen.engine.weights import check_trained
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.net.layers.utility import joined_axis
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, channel_axis_of, conv_geometry
from rootgen.net.read import layer_fields
from rootgen.proto.scanner import Field, scan
from rootgen.transform import edit

FOLDED = ("BatchNorm", "Scale", "Bias", "Power", "Dropout")
WEIGHED = (*FORWARD_CONVOLUTIONS, "Deconvolution", "InnerProduct")
Blobs = dict[str, list[np.ndarray]]


@dataclass
class Folded:
    """What folding gives: the net's text, its blobs by layer, what went into which layers, and what stayed and why."""

    text: str = ""
    blobs: Blobs = field(default_factory=dict)
    gone: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def fold(text: str, net: Net, learned: Mapping[str, Sequence[np.ndarray]]) -> Folded:
    """`text`, whose TEST phase is `net` with its shapes, and its blobs `learned`, with all folded that can be.

    RootgenError where a layer has no blobs in the model, or such as weights.check_trained refuses.
    """
    check_trained(net.layers, learned, "the model")
    work = _Folding(net, learned)
    waiting = [place for place, layer in enumerate(net.layers) if layer.type in FOLDED]
    before = len(waiting) + 1
    while len(waiting) < before:  # one that is gone may have stood in another's way
        before = len(waiting)
        reasons = {place: work.fold(place) for place in waiting}
        waiting = [place for place, why in reasons.items() if why]
    work.result.left = {net.layers[place].name: reasons[place] for place in waiting}
    work.result.text = work.edited(text)
    return work.result


class _Folding:
    """The graph while it is folded: layers gone, blobs changed, tops that get another name."""

    def __init__(self, net: Net, learned: Mapping[str, Sequence[np.ndarray]]) -> None:
        self.net = net
        self.result = Folded(blobs={name: list(blobs) for name, blobs in learned.items()})
        self.gone: set[int] = set()
        self.tops: dict[int, str] = {}  # place of a layer -> the new name of its top
        self.biased: set[int] = set()  # layers that get a bias
        names = [spec.name for layer in net.layers for spec in layer.param.param if spec.name]
        self.shared = {name for name in names if names.count(name) > 1}

    def fold(self, place: int) -> str:
        """Fold one layer; why it stays, or "" where it is gone."""
        layer = self.net.layers[place]
        found = affine_of(layer, self._blobs(layer) if layer.shapes.params else ())
        if isinstance(found, str):
            return found
        backward = self._into_makers(place, found)
        if not backward:
            return ""
        if layer.type == "Dropout":  # nothing to put anywhere
            return self._pass_on(place, backward)
        forward = self._into_readers(place, found)
        return forward and f"{backward}; {forward}"

    def _into_makers(self, place: int, found: Affine) -> str:
        """Put the map into what makes the layer's input; why not, or ""."""
        layer = self.net.layers[place]
        maker = self._maker(place)
        targets: list[tuple[int, int]] = []
        why = self._targets(maker, place, 0, targets)
        if why:
            return why
        places = [target for target, _ in targets]
        twice = [self.net.layers[target].name for target in places if places.count(target) > 1]
        if twice:
            return f"'{twice[0]}' is joined with itself"
        for target, start in targets:
            other = self.net.layers[target]
            blobs = into_outputs(other, self._blobs(other), found.part(start, outputs_of(other)))
            self._set(target, blobs)
        self._remove(place, (self.net.layers[target].name for target, _ in targets))
        self.tops[maker] = self.tops.get(place, layer.tops[0])
        return ""

    def _targets(self, maker: int, reader: int, start: int, targets: list[tuple[int, int]]) -> str:
        """Collect (layer of weights, its first channel) of all that `reader` reads from `maker`; why not, or ""."""
        layer = self.net.layers[maker]
        others = [self.net.layers[other].name for other in self._readers(maker) if other != reader]
        if others:
            return f"'{others[0]}' reads '{layer.tops[0]}' too"
        if layer.type == "Concat" and joined_axis(layer, layer.shapes.bottoms[0]) == CHANNELS:
            for i, shape in enumerate(layer.shapes.bottoms):
                why = self._targets(self._maker(maker, i), maker, start, targets)
                if why:
                    return why
                start += shape[CHANNELS]
            return ""
        why = self._no_weights(maker)
        targets.append((maker, start))
        return why

    def _no_weights(self, place: int) -> str:
        """Why a layer cannot take a map into its weights, or ""."""
        layer = self.net.layers[place]
        if layer.type not in WEIGHED:
            kind = "data layer" if of(layer).kind == "data" else layer.type
            return f"'{layer.name}' before it is a {kind}"
        if len(layer.tops) > 1:
            return f"'{layer.name}' has several tops"
        if len(layer.shapes.tops[0]) <= CHANNELS or _channel_axis(layer) != CHANNELS:
            return f"the outputs of '{layer.name}' are not on axis {CHANNELS}"
        if any(spec.name in self.shared for spec in layer.param.param):
            return f"'{layer.name}' shares its weights"
        return ""

    def _into_readers(self, place: int, found: Affine) -> str:
        """Put the map into all that reads the layer's output; why not, or ""."""
        readers = self._readers(place)
        if not readers:
            return "its output is the net's"
        for reader in readers:
            why = self._takes_input(reader, bool(found.term.any()))
            if why:
                return why
        for reader in dict.fromkeys(readers):
            other = self.net.layers[reader]
            self._set(reader, into_inputs(other, self._blobs(other), found))
        self._remove(place, (self.net.layers[reader].name for reader in readers))
        return ""

    def _takes_input(self, place: int, shifted: bool) -> str:
        """Why a reader cannot take a map of its input, or ""."""
        layer = self.net.layers[place]
        if layer.type not in (*FORWARD_CONVOLUTIONS, "InnerProduct") or len(layer.bottoms) > 1:
            return f"'{layer.name}' after it is a {layer.type}"
        if any(spec.name in self.shared for spec in layer.param.param):
            return f"'{layer.name}' shares its weights"
        if _channel_axis(layer) != CHANNELS:
            return f"the inputs of '{layer.name}' are not on axis {CHANNELS}"
        axes = len(layer.shapes.bottoms[0]) - CHANNELS - 1
        if layer.type in FORWARD_CONVOLUTIONS and shifted and any(conv_geometry(layer, axes).pad):
            return f"'{layer.name}' after it pads with zeros"
        return ""

    def _pass_on(self, place: int, why: str) -> str:
        """Take a layer out that does nothing; why not, or ""."""
        top, maker = self.net.layers[place].tops[0], self._maker(place)
        if not self._readers(place) and self._bottom(place, 0) != top:  # an output of the net keeps its name
            before = self.net.layers[maker]
            if of(before).kind == "data" or len(before.tops) > 1 or self._readers(maker) != [place]:
                return f"{why}; its output is the net's"
            self.tops[maker] = top
        self._remove(place, ())
        return ""

    def _remove(self, place: int, into: Iterator[str] | Sequence[str]) -> None:
        layer = self.net.layers[place]
        self.gone.add(place)
        self.result.gone[layer.name] = tuple(dict.fromkeys(into))
        self.result.blobs.pop(layer.name, None)

    def _set(self, place: int, blobs: list[np.ndarray]) -> None:
        layer = self.net.layers[place]
        if len(blobs) > len(layer.shapes.params):
            self.biased.add(place)
        self.result.blobs[layer.name] = blobs

    def _blobs(self, layer: Layer) -> list[np.ndarray]:
        """A layer's blobs as they are now; RootgenError where the model has none."""
        found = self.result.blobs.get(layer.name)
        if found is None:
            raise layer.error("has no blobs in the model", "pass the model of this net")
        return found

    def _maker(self, place: int, bottom: int = 0) -> int:
        """The layer that makes a bottom, those that are gone passed over."""
        maker = self.net.makers[place][bottom]
        while maker in self.gone:
            maker = self.net.makers[maker][0]
        return maker

    def _readers(self, place: int) -> list[int]:
        """Who reads a layer's tops, through those that are gone."""
        found: list[int] = []
        for reader in self.net.readers[place]:
            found += self._readers(reader) if reader in self.gone else [reader]
        return found

    def _bottom(self, place: int, i: int) -> str:
        """The name of the blob that bottom `i` of a layer comes to be."""
        name, maker = self.net.layers[place].bottoms[i], self.net.makers[place][i]
        while maker in self.gone:
            name, maker = self.net.layers[maker].bottoms[0], self.net.makers[maker][0]
        return self.tops.get(maker, name) if name == self.net.layers[maker].tops[0] else name

    def edited(self, text: str) -> str:
        """`text` without the layers that are gone, with what is renamed, and with the biases that are new."""
        fields = layer_fields(scan(text, self.net.source))
        edit.check_removable(fields, self.net.source)
        edits: list[edit.Edit] = []
        for place, layer in enumerate(self.net.layers):
            if layer.index < 0:
                continue
            own = fields[layer.index]
            if place in self.gone:
                edits.append(edit.remove(text, own))
                continue
            if place in self.tops and self.tops[place] != layer.tops[0]:
                edits.append(edit.set_string(own.inner("top")[0], self.tops[place]))
            for i, (inner, name) in enumerate(zip(own.inner("bottom"), layer.bottoms, strict=True)):
                if self._bottom(place, i) != name:
                    edits.append(edit.set_string(inner, self._bottom(place, i)))
            if place in self.biased:
                edits += _without_bias_term(text, own, layer)
        return edit.apply(text, edits)


def _without_bias_term(text: str, own: Field, layer: Layer) -> Iterator[edit.Edit]:
    """Take `bias_term: false` out of a layer, whose default is true."""
    name = "inner_product_param" if layer.type == "InnerProduct" else "convolution_param"
    for param in own.inner(name):
        for inner in param.inner("bias_term"):
            yield edit.remove(text, inner)


def _channel_axis(layer: Layer) -> int:
    """The axis that a layer of weights takes its channels from."""
    if layer.type == "InnerProduct":
        return int(layer.param.inner_product_param.axis) % len(layer.shapes.bottoms[0])
    return channel_axis_of(layer)
