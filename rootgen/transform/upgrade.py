"""Old nets, solvers and models in today's form, as Caffe's own upgrade gives them (proto/upgrade.py).

V1 `layers`, `input`, BatchNorm's three `param` and `solver_type` are edited where they stand, so that comments, order
and formatting stay. Layers of the V0 form are written anew, and so is a layer that cannot be edited. What was made is
parsed again, and has to be the upgraded message field by field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from rootgen.errors import RootgenError
from rootgen.net import forks
from rootgen.net.forks import layer_fields
from rootgen.net.read import upgraded
from rootgen.proto import prototxt, schema, upgrade, v0
from rootgen.proto.scanner import Field, Source, Token, scan
from rootgen.transform import edit

_NETS = ("layer", "layers", "input", "input_dim", "input_shape")
_INPUTS = ("input", "input_dim", "input_shape")
_SPECS = ("param", "blob_share_mode", "blobs_lr", "weight_decay")
_DATA_PARAMS = ("data_param", "image_data_param", "window_data_param")
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")


@dataclass(frozen=True)
class Upgraded:
    """The text in today's form, what was old in it (nothing: the text is as it was), and the layers written anew."""

    text: str
    old: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()


def upgrade_text(text: str, where: object = "<text>", *, lenient: bool = False) -> Upgraded:
    """A net's or a solver's prototxt in today's form; RootgenError where Caffe's own upgrade would end."""
    names = {field.name for field in scan(text, where)}
    solver = schema.message("SolverParameter").DESCRIPTOR.fields_by_name
    if not names.intersection(_NETS) and names.intersection(solver):
        return _solver(text, where, lenient)
    before = _parsed(text, where, lenient)
    wanted = upgraded(before, where)
    if wanted == before:
        return Upgraded(text)
    fields = scan(text, where)
    layers = layer_fields(fields)
    anew: set[int] = {i for i, field in enumerate(layers) if field.inner("layer")}
    new = edit.apply(text, _edits(text, fields, before, wanted, anew))
    wrong = _wrong(new, before, wanted, where, lenient)
    if wrong:
        anew |= wrong
        new = edit.apply(text, _edits(text, fields, before, wanted, anew))
        if _wrong(new, before, wanted, where, lenient):
            new, anew = prototxt.format(wanted), set(range(len(layers)))
    places = upgrade.places(before, wanted)
    named = tuple(layer.name for layer, place in zip(wanted.layer, places, strict=True) if place in anew)
    return Upgraded(new, tuple(_old(before)), named)


def upgrade_model(path: str | Path) -> tuple[bytes, tuple[str, ...]]:
    """The .caffemodel `path` in today's form with its blobs as they are, and what was old in it.

    Where nothing was, the bytes are those of the file. RootgenError where it holds what the upgrade would lose.
    """
    param = schema.read_binary(path, schema.message("NetParameter"))
    if upgraded(param, path) is param:
        return Path(path).read_bytes(), ()
    schema.mend_strings(param)
    new = upgraded(param, path)
    if new == param:
        return Path(path).read_bytes(), ()
    for message, name in ((param, "the net"), *((one, f"layer '{one.name}'") for one in param.layers)):
        if len(UnknownFieldSet(message)):
            raise RootgenError(
                f"{name} has fields that Caffe 1.0 does not know, which would be lost",
                where=path,
                hint="it was saved by another Caffe: upgrade it with that one's upgrade_net_proto_binary",
            )
    for layer in new.layer:
        if not layer.type:
            raise RootgenError("its type is none of Caffe 1.0's", where=f"{path}: layer '{layer.name}'")
    return schema.to_bytes(new), tuple(_old(param))


def _parsed(text: str, where: object, lenient: bool) -> Any:
    """The NetParameter of a text, with what other Caffes have in their layers."""
    fields = scan(text, where)
    return forks.build(fields, "NetParameter", Source(text, where), lenient=lenient, allow_unknown=True, told=True)


def _wrong(new: str, before: Any, wanted: Any, where: object, lenient: bool) -> set[int]:
    """The places (as of upgrade.places) of layers that the text `new` has otherwise than `wanted`; -1 for the rest."""
    try:
        found = _parsed(new, where, lenient)
    except RootgenError:
        return {-1, *upgrade.places(before, wanted)}
    if found == wanted:
        return set()
    if len(found.layer) != len(wanted.layer):
        return {-1}
    places = upgrade.places(before, wanted)
    return {
        place for one, other, place in zip(found.layer, wanted.layer, places, strict=True) if one != other
    } or {-1}  # fmt: skip


def _old(param: Any) -> Iterator[str]:
    """What of a NetParameter is old, in words."""
    if v0.is_v0(param):
        yield f"{len(param.layers)} V0 layers"
    elif param.layers:
        yield f"{len(param.layers)} V1 layers"
    if param.input:
        yield "input"
    if any(layer.type == "BatchNorm" and len(layer.param) == 3 for layer in param.layer):
        yield "BatchNorm's params"


def _edits(text: str, fields: Sequence[Field], before: Any, wanted: Any, anew: Iterable[int]) -> list[edit.Edit]:
    """All edits that bring a net's text into the form of `wanted`; the layers `anew` are written from the message."""
    layers = layer_fields(fields)
    places = upgrade.places(before, wanted)
    news = dict(zip(places, wanted.layer, strict=True))
    edits = _inputs(text, fields, layers, news.get(-1))
    edits += [edit.remove(text, field) for field in fields if field.name == "layer" and field not in layers]
    for place, field in enumerate(layers):
        if place not in news:  # padding of a V0 net
            edits.append(edit.remove(text, field))
        elif place in anew:
            edits.append(edit.replace(text, field, _layer(news[place])))
        elif field.name == "layers":
            edits += _v1(text, field, news[place])
        elif news[place] != before.layer[place]:
            edits += _specs(text, field, news[place], ("param",))
    return edits


