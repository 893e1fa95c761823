"""The deploy net of any training net, in its own text: what scores images stays, byte for byte; the rest goes.

Data layers become Input layers, losses what they stand for (SoftmaxWithLoss: Softmax), labels and what only they
feed go, and so do heads that training alone has: those whose loss weighs less than the heaviest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rootgen.errors import RootgenError
from rootgen.net.graph import PHASES, Layer, Net, Shape
from rootgen.net.layers.registry import loss_weights, of
from rootgen.net.load import load_text
from rootgen.net.read import layer_fields, parse
from rootgen.proto.scanner import Field, scan
from rootgen.transform import edit

STANDS_FOR = {
    "SoftmaxWithLoss": ("Softmax", "SOFTMAX"),
    "InfogainLoss": ("Softmax", "SOFTMAX"),
    "SigmoidCrossEntropyLoss": ("Sigmoid", "SIGMOID"),
}
"""Loss type -> the type that gives its scores, in today's layers and in V1's; other losses score nothing themselves."""
OUTPUT = "prob"
DROPPED = ("include", "exclude", "loss_weight")  # of the layers that stay


@dataclass(frozen=True)
class DeployOptions:
    """How a training net is looked at: images per batch, rules' level and stages, the input's size, heads to keep.

    `given` are shapes of blobs that no rule can tell.
    """

    batch_size: int = 1
    level: int = 0
    stages: Sequence[str] = ()
    input_shape: tuple[int, int, int] | None = None
    all_heads: bool = False
    lenient: bool = False
    beside: Path | None = None
    given: Mapping[str, Shape] | None = None


@dataclass(frozen=True)
class Deployed:
    """The deploy net's text, its outputs, the names of the layers that went, and what was assumed."""

    text: str
    outputs: tuple[str, ...]
    gone: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Head:
    """One output to be: the layer at `place` ends it; `kind` is the type put in its stead, None where it stays."""

    place: int
    blob: str
    weight: float
    kind: tuple[str, str] | None = None


def deploy(text: str, where: object = "<text>", options: DeployOptions | None = None) -> Deployed:
    """The deploy net of the training net `text`; RootgenError where it has no image to score."""
    options = options or DeployOptions()
    net = _read(text, where, options)
    heads = _heads(net, options.all_heads)
    kept = _needed(net, heads)
    sources = [place for place in kept if _brings_data(net.layers[place])]
    if not sources:
        raise RootgenError("none of its outputs comes of an image or other data", where=where)
    fields = layer_fields(scan(text, where))
    edit.check_removable(fields, where)
    names = _names(net, heads)
    written = _written(text, where, options)
    new = {net.layers[place].index: _input_of(net, place, kept, fields) for place in sources}
    new |= {net.layers[h.place].index: _score(net, h, n, fields) for h, n in zip(heads, names, strict=True) if h.kind}
    stays = {net.layers[place].index for place in kept}
    edits = []
    for index, field in enumerate(fields):
        if index in new:
            edits.append(edit.replace(text, field, new[index]))
        elif index in stays:
            edits += [edit.remove(text, inner) for name in DROPPED for inner in field.inner(name)]
        else:
            edits.append(edit.remove(text, field))
    made = edit.apply(text, edits)
    load_text(made, "TEST", where=where, lenient=options.lenient)  # what was made has to be whole
    gone = dict.fromkeys(layer.name for index, layer in sorted(written.items()) if index not in stays | set(new))
    return Deployed(made, tuple(names), tuple(gone), net.notes)


def _written(text: str, where: object, options: DeployOptions) -> dict[int, Layer]:
    """The layers of both phases by their place in the text."""
    found: dict[int, Layer] = {}
    for phase in PHASES:
        with suppress(RootgenError):  # a net may be whole in one phase alone
            net = parse(text, phase, where=where, allow_unknown=True, lenient=options.lenient, stages=options.stages)
            found |= {layer.index: layer for layer in net.layers}
    return found


def _read(text: str, where: object, options: DeployOptions) -> Net:
    """The net in phase TEST, else in TRAIN, with its shapes."""
    errors = []
    for phase in reversed(PHASES):
        try:
            return load_text(
                text,
                phase,
                where=where,
                beside=options.beside,
                level=options.level,
                stages=options.stages,
                lenient=options.lenient,
                input_shape=options.input_shape,
                batch=options.batch_size,
                given=options.given,
            )
        except RootgenError as error:
            errors.append(error)
    raise errors[0]


