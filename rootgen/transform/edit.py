"""Small changes to a prototxt that leave every other byte as it is: a layer's groups, a layer put in behind.

Edits are (start, end, new text) of the original text; `apply` makes them all at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from google.protobuf import text_encoding

from rootgen.errors import RootgenError
from rootgen.proto.scanner import Field, Token

_GEOMETRY = re.compile(r"num_output|(pad|kernel|stride)(_?size|_h|_w)?|dilation")  # `group` goes in after these
_REST_BLANK = re.compile(r"[ \t]*[,;]?[ \t]*(#[^\r\n]*)?(?=\r?\n|\Z)")
_BETWEEN = "_grouped"
_MIXING = "_1x1"


class Edit(NamedTuple):
    """Replace text[start:end] by `new`."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """`text` with all `edits` made; none may reach into another."""
    parts, at = [], 0
    for edit in sorted(edits):
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def set_group(text: str, layer: Field, group: int) -> Edit:
    """Give a Convolution `layer` the number of groups: in place of the one it has, else after kernel and stride."""
    (param,) = layer.inner("layer") or layer.inner("convolution_param")  # all settings stood in `layer` in the V0 form
    existing = param.inner("group")
    if existing:
        return set_scalar(existing[0], group)
    return after_geometry(text, param, f"group: {group}")


def after_geometry(text: str, param: Field, new: str) -> Edit:
    """Put `new` into a convolution's settings, after its kernel, stride and pad."""
    anchors = [field for field in _fields(param) if _GEOMETRY.fullmatch(field.name) and not field.listed]
    if not anchors:  # all of them stand in lists
        return Edit(param.opened + 1, param.opened + 1, " " + " ".join(new.split("\n")))
    return after(text, anchors[-1], new)


def insert_mixing(text: str, layer: Field, param: Any) -> list[Edit]:
    """Put a ReLU and a 1x1 convolution behind the Convolution `layer`, whose upgraded LayerParameter is `param`.

    For a layer with one bottom and one top. The 1x1 convolution takes over the name of the top, so that no other
    layer has to change, and the layer's own top becomes `between(param)`; it has as many outputs, and bias and
    `param` like the layer's.
    """
    middle, bodies = mixing(text, layer, param)
    (top,) = layer.inner("top")
    rename = Edit(*_scalar(top), middle)
    if layer.listed:
        return [rename, Edit(layer.end, layer.end, "".join(f", {body}" for body in bodies))]
    return [rename, after(text, layer, "\n".join(f"{layer.name} {body}" for body in bodies))]


def mixing(text: str, layer: Field, param: Any, *, linear: bool = False) -> tuple[str, list[str]]:
    """The blob that takes the place of a layer's top, as a word in quotes, and the bodies of what goes from there on.

    These are a ReLU and a 1x1 convolution, or with `linear` that alone, which keeps the variance of what it combines.
    """
    word = word_of(text, layer, "top")  # quotes, escapes and bytes of whatever encoding stay as they are
    middle = derived(word, _BETWEEN)
    if layer.inner("layer"):
        blocks = _mixing_v0(param, middle, word)
    else:
        blocks = _mixing(param, middle, word, rules_of(text, layer), old=layer.name == "layers", linear=linear)
    return middle, [body(block) for block in blocks]


def word_of(text: str, layer: Field, name: str) -> str:
    """The value of a layer's only field `name` as it is written."""
    (field,) = layer.inner(name)
    start, end = _scalar(field)
    return text[start:end]


def derived(word: str, suffix: str) -> str:
    """A word in quotes with a suffix before the closing one."""
    return f"{word[:-1]}{suffix}{word[-1]}"


def rules_of(text: str, layer: Field) -> list[str]:
    """The include and exclude rules of a layer, as they are written."""
    return [_written(text, field) for name in ("include", "exclude") for field in layer.inner(name)]


