"""Nets from prototxt and caffemodel files, as the graph of layers that Caffe would build for one phase.

Old forms are upgraded (proto/upgrade.py), layers filtered by their include and exclude rules, and types and wiring
checked (wiring.py). Shapes are another matter: load.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootgen.errors import RootgenError
from rootgen.net import forks, wiring
from rootgen.net.forks import layer_fields
from rootgen.net.graph import PHASES, Layer, Net
from rootgen.net.layers.registry import v1_names
from rootgen.proto import prototxt, schema, upgrade
from rootgen.proto.scanner import Source, scan


def read(
    path: str | Path,
    phase: str = "TEST",
    *,
    level: int = 0,
    stages: Sequence[str] = (),
    allow_unknown: bool = False,
    lenient: bool = False,
) -> Net:
    """The net in the file `path`: a .prototxt, or a .caffemodel (told by its name, else by its content).

    A caffemodel holds the layers of one phase already; they are all kept, whatever `phase` says.
    `allow_unknown` lets layer types pass that are not known, with fields that are not; `lenient` passes over fields and
    enum values that Caffe does not have in all layers and in the net, with a warning (see net.forks).
    """
    if is_binary(path):
        param = schema.read_binary(path, schema.message("NetParameter"))
        schema.mend_strings(param)
        return from_param(
            param, _phase_of(param, phase), where=path, level=level, stages=stages, allow_unknown=allow_unknown
        )
    text = prototxt.read_source(path)
    return parse(text, phase, where=path, level=level, stages=stages, allow_unknown=allow_unknown, lenient=lenient)


def parse(
    text: str,
    phase: str = "TEST",
    *,
    where: object = "<text>",
    level: int = 0,
    stages: Sequence[str] = (),
    allow_unknown: bool = False,
    lenient: bool = False,
) -> Net:
    """The net that the prototxt `text` describes; its layers know their line of `where`."""
    fields = scan(text, where)
    lines = _lines(text, [field.start for field in layer_fields(fields)])
    source = Source(text, where)
    param = forks.build(fields, "NetParameter", source, lenient=lenient, allow_unknown=allow_unknown)
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
    param = upgraded(forks.extended(net_param, where), where)
    if not param.layer:
        raise RootgenError("has no layers", where=where, hint="is it a net's prototxt, and not a solver's?")
    places = upgrade.places(net_param, param)
    state = _State(phase, level or param.state.level, frozenset(param.state.stage) | frozenset(stages))
    layers, left_out = [], []
    for index, proto in zip(places, param.layer, strict=True):
        line = None if not lines else 1 if index < 0 else lines[index]
        named = f"layer '{proto.name if len(proto.name) <= 80 else proto.name[:77] + '...'}'"
        place = f"{where}: {named}" if line is None else f"{where}:{line}: {named}"
        layer = Layer(proto.name, proto.type, tuple(proto.bottom), tuple(proto.top), proto, place, index)
        if state.includes(layer):
            wiring.check_type(layer, allow_unknown)
            layers.append(layer)
        else:
            left_out.append(layer)
    if not layers:
        raise RootgenError(f"none of its {len(param.layer)} layers is in phase {phase}", where=where)
    wiring.check_wiring(layers, left_out)
    return Net(param.name, phase, tuple(layers), str(where))


def upgraded(net_param: Any, where: object) -> Any:
    """`net_param` in today's form: itself, or a changed copy; see proto.upgrade."""
    return upgrade.upgrade(net_param, v1_names(), where)


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
        if Path(path).exists() and not Path(path).is_file():
            return False  # a pipe, as in `rootgen cost <(rootgen emit nin)`, can be read only once
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
