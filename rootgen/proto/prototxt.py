"""Prototxt (protobuf text format) as messages of Caffe's schema, and messages as prototxt.

`parse` fills a message from the tree of fields that scanner.py reads; it refuses bad text with its line and
column, and names the nearest known field. protobuf's own `text_format` serves for writing (`format`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from rootgen.errors import RootgenError
from rootgen.proto import schema
from rootgen.proto.scanner import Field, Source, Token, scan, short, string_bodies

MAX_BYTES = 16 * 2**20  # ten times the largest network known; a caffemodel passed by mistake is often larger

_ESCAPE = re.compile(
    rb"""\\(?:([abfnrtv?'"\\])|([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"""
    rb"""|u([0-9a-fA-F]{4})|U(00[0-9a-fA-F]{6})|())""",
)
_LETTERS = dict(zip(b"abfnrtv?'\"\\", b"\a\b\f\n\r\t\v?'\"\\", strict=True))
_NOT_FINITE = re.compile(r"-?(?:inf(?:inity)?|nan)", re.IGNORECASE)
_OCTAL = re.compile(r"-?0\d+")
_INT_RANGE = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_BOOLS = {"true": True, "t": True, "True": True, "1": True, "false": False, "f": False, "False": False, "0": False}
_MESSAGE = FieldDescriptor.CPPTYPE_MESSAGE


def read_source(path: str | Path) -> str:
    """Text of the prototxt `path`; RootgenError where it cannot be one (UTF-16, over 16 MiB)."""
    from rootgen.files import read_bytes

    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0  # read_bytes says what is wrong
    if size > MAX_BYTES:
        raise RootgenError(
            f"{size / 2**20:.0f} MiB is too large for a prototxt", where=path, hint="is it a .caffemodel or a database?"
        )
    return decoded(read_bytes(path, most=MAX_BYTES, pipes=True), path)


def decoded(content: bytes, where: object) -> str:
    """The text of a prototxt's bytes, none of them lost; RootgenError where it is UTF-16.

    Caffe minds no encoding in strings and comments: bytes that are no UTF-8 become lone surrogates, as in the names of
    files.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RootgenError("UTF-16 text, which Caffe does not read", where=where, hint="save it as UTF-8")
    return content.decode("utf-8", "surrogateescape")


def read(path: str | Path, cls: type[Message]) -> Any:
    """A `cls` message (schema.NetParameter, ...) from the text file `path`."""
    return parse(read_source(path), cls, path)


def parse(text: str, cls: type[Message], where: object = "<text>") -> Any:
    """A `cls` message from `text`; errors are placed in `where`, and name the nearest known field."""
    return build(scan(text, where), cls, Source(text, where))


def build(fields: list[Field], cls: type[Message], source: Source) -> Any:
    """A `cls` message from the `fields` that `scan` read from `source`."""
    msg = cls()
    _refuse_another_kind(fields, cls, source)
    _fill(msg, fields, source, _fields(msg.DESCRIPTOR))
    return msg


def _refuse_another_kind(fields: list[Field], cls: type[Message], source: Source) -> None:
    """Say so where a solver is given for a net, or a net for a solver: the fields tell."""
    wanted = cls.DESCRIPTOR.name
    names, mine = {field.name for field in fields}, _fields(cls.DESCRIPTOR)
    foreign = names & set(_fields(schema.SolverParameter.DESCRIPTOR)) - set(mine)
    if wanted == "NetParameter" and not names & {"layer", "layers"} and len(foreign) > len(names) / 2:
        nets = [field.value for field in fields if field.name in ("net", "train_net")]
        named = nets[0].text if nets and isinstance(nets[0], Token) else ""
        hint = f"pass its net, {short(named)}" if named else "pass the net's prototxt"
        raise RootgenError("a solver's prototxt, not a net's", where=source.where, hint=hint)
    if wanted == "SolverParameter" and names & {"layer", "layers", "input"}:
        hint = "pass the solver's prototxt, which names the net"
        raise RootgenError("a net's prototxt, not a solver's", where=source.where, hint=hint)


def drop_unknown(fields: list[Field], descriptor: Descriptor) -> list[str]:
    """Take out of `fields` those, and those enum values, that a message of `descriptor` does not have; as written."""
    known = _fields(descriptor)
    dropped = [field.name for field in fields if field.name not in known]
    fields[:] = [field for field in fields if field.name in known]
    for field in fields[:]:
        value, inner, enum = field.value, known[field.name][0].message_type, known[field.name][0].enum_type
        if inner is not None and not isinstance(value, Token):
            dropped += drop_unknown(value, inner)
        elif enum is not None and isinstance(value, Token) and _is_word(value) and _number(value, enum) is None:
            dropped.append(f"{field.name}: {short(value.text)}")
            fields.remove(field)
    return dropped


def _is_word(token: Token) -> bool:
    return token.kind not in ("string", "list")


def format(msg: Message) -> str:  # the name Caffe's users expect beside `parse`
    """Text form of `msg`, fields in the order of their numbers, one per line."""
    return text_format.MessageToString(msg, as_utf8=True)


@cache
def _fields(descriptor: Descriptor) -> dict[str, tuple[FieldDescriptor, bool, int]]:
    """name -> (descriptor, repeated, C++ type) of each field of a message."""
    return {field.name: (field, _repeated(field), field.cpp_type) for field in descriptor.fields}


def _repeated(field: Any) -> bool:
    """Whether a field is repeated; protobuf 6 deprecates the `label` that older releases have alone."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _fill(msg: Any, fields: list[Field], source: Source, known: dict[str, tuple[FieldDescriptor, bool, int]]) -> None:
    """Set the fields of `msg`. Depth is bounded by `scan`."""
    seen: set[str] = set()
    for field in fields:
        name = field.name
        if name not in known:
            what = f"{msg.DESCRIPTOR.name} has no field '{short(name)}' in Caffe 1.0"
            raise source.error(field.start, what, _lenient(name, known))
        descriptor, repeated, cpp_type = known[name]
        if field.listed and not repeated:
            raise source.error(field.start, f"'{name}' takes one value, found a list")
        if isinstance(field.value, Token) and field.value.kind == "list":
            continue
        if name in seen:
            raise source.error(field.start, f"'{name}' is given twice, but {msg.DESCRIPTOR.name} takes it once")
        if not repeated:
            seen.add(name)
        if cpp_type == _MESSAGE:
            if isinstance(field.value, Token):
                raise source.error(field.start, f"'{name}' takes a message in {{ }}, found {short(field.value.text)!r}")
            inner = getattr(msg, name)
            inner = inner.add() if repeated else inner
            inner.SetInParent()
            _fill(inner, field.value, source, _fields(descriptor.message_type))
            _require(inner, field, source)
        else:
            value = _scalar(field, descriptor, cpp_type, source)
            if repeated:
                getattr(msg, name).append(value)
            else:
                setattr(msg, name, value)


def _require(msg: Any, field: Field, source: Source) -> None:
    """Refuse a message that lacks a required field."""
    if not msg.IsInitialized():
        missing = ", ".join(msg.FindInitializationErrors())
        raise source.error(field.start, f"'{field.name}' lacks the required field {missing}")


def _scalar(field: Field, descriptor: FieldDescriptor, cpp_type: int, source: Source) -> Any:
    """The Python value of a scalar field."""
    token = field.value
    if not isinstance(token, Token):
        raise source.error(field.start, f"'{field.name}' takes a single value, found a message in {{ }}")
    kind, word = token.kind, token.text
    if cpp_type in _INT_RANGE and kind == "number":
        return _integer(token, _INT_RANGE[cpp_type], field, source)
    if cpp_type in _FLOATS and kind != "string":
        return _float(token, field, source)
    if cpp_type == FieldDescriptor.CPPTYPE_ENUM and kind != "string":
        return _enum(token, descriptor.enum_type, field, source)
    if cpp_type == FieldDescriptor.CPPTYPE_BOOL and word in _BOOLS:
        return _BOOLS[word]
    if cpp_type == FieldDescriptor.CPPTYPE_BOOL and kind == "number" and _whole(word) in (0, 1) and word[0] != "-":
        return bool(_whole(word))
    if cpp_type == FieldDescriptor.CPPTYPE_STRING and kind == "string":
        return _string(token, field, source, descriptor.type == FieldDescriptor.TYPE_BYTES)
    wanted = {
        FieldDescriptor.CPPTYPE_BOOL: "true or false",
        FieldDescriptor.CPPTYPE_STRING: "a string in quotes",
    }.get(cpp_type, "an integer" if cpp_type in _INT_RANGE else "a number")
    raise source.error(token.start, f"'{field.name}' takes {wanted}, found {short(word)}")


def _integer(token: Token, limits: tuple[int, int], field: Field, source: Source) -> int:
    word = token.text
    value = _whole(word)
    if value is None:
        raise source.error(token.start, f"'{field.name}' takes an integer, found {short(word)}")
    if not limits[0] <= value <= limits[1]:
        raise source.error(token.start, f"'{field.name}' is {short(word)}, outside {limits[0]} to {limits[1]}")
    return value


def _whole(word: str) -> int | None:
    """The integer that a word is, in decimal, octal (0...) or hexadecimal (0x...); None where it is none."""
    try:
        return int(word, 16) if "x" in word.lower() else int(word, 8 if _OCTAL.fullmatch(word) else 10)
    except ValueError:
        return None


def _float(token: Token, field: Field, source: Source) -> float:
    word = token.text
    try:
        if _NOT_FINITE.fullmatch(word):
            return float(word)
        if token.kind == "number" and not _OCTAL.fullmatch(word):
            return float(word.rstrip("fF"))
    except ValueError:
        pass  # a hexadecimal number, which text format has for integers alone, as octal ones
    raise source.error(token.start, f"'{field.name}' takes a number, found {short(word)}")


def _enum(token: Token, enum: Any, field: Field, source: Source) -> int:
    """The number of an enum value given by name or by number."""
    number = _number(token, enum)
    if number is None:
        what = f"'{field.name}' has no value {short(token.text)} in Caffe 1.0"
        raise source.error(token.start, what, _lenient(token.text, enum.values_by_name.keys()))
    return number


def _number(token: Token, enum: Any) -> int | None:
    """The number of an enum value given by name or by number; None where the enum does not have it."""
    if token.text in enum.values_by_name:
        return int(enum.values_by_name[token.text].number)
    number = _whole(token.text) if token.kind == "number" else None
    return number if number in enum.values_by_number else None


def _lenient(name: str, known: Iterable[str]) -> str:
    """The hint for a name that Caffe 1.0 does not have: what it may be a slip for, and how to pass over it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return (f"did you mean '{near[0]}'? " if near else "") + "--lenient passes over it"


def _string(token: Token, field: Field, source: Source, as_bytes: bool) -> str | bytes:
    """The content of a quoted string, or of several side by side, escapes resolved.

    Bytes that are no UTF-8, which a message's strings cannot hold here as they can in Caffe, become \\x escapes.
    """
    try:
        body = "".join(string_bodies(token.text)).encode("utf-8", "surrogateescape")
        if b"\\" in body:
            body = _unescaped(body)
    except UnicodeEncodeError:  # not of a file
        raise source.error(token.start, f"'{field.name}' holds half of a surrogate pair") from None
    except ValueError:
        raise source.error(token.start, f"'{field.name}' has a broken escape in its string") from None
    return body if as_bytes else body.decode("utf-8", "backslashreplace")


def _unescaped(body: bytes) -> bytes:
    """`body` with its escapes resolved, in memory linear in it; ValueError where one is broken."""
    found, at = bytearray(), 0
    for escape in _ESCAPE.finditer(body):
        found += body[at : escape.start()]
        found += _escaped(escape)
        at = escape.end()
    return bytes(found + body[at:])


def _escaped(found: re.Match[bytes]) -> bytes:
    """The bytes that one escape stands for."""
    letter, octal, hexadecimal, pair, short_code, long_code, broken = found.groups()
    if letter:
        return bytes([_LETTERS[letter[0]]])
    if octal or hexadecimal:
        return bytes([int(octal, 8) & 255 if octal else int(hexadecimal, 16)])
    if broken is not None:
        raise ValueError
    if pair:
        return bytes.fromhex((pair[1:5] + pair[7:]).decode()).decode("utf-16-be").encode()
    return chr(int(short_code or long_code, 16)).encode("utf-8", "surrogatepass")