def _mixing(param: Any, middle: str, top: str, rules: list[str], *, old: bool, linear: bool) -> list[list[str]]:
    """Lines inside a ReLU on the blob `middle` and a 1x1 convolution from there to `top`; both words are quoted."""
    names = names_of_mixing(param)
    relu = [*head(names[0], "ReLU", old, [middle], [middle]), *rules]
    convolution = [
        *head(names[1], "Convolution", old, [middle], [top]),
        *(_specs_v1(param) if old else _specs(param)),
        *rules,
        "convolution_param {",
        f"  num_output: {param.convolution_param.num_output}",
        "  kernel_size: 1",
        *(["  bias_term: false"] if not param.convolution_param.bias_term else []),
        f'  weight_filler {{ type: "{"xavier" if linear else "msra"}" }}',
        "}",
    ]
    return [convolution] if linear else [relu, convolution]


def _mixing_v0(param: Any, middle: str, top: str) -> list[list[str]]:
    """The same in the form of V0 layers."""
    names = [quoted(name) for name in names_of_mixing(param)]
    relu = [f'layer {{ name: {names[0]} type: "relu" }}', f"bottom: {middle}", f"top: {middle}"]
    convolution = [
        "layer {",
        f"  name: {names[1]}",
        '  type: "conv"',
        f"  num_output: {param.convolution_param.num_output}",
        "  kernelsize: 1",
        *(["  biasterm: false"] if not param.convolution_param.bias_term else []),
        '  weight_filler { type: "msra" }',
        *(f"  {line}" for line in _specs_v1(param)),
        "}",
        f"bottom: {middle}",
        f"top: {top}",
    ]
    return [relu, convolution]


def _written(text: str, field: Field) -> str:
    """A message as it stands in the text, with its name in front where a list leaves that out."""
    return f"{field.name} {text[field.start : field.end]}" if field.listed else text[field.start : field.end]


def set_string(field: Field, value: str) -> Edit:
    """Give a field that is a string another value."""
    start, end = _scalar(field)
    return Edit(start, end, quoted(value))


def set_scalar(field: Field, value: object) -> Edit:
    """Give a field another number or word."""
    start, end = _scalar(field)
    return Edit(start, end, str(value))


def put_in_place(text: str, field: Field, parts: Sequence[str]) -> Edit:
    """Put `parts` in place of `field`: on lines of their own, indented alike, where it begins one; else in a row."""
    return Edit(field.start, field.end, _between_lines(text, field).join(parts))


def insert_before(text: str, field: Field, new: str) -> Edit:
    """Put the lines `new` before `field`, laid out as it is."""
    return Edit(field.start, field.start, f"{laid_out(text, field, new)}{_between_lines(text, field)}")


def after(text: str, field: Field, new: str) -> Edit:
    """Put `new` behind `field`: on lines of its own, indented alike, where the field ends its line; else beside it."""
    begin = text.rfind("\n", 0, field.start) + 1
    indent = text[begin : field.start]
    new = new.replace("\r\n", "\n")
    rest = _REST_BLANK.match(text, field.end)
    if indent.strip() or not rest:
        beside = new if "#" in new else " ".join(line.strip() for line in new.split("\n"))
        return Edit(field.end, field.end, f" {beside}")
    line_end = _line_end(text, rest.end())
    lines = "".join(f"{line_end}{indent}{line}" for line in new.split("\n"))
    return Edit(rest.end(), rest.end(), lines)


def laid_out(text: str, field: Field, new: str) -> str:
    """The lines `new` as put_in_place puts them: indented as `field` is, or in a row."""
    between = _between_lines(text, field)
    if between != " " or "#" in new:
        return new.replace("\r\n", "\n").replace("\n", between if between != " " else "\n")
    return " ".join(line.strip() for line in new.split("\n"))


def _between_lines(text: str, field: Field) -> str:
    """A line break and the indent of `field` where it begins a line, else a space."""
    begin = text.rfind("\n", 0, field.start) + 1
    indent = text[begin : field.start]
    if indent.strip():
        return " "
    return f"{_line_end(text, field.end)}{indent}"


def _line_end(text: str, at: int) -> str:
    """How lines end from `at` on, or in all of the text where nothing follows."""
    after = text[at : at + text[at:].find("\n") + 1] or text
    return "\r\n" if "\r\n" in after else "\n"


