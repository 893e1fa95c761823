"""A python batch of CIFAR-10, read without Python's unpickling or NumPy's.

A pickle is a program for a stack machine that may name any function. This machine knows bytes, text, whole
numbers, lists, tuples and dictionaries, and of NumPy the one form of an array that such a batch has: uint8, rows
after rows. `pickletools.genops` takes the opcodes and their arguments apart; nothing is imported or called.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_OPCODES = 2_000_000  # the official batches have 70 000
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_REBUILD, _NDARRAY, _DTYPE, _ENCODE = "rebuild", "ndarray", "dtype", "encode"
_GLOBALS = {
    **{f"{module} _reconstruct": _REBUILD for module in _MODULES},
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes for Python 2
}
_UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_BYTES = ("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_TEXT = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_PLAIN = frozenset((*_INTEGERS, *_BYTES, *_TEXT))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for, one of `_GLOBALS`."""

    what: str


@dataclass(frozen=True)
class _Dtype:
    """NumPy's uint8, the one type there is."""


@dataclass
class _Array:
    """An array that BUILD fills."""

    values: np.ndarray | None = None


class _Mark:
    """Where on the stack the items of a list, tuple or dictionary begin."""


def load(content: bytes) -> Any:
    """What the pickle `content` holds, arrays as uint8 NumPy arrays; ValueError where it is no such pickle."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
        if count > MAX_OPCODES:
            raise ValueError("too long a program")
        if opcode.name == "STOP":
            return _plain(machine.pop())
        machine.step(opcode.name, argument)
    raise ValueError("it has no end")


def _plain(item: Any) -> Any:
    """`item` with the arrays of a dictionary as NumPy has them."""
    if isinstance(item, dict):
        return {key: value.values if isinstance(value, _Array) else value for key, value in item.items()}
    return item


class _Machine:
    """The stack, and the memo of what was on it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.acts: dict[str, Callable[[Any], None]] = {
            "PROTO": self._pass, "FRAME": self._pass,
            "MARK": lambda _: self.stack.append(_Mark()),
            "GLOBAL": lambda names: self.stack.append(_global(names)),
            "STACK_GLOBAL": lambda _: self._stack_global(),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "LIST": lambda _: self.stack.append(self._marked()),
            "TUPLE": lambda _: self.stack.append(tuple(self._marked())),
            "DICT": lambda _: self.stack.append(_pairs(self._marked())),
            "TUPLE1": lambda _: self._tuple(1), "TUPLE2": lambda _: self._tuple(2), "TUPLE3": lambda _: self._tuple(3),
            "APPEND": lambda _: self._top_but_one(list).append(self.pop()),
            "APPENDS": lambda _: self._appends(),
            "SETITEM": lambda _: self._setitem(),
            "SETITEMS": lambda _: self._setitems(),
            "REDUCE": lambda _: self._reduce(),
            "BUILD": lambda _: self._build(),
            "MEMOIZE": lambda _: self._put(len(self.memo)),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
        }  # fmt: skip

    def step(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in self.acts:
            self.acts[name](argument)
        else:
            raise ValueError(f"opcode {name}, which no CIFAR-10 batch needs")

    def pop(self, kind: type | tuple[type, ...] = object) -> Any:
        """The item on top, of a type."""
        if not self.stack or not isinstance(self.stack[-1], kind) or isinstance(self.stack[-1], _Mark):
            raise ValueError("its stack holds something else")
        return self.stack.pop()

    def _pass(self, _: Any) -> None:
        """The number of the protocol, and frames, say nothing that is needed."""

    def _put(self, place: int) -> None:
        if not self.stack:
            raise ValueError("it keeps nothing")
        self.memo[place] = self.stack[-1]

    def _get(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError(f"it asks for what it did not keep ({place})")
        self.stack.append(self.memo[place])

    def _tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(items)))

    def _marked(self) -> list[Any]:
        """The items above the last mark, taken off with it."""
        items: list[Any] = []
        while self.stack and not isinstance(self.stack[-1], _Mark):
            items.append(self.stack.pop())
        if not self.stack:
            raise ValueError("it has no mark")
        self.stack.pop()
        return items[::-1]

    def _top_but_one(self, kind: type) -> Any:
        if len(self.stack) < 2 or not isinstance(self.stack[-2], kind):
            raise ValueError("its stack holds something else")
        return self.stack[-2]

    def _appends(self) -> None:
        items = self._marked()
        target = self.pop(list)
        target.extend(items)
        self.stack.append(target)

    def _setitem(self) -> None:
        value, key = self.pop(), self.pop()
        target = self.pop(dict)
        target.update(_pairs([key, value]))
        self.stack.append(target)

    def _setitems(self) -> None:
        items = self._marked()
        target = self.pop(dict)
        target.update(_pairs(items))
        self.stack.append(target)

    def _stack_global(self) -> None:
        name, module = self.pop(str), self.pop(str)
        self.stack.append(_global(f"{module} {name}"))

    def _reduce(self) -> None:
        """The four calls that a batch makes."""
        arguments, function = self.pop(tuple), self.pop(_Global)
        if function.what == _REBUILD and arguments[:1] == (_Global(_NDARRAY),):
            self.stack.append(_Array())
        elif function.what == _DTYPE and arguments[:1] in (("u1",), (b"u1",)):
            self.stack.append(_Dtype())
        elif function.what == _ENCODE and len(arguments) == 2 and isinstance(arguments[0], str):
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            raise ValueError(f"it calls {function.what} with other arguments than a batch has")

    def _build(self) -> None:
        """Give a type or an array its state."""
        state = self.pop(tuple)
        target = self.pop((_Dtype, _Array))
        if isinstance(target, _Dtype):
            if _text(state) != _UINT8_STATE:
                raise ValueError("its data are no plain uint8")
        else:
            target.values = _array(state)
        self.stack.append(target)


def _global(names: str) -> _Global:
    if names not in _GLOBALS:
        raise ValueError(f"it asks for {names.replace(' ', '.')}, which no CIFAR-10 batch needs")
    return _Global(_GLOBALS[names])


def _pairs(items: list[Any]) -> dict[bytes, Any]:
    """A dictionary of what stands key by value; its keys as bytes, whatever Python wrote them."""
    if len(items) % 2 or not all(isinstance(key, (str, bytes)) for key in items[::2]):
        raise ValueError("its dictionary has keys that are no text")
    keys = (key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))


def _text(state: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item.decode("latin-1") if isinstance(item, bytes) else item for item in state)


def _array(state: tuple[Any, ...]) -> np.ndarray:
    """The array of the state (version, shape, type, whether columns come first, bytes)."""
    match state:
        case (int(), tuple() as shape, _Dtype(), False | 0, bytes() | str() as content):
            if not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError("its data have no shape")
            raw = content.encode("latin-1") if isinstance(content, str) else content
            values = np.frombuffer(raw, np.uint8)
            total = 1
            for size in shape:
                total *= size
            if total != len(raw):
                raise ValueError(f"data of {len(raw)} bytes for {' x '.join(map(str, shape))[:80]}")
            return values.reshape(shape)
    raise ValueError("its data are no plain uint8 array")
