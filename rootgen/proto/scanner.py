"""The syntax of prototxt (protobuf text format), read without loss: a tree of fields that know their place.

A tool may so change one value and leave every other byte alone. protobuf's own `text_format` keeps no places.
Lists of messages (`layer: [{ ... }, { ... }]`) and extensions are refused; no net of Caffe's is written so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rootgen.errors import RootgenError

MAX_DEPTH = 100  # protobuf's own limit on nested messages

_QUOTED = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_TOKEN = re.compile(
    rf"""(?P<blank>(?:\s|\#[^\n]*)+)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.])|-\s*[A-Za-z]+)
      | (?P<string>{_QUOTED}(?:(?:\s|\#[^\n]*\n)*{_QUOTED})*)
      | (?P<mark>[{{}}<>:\[\],;])
      | (?P<bad>.)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A scalar value as written: its kind (name, number or string), text, and place in the source."""

    kind: str
    text: str
    start: int
    end: int


class Field:
    """One `name: value` or `name { ... }`: text[start:end]; `value` is a Token, or the list of inner Fields."""

    __slots__ = ("end", "name", "start", "value")

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        self.end = start
        self.value: Token | list[Field] = []

    def inner(self, name: str) -> list[Field]:
        """The fields called `name` directly inside this message."""
        return [] if isinstance(self.value, Token) else [field for field in self.value if field.name == name]


class Source:
    """A text with the name under which errors report it."""

    def __init__(self, text: str, where: object) -> None:
        self.text = text
        self.where = where

    def place(self, offset: int) -> str:
        """`file:line:column` of a character, both from 1."""
        line = self.text.count("\n", 0, offset) + 1
        return f"{self.where}:{line}:{offset - self.text.rfind(chr(10), 0, offset)}"

    def error(self, offset: int, what: str, hint: str | None = None) -> RootgenError:
        """The error `what`, at a character."""
        return RootgenError(what, where=self.place(offset), hint=hint)


def scan(text: str, where: object = "<text>") -> list[Field]:
    """The tree of fields of `text`, in order, by syntax alone: no message type is needed."""
    source = Source(text, where)
    tokens = _tokens(source)
    top: list[Field] = []
    open_fields: list[tuple[Field, str]] = []  # each with the mark that closes it
    here = top
    whole = False  # a field has just ended, so that a separator may follow
    for kind, word, start, end in tokens:
        if kind == "name":
            field = Field(word, start)
            closing = _read_value(field, tokens, source, here)
            if closing:
                if len(open_fields) >= MAX_DEPTH:
                    raise source.error(start, f"messages nested more than {MAX_DEPTH} deep")
                open_fields.append((field, closing))
                here = field.value = []
            whole = not closing
        elif whole and kind == "mark" and word in ",;":
            whole = False
        elif open_fields and word == open_fields[-1][1]:
            open_fields.pop()[0].end = end
            here = open_fields[-1][0].value if open_fields else top  # type: ignore[assignment]
            whole = True
        elif kind == "end":
            break
        else:
            raise source.error(start, f"expected a field name, found {short(word)!r}")
    if open_fields:
        field, closing = open_fields[-1]
        raise source.error(field.start, f"'{short(field.name)}' has no closing '{closing}'", "the text is cut short")
    return top


def _tokens(source: Source) -> Iterator[Token]:
    """Tokens of the text without blanks and comments, then one of kind "end"."""
    for match in _TOKEN.finditer(source.text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        if kind == "bad":
            word = match.group()
            what = "a string that does not end on its line" if word in "\"'" else f"{word!r} has no meaning here"
            raise source.error(match.start(), what)
        yield Token(kind, match.group(), match.start(), match.end())  # type: ignore[arg-type]
    yield Token("end", "the end of the text", len(source.text), len(source.text))


def _read_value(field: Field, tokens: Iterator[Token], source: Source, here: list[Field]) -> str | None:
    """Read what follows a field's name and append the field to `here`; the closing mark where a message opens."""
    token = next(tokens)
    colon = token.text == ":" and token.kind == "mark"
    if colon:
        token = next(tokens)
    if token.kind == "mark" and token.text in "{<":
        here.append(field)
        return "}" if token.text == "{" else ">"
    if not colon:
        raise source.error(
            token.start, f"expected ':' or '{{' after '{short(field.name)}', found {short(token.text)!r}"
        )
    if token.kind == "mark" and token.text == "[":
        _read_list(field, tokens, source, here)
        return None
    _set_scalar(field, token, source)
    here.append(field)
    return None


def _read_list(field: Field, tokens: Iterator[Token], source: Source, here: list[Field]) -> None:
    """Read `[a, b, ...]`: one field per element, each at its element's place."""
    token = next(tokens)
    if token.text == "]":
        return
    while True:
        element = Field(field.name, token.start)
        _set_scalar(element, token, source)
        here.append(element)
        mark = next(tokens)
        if mark.text == "]":
            return
        if mark.text != ",":
            raise source.error(
                mark.start, f"expected ',' or ']' in the list of '{short(field.name)}', found {short(mark.text)!r}"
            )
        token = next(tokens)


def _set_scalar(field: Field, token: Token, source: Source) -> None:
    if token.kind in ("mark", "end"):
        raise source.error(token.start, f"expected a value for '{short(field.name)}', found {short(token.text)!r}")
    field.value = token
    field.end = token.end


def short(word: str) -> str:
    """A word as an error shows it: never a screenful."""
    return word if len(word) <= 40 else word[:37] + "..."
