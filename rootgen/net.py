"""A network description as the graph of layers that Caffe would build for one phase.

`read` takes a .prototxt or a .caffemodel; old forms are upgraded (upgrade.py), layers filtered by their
include and exclude rules, and the wiring checked as Caffe's net.cpp does: every bottom is the top of a
layer above, no two layers make one blob, and a layer works in place only on a blob nobody else reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootgen import prototxt, schema, upgrade
from rootgen.errors import RootgenError, did_you_mean
from rootgen.layer_types import ARITY, EQUAL_BOTTOMS_AND_TOPS, MANY

PHASES = ("TRAIN", "TEST")


@dataclass(frozen=True)
class Layer:
    """One layer of a Net: its wiring, its LayerParameter, and `where` it stands, as errors name it.

    `where` reads `net.prototxt:12: layer 'conv1'`; the line is left out where the source has none.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    param: Any
    where: str

    def error(self, what: str, hint: str | None = None) -> RootgenError:
        """The error `what`, placed at this layer."""
        return RootgenError(what, where=self.where, hint=hint)


@dataclass(frozen=True)
class Net:
    """The layers of one phase, in the order in which Caffe runs them; `source` is the file or "<text>"."""

    name: str
    phase: str
    layers: tuple[Layer, ...]
    source: str


def read(
    path: str | Path,
    phase: str = "TEST",
    *,
    level: int = 0,
    stages: Sequence[str] = (),
    allow_unknown: bool = False,
) -> Net:
    """The net in the file `path`: a .prototxt, or a .caffemodel (told by its name, else by its content).

    A caffemodel holds the layers of one phase already; they are all kept, whatever `phase` says.
    `allow_unknown` lets layer types pass that Caffe does not have.
    """
    if is_binary(path):
        param = schema.read_binary(path, schema.NetParameter)
        return from_param(
            param, _phase_of(param, phase), where=path, level=level, stages=stages, allow_unknown=allow_unknown
        )
    text = prototxt.read_source(path)
    return parse(text, phase, where=path, level=level, stages=stages, allow_unknown=allow_unknown)


def parse(
    text: str,
    phase: str = "TEST",
    *,
    where: object = "<text>",
    level: int = 0,
    stages: Sequence[str] = (),
    allow_unknown: bool = False,
) -> Net:
    """The net that the prototxt `text` describes; its layers know their line of `where`."""
    fields = prototxt.scan(text, where)
    param = prototxt.build(fields, schema.NetParameter, prototxt.Source(text, where))
    lines = _lines(text, [field.start for field in fields if field.name in ("layer", "layers")])
    return from_param(
        param, phase, where=where, level=level, stages=stages, allow_unknown=allow_unknown, lines=list(lines)
    )


def from_param(
    net_param: Any,
    phase: str = "TEST",
    *,
    where: object = "<net>",
    level: int = 0,
    stages: Sequence[str] = (),
    allow_unknown: bool = False,
    lines: Sequence[int] = (),
) -> Net:
    """The net that a NetParameter describes; `lines` are the lines of its layers, where known.

    `level` 0 leaves the level of the description's own `state`; `stages` are added to its stages.
    """
    if phase not in PHASES:
        raise RootgenError(f"no phase '{phase}'", hint="TRAIN or TEST")
    param = upgrade.upgrade(net_param, where)
    if not param.layer:
        raise RootgenError("has no layers", where=where, hint="is it a net's prototxt, and not a solver's?")
    numbers: list[int | None] = list(lines) or [None] * len(param.layer)
    if len(numbers) < len(param.layer):
        numbers.insert(0, 1)  # the Input layer that `input` became
    state = _State(phase, level or param.state.level, frozenset(param.state.stage) | frozenset(stages))
    layers, left_out = [], []
    for proto, line in zip(param.layer, numbers, strict=True):
        place = f"{where}: layer '{proto.name}'" if line is None else f"{where}:{line}: layer '{proto.name}'"
        layer = Layer(proto.name, proto.type, tuple(proto.bottom), tuple(proto.top), proto, place)
        if state.includes(layer):
            _check_type(layer, allow_unknown)
            layers.append(layer)
        else:
            left_out.append(layer)
    if not layers:
        raise RootgenError(f"none of its {len(param.layer)} layers is in phase {phase}", where=where)
    _check_wiring(layers, left_out)
    return Net(param.name, phase, tuple(layers), str(where))