def _layer(param: Any) -> str:
    return edit.block("layer", prototxt.format(param).splitlines())


def _inputs(text: str, fields: Sequence[Field], layers: Sequence[Field], new: Any) -> list[edit.Edit]:
    """The Input layer in place of the first of `input` and its sizes, before all layers; the others go."""
    spans = _whole(text, [field for field in fields if field.name in _INPUTS])
    if not spans:
        return []
    edits = []
    if new is not None:
        ahead = layers and layers[0].start < spans[0].start
        if ahead:
            edits.append(edit.Edit(layers[0].start, layers[0].start, f"{_layer(new)}\n"))
        else:
            edits.append(edit.replace(text, spans.pop(0), _layer(new)))
    return edits + [edit.remove(text, span) for span in spans]


def _whole(text: str, fields: Sequence[Field]) -> list[Field]:
    """The fields, with those of one list `name: [a, b]` as one."""
    spans: dict[int, Field] = {}
    for field in fields:
        span = field
        if field.listed or (isinstance(field.value, Token) and field.value.kind == "list"):
            span = Field(field.name, text.rfind(field.name, 0, field.start))
            span.end = text.find("]", field.end - 1) + 1
        spans[span.start] = span
    return list(spans.values())


def _v1(text: str, field: Field, new: Any) -> list[edit.Edit]:
    """A V1 layer in today's form, edited."""
    edits = [] if field.listed else [edit.Edit(field.start, field.start + len(field.name), "layer")]
    for kind in field.inner("type"):
        if isinstance(kind.value, Token):
            edits.append(edit.Edit(kind.value.start, kind.value.end, edit.quoted(new.type)))
    edits += _specs(text, field, new, _SPECS)
    for name in _DATA_PARAMS:
        for param in field.inner(name):
            edits += _moved(text, field, param)
    return edits


def _specs(text: str, field: Field, new: Any, names: Sequence[str]) -> list[edit.Edit]:
    """The `param` of today's layer in place of the first of the fields `names`; the others go."""
    old = sorted(_whole(text, [one for name in names for one in field.inner(name)]), key=lambda one: one.start)
    if not old:
        return []
    lines = [f"param {{ {' '.join(map(_plain, prototxt.format(spec).splitlines()))} }}" for spec in new.param]
    alone = not text[text.rfind("\n", 0, old[0].start) + 1 : old[0].start].strip()
    first = edit.replace(text, old[0], ("\n" if alone else " ").join(lines))
    return [first, *(_gone(text, one) for one in old[1:])]


def _gone(text: str, field: Field) -> edit.Edit:
    """Take `field` out: its line where it has one to itself, else the blanks before it too."""
    ahead = len(text[: field.start].rstrip(" \t"))
    if text[max(ahead - 1, 0) : ahead] in ("", "\n"):
        return edit.remove(text, field)
    end = len(text) - len(text[field.end :].lstrip(" \t"))
    return edit.Edit(ahead, end + 1 if text[end : end + 1] in (",", ";") else field.end, "")


def _plain(line: str) -> str:
    """A line of a `param` without the `.0` of a whole multiplier."""
    return line.removesuffix(".0") if "_mult: " in line else line


def _moved(text: str, field: Field, param: Field) -> list[edit.Edit]:
    """What a data layer's own parameter says of the transformation, put into transform_param."""
    moving = [one for name in _TRANSFORM for one in param.inner(name)]
    if not moving:
        return []
    words = [text[one.start : one.end] for one in moving]
    edits = [_gone(text, one) for one in moving]
    there = field.inner("transform_param")
    if there:
        at = there[-1].end - 1
        return [*edits, edit.Edit(at, at, " ".join([*([] if text[at - 1].isspace() else [""]), *words, ""]))]
    begin = text.rfind("\n", 0, param.start) + 1
    indent = text[begin : param.start]
    block = edit.block("transform_param", words) if not indent.strip() else f"transform_param {{ {' '.join(words)} }}"
    gap = f"\n{indent}" if not indent.strip() else " "
    return [*edits, edit.Edit(param.start, param.start, block.replace("\n", f"\n{indent}") + gap)]


def _solver(text: str, where: object, lenient: bool) -> Upgraded:
    """A solver with `type` in place of `solver_type`."""
    fields = scan(text, where)
    source = Source(text, where)
    before = forks.build(fields, "SolverParameter", source, lenient=lenient, told=True)
    old = [field for field in fields if field.name == "solver_type"]
    if not old:
        return Upgraded(text)
    wanted = upgrade.upgrade_solver(before, where)
    edits = [edit.Edit(old[0].start, old[0].end, f"type: {edit.quoted(wanted.type)}")]
    new = edit.apply(text, [*edits, *(edit.remove(text, field) for field in old[1:])])
    found = forks.build(scan(new, where), "SolverParameter", Source(new, where), lenient=lenient, told=True)
    if found != wanted:
        raise RootgenError("cannot be put into today's form", where=where, hint="write type for solver_type by hand")
    return Upgraded(new, ("solver_type",))