def check_removable(fields: Sequence[Field], where: object) -> None:
    """RootgenError where the layers are written in a form that none can be taken out of, or replaced."""
    if any(field.name == "layers" and field.inner("layer") for field in fields):
        raise RootgenError("its layers are of the V0 form", where=where, hint="`rootgen upgrade` it first")
    if any(field.listed for field in fields):
        raise RootgenError("its layers stand in a list", where=where, hint="write each as layer { ... }")


def remove(text: str, field: Field) -> Edit:
    """Take `field` out: with its lines where nothing else stands on them, comments at their ends included."""
    begin = text.rfind("\n", 0, field.start) + 1
    rest = _REST_BLANK.match(text, field.end)
    if text[begin : field.start].strip() or not rest:
        space = len(text[field.end :]) - len(text[field.end :].lstrip(" \t,;"))
        return Edit(field.start, field.end + space, "")
    end = text.find("\n", rest.end())
    return Edit(begin, len(text) if end < 0 else end + 1, "")


def replace(text: str, field: Field, new: str) -> Edit:
    """Put the lines `new` in place of `field`, indented as it is."""
    begin = text.rfind("\n", 0, field.start) + 1
    indent = text[begin : field.start]
    return Edit(field.start, field.end, new.replace("\n", f"\n{indent}") if not indent.strip() else new)


def block(name: str, lines: Iterable[str]) -> str:
    """A message of `lines`, indented by two."""
    return f"{name} {body(lines)}"


def body(lines: Iterable[str]) -> str:
    """The same without its name."""
    return "\n".join(["{", *(f"  {line}" for line in lines), "}"])


def between(param: Any) -> str:
    """Name of the blob between a layer and the 1x1 convolution put in behind it."""
    return f"{param.top[0]}{_BETWEEN}"


def names_of_mixing(param: Any) -> tuple[str, str]:
    """Names of the ReLU and of the 1x1 convolution put in behind a layer."""
    return f"{between(param)}_relu", f"{param.name}{_MIXING}"


def names_of_shared(param: Any) -> list[str]:
    """Names under which the blobs of that 1x1 convolution are shared, where those of the layer are."""
    return [f"{spec.name}{_MIXING}" for spec in param.param if spec.name]


def head(name: str, kind: str, old: bool, bottoms: Sequence[str], tops: Sequence[str]) -> list[str]:
    """The first lines of a layer; bottoms and tops are words in quotes, `old` is the form of V1."""
    return [
        f"name: {quoted(name)}",
        f"type: {kind.upper() if old else quoted(kind)}",
        *(f"bottom: {word}" for word in bottoms),
        *(f"top: {word}" for word in tops),
    ]


def _specs(param: Any) -> list[str]:
    """`param` lines like those of a layer; blobs shared by name are shared under a name of their own."""
    lines = []
    for spec in param.param:
        fields = [f"name: {quoted(spec.name + _MIXING)}"] if spec.name else []
        fields += [f"{name}: {getattr(spec, name):g}" for name in ("lr_mult", "decay_mult") if spec.HasField(name)]
        lines.append(f"param {{ {' '.join(fields)} }}")
    return lines


def _specs_v1(param: Any) -> list[str]:
    """The same in the form of V1 layers."""
    lines = [f"param: {quoted(name)}" for name in names_of_shared(param)]
    lines += [f"blobs_lr: {spec.lr_mult:g}" for spec in param.param]
    return lines + [f"weight_decay: {spec.decay_mult:g}" for spec in param.param]


def quoted(name: str) -> str:
    """A name as a prototxt string."""
    return '"' + text_encoding.CEscape(name.encode(), True) + '"'


def _fields(message: Field) -> list[Field]:
    return [] if isinstance(message.value, Token) else message.value


def within(text: str, field: Field, edits: Iterable[Edit]) -> str:
    """The text of `field` with `edits` made, which are places in all of `text`."""
    start = field.start
    return apply(text[start : field.end], (Edit(one.start - start, one.end - start, one.new) for one in edits))


def _scalar(field: Field) -> tuple[int, int]:
    """Place of a field's value."""
    if not isinstance(field.value, Token):
        raise RootgenError(f"'{field.name}' takes a single value")
    return field.value.start, field.value.end
