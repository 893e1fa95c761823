"""Caffe's protobuf messages, wire- and text-compatible, in a descriptor pool of their own.

`schema.NetParameter`, `schema.SolverParameter`, `schema.Datum`, ... are message classes of every message
that Caffe's caffe.proto defines (caffe_schema.txt). The pool is private, so pycaffe's own
`caffe_pb2`, which registers the same names in the default pool, can live in the same process.

A second pool has the same messages with what other Caffes add to them (forks_schema.txt). Nets with layers of theirs
are read into it; a message of one pool becomes one of the other by `copy`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError, Message

from rootgen.errors import RootgenError, did_you_mean

FieldProto = descriptor_pb2.FieldDescriptorProto

_FORKS = "rootgen/forks_schema.proto"


def __getattr__(name: str) -> Any:
    """The message class `name`; loaded at its first use."""
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return message(name)
    except RootgenError as error:
        raise AttributeError(str(error)) from None


@cache
def message(name: str, *, forks: bool = False) -> Any:
    """The class of Caffe's message `name` ("NetParameter", ...); with `forks`, as other Caffes have extended it."""
    pool = _pool(forks)
    try:
        descriptor = pool.FindMessageTypeByName(f"caffe.{name}")
    except KeyError:
        raise RootgenError(f"Caffe has no message '{name}'", hint=did_you_mean(name, _messages())) from None
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    factory: Any = message_factory.MessageFactory(pool)  # protobuf before 4.22
    return factory.GetPrototype(descriptor)


def parse_bytes(content: bytes, cls: type[Message], where: object) -> Any:
    """A `cls` message from its binary form (.caffemodel, .solverstate, .binaryproto, an LMDB value).

    Fields that Caffe's schema does not have are kept, and written back by `to_bytes`.
    """
    parsed: Any = cls()
    name = cls.DESCRIPTOR.name
    try:
        parsed.ParseFromString(content)
    except DecodeError:
        raise RootgenError(
            f"not a binary {name}, or cut short ({len(content)} bytes read)",
            where=where,
            hint="fetch or write it again",
        ) from None
    if not parsed.IsInitialized():
        missing = ", ".join(parsed.FindInitializationErrors())
        raise RootgenError(f"this {name} lacks the required field {missing}", where=where)
    return parsed


def read_binary(path: str | Path, cls: type[Message]) -> Any:
    """A `cls` message from the binary file `path`; RootgenError where it is missing, empty, cut or something else."""
    from rootgen.files import read_bytes

    content = read_bytes(path)
    if not content:
        raise RootgenError(f"empty file where a binary {cls.DESCRIPTOR.name} was expected", where=path)
    if cls.DESCRIPTOR.name == "NetParameter":
        _refuse_state(content, path)
    return parse_bytes(content, cls, path)


def _refuse_state(content: bytes, path: str | Path) -> None:
    """Say so where a solver's state is given for a net: its file is full of blobs too, and the model lies beside it."""
    if content[:1] != b"\x08":  # the key of SolverState's first field, iter; a net's first is its name
        return
    state = message("SolverState")()
    try:
        state.ParseFromString(content)
    except DecodeError:
        return
    if state.HasField("iter"):
        model = state.learned_net or "the .caffemodel beside it"
        hint = f"pass its model, {model}; --snapshot goes on from a state"
        raise RootgenError("a solver's state (.solverstate), not a model", where=path, hint=hint)


def has_forks(msg: Message) -> bool:
    """Whether `msg` is of the pool that has other Caffes' fields too."""
    return bool(msg.DESCRIPTOR.file.name == _FORKS)


def copy(source: Message, target: Any) -> Any:
    """`target` with the content of `source`, a message of the same name in either pool; fields it lacks are kept."""
    if source.DESCRIPTOR is target.DESCRIPTOR:
        target.CopyFrom(source)
    else:
        target.ParseFromString(source.SerializePartialToString())
    return target


def mend_strings(msg: Any) -> None:
    """Write the bytes of strings that are no UTF-8, which Caffe does not mind (a path, say), as \\x escapes."""
    for field, value in msg.ListFields():
        if field.message_type is not None:
            if field.name != "blobs":
                for inner in [value] if hasattr(value, "ListFields") else value:
                    mend_strings(inner)
        elif field.type == field.TYPE_STRING:
            if isinstance(value, bytes):
                setattr(msg, field.name, value.decode("utf-8", "backslashreplace"))
            elif not isinstance(value, str):
                for i, one in enumerate(value):
                    if isinstance(one, bytes):
                        value[i] = one.decode("utf-8", "backslashreplace")


def to_bytes(msg: Message) -> bytes:
    """Binary form of `msg`; RootgenError where it is over protobuf's limit of 2 GiB."""
    try:
        return msg.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise RootgenError(f"cannot encode this {msg.DESCRIPTOR.name}: {error}") from error


@cache
def _pool(forks: bool) -> descriptor_pool.DescriptorPool:
    """A pool that holds Caffe's messages, or with `forks` those of other Caffes too, and nothing else."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file(forks=forks))
    return pool


@cache
def _file(*, forks: bool = False) -> descriptor_pb2.FileDescriptorProto:
    """caffe_schema.txt as one proto2 file descriptor; with `forks`, forks_schema.txt merged into it."""
    name = _FORKS if forks else "rootgen/caffe_schema.proto"
    file = descriptor_pb2.FileDescriptorProto(name=name, package="caffe", syntax="proto2")
    texts = ["caffe_schema.txt", *(["forks_schema.txt"] if forks else [])]
    entries = [entry for text in texts for entry in _entries(Path(__file__).with_name(text).read_text("utf-8"))]
    enums = {name for kind, name, _ in entries if kind == "enum"}
    # A nested enum stands before the message that holds it, so make every message first.
    made = {name: file.message_type.add(name=name) for kind, name, _ in entries if kind == "message"}
    for kind, name, lines in entries:
        if kind in ("message", "extend"):
            for line in lines:
                _add_field(made[name], line, enums)
        else:
            parent, _, short = name.rpartition(".")
            enum = (made[parent] if parent else file).enum_type.add(name=short)
            for line in lines:
                number, value = line.split()
                enum.value.add(name=value, number=int(number))
    return file


def _entries(text: str) -> list[tuple[str, str, list[str]]]:
    """(kind, name, body lines) of each message, enum and extension, in file order."""
    entries: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("  "):
            entries[-1][2].append(line)
        elif line and not line.startswith("#"):
            kind, name = line.split()
            entries.append((kind, name, []))
    return entries


def _add_field(owner: Any, line: str, enums: set[str]) -> None:
    """Add the field that one body line describes to the message descriptor `owner`."""
    left, _, default = line.partition(" = ")
    number, *labels, kind, name = left.split()
    field = owner.field.add(name=name, number=int(number))
    label = labels[0] if labels else "optional"
    field.label = getattr(FieldProto, f"LABEL_{'REPEATED' if label == 'packed' else label.upper()}")
    if label == "packed":
        field.options.packed = True
    if kind[0].isupper():
        field.type = FieldProto.TYPE_ENUM if kind in enums else FieldProto.TYPE_MESSAGE
        field.type_name = f".caffe.{kind}"
    else:
        field.type = getattr(FieldProto, f"TYPE_{kind.upper()}")
    if default:
        field.default_value = default


def _messages() -> list[str]:
    """Names of Caffe's messages."""
    return [message.name for message in _file().message_type]