def is_binary(path: str | Path) -> bool:
    """Whether the file `path` holds a binary message (.caffemodel) and not text."""
    suffix = Path(path).suffix
    if suffix in (".h5", ".hdf5"):
        raise RootgenError("an HDF5 file holds weights and no network", where=path, hint="pass the net's prototxt")
    if suffix in (".caffemodel", ".binaryproto"):
        return True
    if suffix in (".prototxt", ".pbtxt", ".txt"):
        return False
    try:
        with Path(path).open("rb") as file:
            return any(byte < 0x20 and byte not in b"\t\n\v\f\r" for byte in file.read(4096))
    except OSError as error:
        raise RootgenError(f"cannot read: {error.strerror}", where=path) from error


@dataclass(frozen=True)
class _State:
    """What a layer's include and exclude rules are held against (Caffe's NetState)."""

    phase: str
    level: int
    stages: frozenset[str]

    def includes(self, layer: Layer) -> bool:
        include, exclude = layer.param.include, layer.param.exclude
        if include and exclude:
            raise layer.error("has both include and exclude rules (Caffe takes one kind)")
        if include:
            return any(self.meets(rule) for rule in include)
        return not any(self.meets(rule) for rule in exclude)

    def meets(self, rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or PHASES[rule.phase] == self.phase)
            and (not rule.HasField("min_level") or self.level >= rule.min_level)
            and (not rule.HasField("max_level") or self.level <= rule.max_level)
            and self.stages.issuperset(rule.stage)
            and self.stages.isdisjoint(rule.not_stage)
        )


def _phase_of(param: Any, phase: str) -> str:
    """The phase whose layers a caffemodel holds; `phase` where it does not say.

    Caffe records each layer's phase when it writes a model. Older models only have the rules of the layers
    that passed the filter, so all of these speak of one phase.
    """
    recorded = {layer.phase for layer in param.layer if layer.HasField("phase")}
    ruled = {rule.phase for layer in (*param.layer, *param.layers) for rule in layer.include if rule.HasField("phase")}
    for found in (recorded, ruled):
        if len(found) == 1:
            return PHASES[found.pop()]
    return phase


def _lines(text: str, starts: Sequence[int]) -> Iterator[int]:
    """Line number, from 1, of each of the ascending offsets `starts`."""
    line, before = 1, 0
    for start in starts:
        line += text.count("\n", before, start)
        before = start
        yield line


def _check_type(layer: Layer, allow_unknown: bool) -> None:
    """Refuse a layer whose type Caffe does not have, or that has the wrong number of bottoms or tops."""
    arity = ARITY.get(layer.type)
    if arity is None:
        if allow_unknown and layer.type:
            return
        what = f"no layer type '{layer.type}' in Caffe" if layer.type else "has no type"
        raise layer.error(what, did_you_mean(layer.type, ARITY) if layer.type else None)
    for names, least, most, word in (
        (layer.bottoms, arity.min_bottoms, arity.max_bottoms, "bottom"),
        (layer.tops, arity.min_tops, arity.max_tops, "top"),
    ):
        if not least <= len(names) <= most:
            rule = str(least) if least == most else f"{least} or more" if most == MANY else f"{least} to {most}"
            raise layer.error(f"has {len(names)} {word}, but {layer.type} takes {rule}")
    if layer.type in EQUAL_BOTTOMS_AND_TOPS and len(layer.bottoms) != len(layer.tops):
        raise layer.error(f"has {len(layer.bottoms)} bottom and {len(layer.tops)} top (one top per bottom)")


def _check_wiring(layers: Sequence[Layer], left_out: Sequence[Layer]) -> None:
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
            others = [reader.name for reader in readers.get(top, ()) if reader is not layer]
            if in_place and others:
                raise layer.error(
                    f"works in place on blob '{top}', which layer '{others[0]}' reads too (Caffe refuses that)",
                    "give its top another name",
                )
            makers[top] = layer
            readers[top] = []


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
            f"bottom '{bottom}' comes from layer '{later.name}', which needs this layer's output (a cycle)",
            "a net has to be free of cycles",
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