def _heads(net: Net, every: bool) -> list[_Head]:
    """What the net scores: by its losses, or where it has none, its outputs."""
    losses = [
        _Head(place, layer.bottoms[0], loss_weights(layer)[0], STANDS_FOR.get(layer.type))
        for place, layer in enumerate(net.layers)
        if of(layer).is_loss
    ]
    if losses:
        heaviest = max(head.weight for head in losses)
        heads = [head for head in losses if every or head.weight == heaviest]
        return [_settled(net, head) for head in heads]
    outputs = [
        _Head(place, top, 1.0)
        for place, layer in enumerate(net.layers)
        for top in layer.tops
        if top in net.outputs and of(layer).kind not in ("measure", "sink", "data")
    ]
    if not outputs:
        raise RootgenError("has no loss and no output that is a score", where=net.source)
    return outputs


def _settled(net: Net, head: _Head) -> _Head:
    """A head whose score is there already (a Softmax beside the loss), or whose loss scores nothing itself."""
    maker = net.makers[head.place][0]
    beside = [place for place in net.readers[maker] if head.kind and net.layers[place].type == head.kind[0]]
    for place in beside:
        return _Head(place, net.layers[place].tops[0], head.weight)
    return head if head.kind else _Head(maker, head.blob, head.weight)


def _brings_data(layer: Layer) -> bool:
    """Whether a layer stands at the net's begin: a data layer, or one of Python's that does as much."""
    return of(layer).kind == "data" or (layer.type == "Python" and not layer.bottoms)


def _needed(net: Net, heads: Iterable[_Head]) -> list[int]:
    """Places of the layers that the heads need, in order; a loss that is replaced is not among them."""
    waiting = [net.makers[head.place][0] if head.kind else head.place for head in heads]
    needed: set[int] = set()
    while waiting:
        place = waiting.pop()
        if place not in needed:
            needed.add(place)
            waiting += net.makers[place]
    return sorted(needed)


def _names(net: Net, heads: Sequence[_Head]) -> list[str]:
    """The blob that each head ends in: its own, or for a score put in `prob`, with the loss's name if that is taken."""
    taken = {layer.name for layer in net.layers} | set(net.blobs)
    names: list[str] = []
    for head in heads:
        name = head.blob
        if head.kind:
            alone = sum(1 for other in heads if other.kind) == 1 and OUTPUT not in taken
            name = OUTPUT if alone else f"{net.layers[head.place].name}_{OUTPUT}"
            while name in taken:
                name += "_"
            taken.add(name)
        names.append(name)
    return names


def _input_of(net: Net, place: int, kept: Sequence[int], fields: Sequence[Field]) -> str:
    """What stands for a data layer: the tops of it that the layers `kept` read, in their shapes."""
    layer = net.layers[place]
    read = {bottom for other in kept for bottom in net.layers[other].bottoms}
    tops = [top for top in layer.tops if top in read]
    for top in tops:
        if top not in net.blobs:
            raise layer.error(f"the shape of its top '{top}' is not known", f"say it with --shape {top}=AxBxC...")
    return _input(fields[layer.index], layer, {top: net.blobs[top] for top in tops})


def _input(field: Field, layer: Layer, shapes: dict[str, Shape]) -> str:
    """An Input layer for the tops of a data layer; V1 layers have none, so the net's own `input` fields."""
    dims = {top: " ".join(f"dim: {size}" for size in shape) for top, shape in shapes.items()}
    if field.name == "layers":
        return "\n".join(f"input: {edit.quoted(top)}\ninput_shape {{ {words} }}" for top, words in dims.items())
    lines = [f"name: {edit.quoted(layer.name)}", 'type: "Input"', *(f"top: {edit.quoted(top)}" for top in dims)]
    lines.append("input_param { " + " ".join(f"shape {{ {words} }}" for words in dims.values()) + " }")
    return edit.block("layer", lines)


def _score(net: Net, head: _Head, name: str, fields: Sequence[Field]) -> str:
    """The layer that gives the scores in place of a loss."""
    assert head.kind
    layer = net.layers[head.place]
    old = fields[layer.index].name == "layers"
    lines = [f"name: {edit.quoted(name)}", f"type: {head.kind[1] if old else edit.quoted(head.kind[0])}"]
    lines += [f"bottom: {edit.quoted(head.blob)}", f"top: {edit.quoted(name)}"]
    axis = layer.param.infogain_loss_param.axis if layer.type == "InfogainLoss" else layer.param.softmax_param.axis
    if head.kind[0] == "Softmax" and axis != 1:
        lines.append(f"softmax_param {{ axis: {axis} }}")
    return edit.block("layers" if old else "layer", lines)
