"""Nets and solvers of Caffe's many forks: which messages they are read into, and what is passed over.

A layer of a type that only other Caffes have is read with the fields that they have (proto/forks_schema.txt), and the
net with it. Fields and enum values that are unknown even so are passed over in such layers with a note, and anywhere
with a warning where the reader is `lenient`; a pooling's `ceil_mode`, as several forks have it, then becomes Caffe's
`round_mode`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from rootgen.net.graph import Net
from rootgen.net.layers.registry import TYPES, v1_names
from rootgen.proto import prototxt, schema
from rootgen.proto.scanner import Field, Source, Token, scan

log = logging.getLogger("rootgen")

_CAFFES = frozenset(name for name, kind in TYPES.items() if not kind.origin)
_NETS = ("net_param", "train_net_param", "test_net_param")  # of a solver


def read_message(path: str | Path, name: str, *, lenient: bool = False, told: bool = False) -> Any:
    """The NetParameter or SolverParameter (`name`) in the text file `path`; of the pool that has what it needs.

    `told`: what is passed over was said before.
    """
    text = prototxt.read_source(path)
    return build(scan(text, path), name, Source(text, path), lenient=lenient, told=told)


def build(
    fields: list[Field],
    name: str,
    source: Source,
    *,
    lenient: bool = False,
    allow_unknown: bool = False,
    told: bool = False,
) -> Any:
    """The message `name` of the `fields` read from `source`, which are cleaned of what is passed over.

    `allow_unknown` passes over fields in layers of types that Caffe 1.0 does not have, `lenient` fields and enum
    values everywhere, with a warning for each layer, and one for what stands outside of layers.
    """
    layers = list(_layers(fields))
    forks = False
    for layer in layers:
        foreign = _is_foreign(layer)
        other = layer.name == "layers" and (foreign or lenient) and _take_other_type(layer)
        forks = forks or foreign or other
    cls = schema.message(name, forks=forks)
    for layer in layers:
        if lenient or (allow_unknown and _type(layer) not in _CAFFES):
            dropped = _pass_over(layer, cls, lenient=lenient)
            foreign = _type(layer) not in _CAFFES
            if dropped and not told:
                _tell(source.place(layer.start), dropped, logging.INFO if foreign else logging.WARNING)
    dropped = prototxt.drop_unknown(fields, cls.DESCRIPTOR) if lenient else []
    if dropped and not told:
        _tell(source.where, dropped, logging.WARNING)
    return prototxt.build(fields, cls, source)


def extended(param: Any, where: object) -> Any:
    """A NetParameter with other Caffes' fields where it has layers of theirs, else `param` itself.

    Two Caffes may have given one number to two fields: if what a caffemodel holds there does not fit, it is left out.
    """
    if schema.has_forks(param) or not any(layer.type in TYPES and TYPES[layer.type].origin for layer in param.layer):
        return param
    cls = schema.message("NetParameter", forks=True)
    try:
        return schema.copy(param, cls())
    except DecodeError:
        log.warning(
            "%s: parameters of layers of another Caffe are not read (its numbers mean other fields here)", where
        )
        known = schema.copy(param, type(param)())
        known.DiscardUnknownFields()
        return schema.copy(known, cls())


def param_of(net: Net, *, without: Sequence[str] = ()) -> Any:
    """The NetParameter of a net's layers, without the fields `without` of each; of the pool that has what they need."""
    forks = any(schema.has_forks(layer.param) for layer in net.layers)
    param = schema.message("NetParameter", forks=forks)(name=net.name)
    for layer in net.layers:
        copy = schema.copy(layer.param, param.layer.add())
        for name in without:
            copy.ClearField(name)
    return param


def layer_fields(fields: Iterable[Field]) -> list[Field]:
    """The layers among the fields of a net's text, in order: `Layer.index` is a place in this list.

    Where layers of the V0 form are among them, those called `layer` are not read, and are left out here too.
    """
    found = [field for field in fields if field.name in ("layer", "layers") and not isinstance(field.value, Token)]
    if any(field.name == "layers" and field.inner("layer") for field in found):
        return [field for field in found if field.name == "layers"]
    return found


def _layers(fields: Iterable[Field]) -> Iterator[Field]:
    """The layers of a net's fields, or of the nets that a solver's fields hold."""
    for field in fields:
        if isinstance(field.value, Token):
            continue
        if field.name in _NETS:
            yield from _layers(field.value)
        elif field.name in ("layer", "layers"):
            yield field


def _type(layer: Field) -> str:
    """A layer's type by today's name, also where a V1 layer has one that Caffe 1.0's enum lacks; "" without one."""
    for field in layer.inner("type"):
        if isinstance(field.value, Token):
            word = field.value.text.strip("\"'")
            return _today(word) if layer.name == "layers" else word
    return ""


def _today(word: str) -> str:
    """Today's name of a type of V1 layers; of one that is not Caffe 1.0's, the type that is written so in capitals."""
    same = (name for name in TYPES if name.upper() == word.replace("_", ""))
    return v1_names().get(word) or next(same, word)


def _is_foreign(layer: Field) -> bool:
    """Whether a layer's type is one that only other Caffes have."""
    kind = TYPES.get(_type(layer))
    return kind is not None and bool(kind.origin)


def _take_other_type(layer: Field) -> bool:
    """Write the type of a V1 layer that Caffe 1.0's enum lacks into the field that takes any; whether it was one."""
    names = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name
    for field in layer.inner("type"):
        if isinstance(field.value, Token) and field.value.kind == "name" and field.value.text not in names:
            field.name = "other_type"
            field.value = field.value._replace(kind="string", text=f'"{_today(field.value.text)}"')
            return True
    return False


def _pass_over(layer: Field, cls: Any, *, lenient: bool) -> list[str]:
    """Take out of a layer what a message of the net's class does not have; what was taken."""
    for pooling in layer.inner("pooling_param") if lenient else ():
        for field in pooling.inner("ceil_mode"):
            _round_mode(field)
    name = "V1LayerParameter" if layer.name == "layers" else "LayerParameter"
    known = schema.message(name, forks=schema.has_forks(cls()))
    return [] if isinstance(layer.value, Token) else prototxt.drop_unknown(layer.value, known.DESCRIPTOR)


def _tell(place: object, dropped: list[str], level: int) -> None:
    """Say what was passed over at a place, `once` however often a command reads the file."""
    names = ", ".join(sorted(set(dropped)))
    log.log(level, "%s: what Caffe 1.0 does not have is not read: %s", place, names, extra={"once": True})


def _round_mode(field: Field) -> None:
    """Turn `ceil_mode` into `round_mode`."""
    if isinstance(field.value, Token):
        floor = field.value.text.lower() in ("false", "f", "0")
        field.name = "round_mode"
        field.value = field.value._replace(kind="name", text="FLOOR" if floor else "CEIL")
