"""The syntax of prototxt (protobuf text format), read without loss: a tree of fields that know their place.

A tool may so change one value and leave every other byte alone. protobuf's own `text_format` keeps no places. The
rules are those of the C++ parser that Caffe reads with: only ASCII outside strings and comments, in which any bytes
may stand (those that are no UTF-8 are lone surrogates here); a minus may stand apart from its number; lists may hold
messages (`layer: [{ ... }, { ... }]`). Extensions are refused; no net of Caffe's has any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from rootgen.errors import RootgenError

MAX_DEPTH = 100  # protobuf's own limit on nested messages
MAX_FIELDS = 1_000_000  # more than 16 MiB of any net hold; made to fill the memory, they hold eight times as many
MAX_MESSAGES = 250_000

_TOO_MANY = "no net is as large; is it one?"

# No repeated group here: `re` keeps every turn of one until the match ends, 100 bytes for each character.
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\r\v\f]+|\#[^\n\0]*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|0[0-7]+|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.]))
      | (?P<string>["'])
      | (?P<mark>[{}<>:\[\],;-])
      | (?P<bad>.)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_STRING_STOP = {quote: re.compile(rf"[{quote}\\\n\0]") for quote in "\"'"}


class Token(NamedTuple):
    """A scalar value as written: its kind (name, number or string), text, and place in the source."""

    kind: str
    text: str
    start: int
    end: int


class Field:
    """One `name: value` or `name { ... }`: text[start:end]; `value` is a Token, or the list of inner Fields.

    The elements of `name: [a, b]` are fields of their own, without the name; `name: []` is one of a Token of kind
    "list".
    """

    __slots__ = ("end", "name", "opened", "start", "value")

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        self.end = start
        self.opened = -1  # place of a message's brace
        self.value: Token | list[Field] = []

    @property
    def listed(self) -> bool:
        """Whether it is an element of `name: [a, b]`, so that it stands there without its name."""
        return self.opened == self.start if isinstance(self.value, list) else self.value.start == self.start

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
    return _Scanner(source).fields()


class _Scanner:
    """Reads the tokens of one source into fields."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = _tokens(source)
        self.open: list[tuple[Field, str]] = []  # messages being read, each with the mark that closes it
        self.count = self.messages = 0

    def fields(self) -> list[Field]:
        """All fields of the source."""
        top = here = list[Field]()
        whole = False  # a field has just ended, so that a separator may follow
        while True:
            token = next(self.tokens)
            if token.kind == "name":
                whole = not self._read_value(sys.intern(token.text), token, here)
            elif whole and token.kind == "mark" and token.text in ",;":
                whole = False
            elif self.open and token.kind == "mark" and token.text == self.open[-1][1]:
                field, _ = self.open.pop()
                field.end = token.end
                whole = not (field.listed and self._goes_on(field, self._here(top)))
            elif token.kind == "end":
                break
            else:
                raise self.source.error(token.start, f"expected a field name, found {_shown(token)}")
            here = self._here(top)
        if self.open:
            field, closing = self.open[-1]
            what = f"'{short(field.name)}' has no closing '{closing}'"
            raise self.source.error(field.start, what, "the text is cut short")
        return top

    def _here(self, top: list[Field]) -> list[Field]:
        """The fields of the innermost message that is open."""
        return self.open[-1][0].value if self.open else top  # type: ignore[return-value]

    def _add(self, name: str, start: int, here: list[Field]) -> Field:
        """A new field of `here`."""
        self.count += 1
        if self.count > MAX_FIELDS:
            raise self.source.error(start, f"more than {MAX_FIELDS:,} fields", _TOO_MANY)
        field = Field(name, start)
        here.append(field)
        return field

    def _read_value(self, name: str, at: Token, here: list[Field]) -> bool:
        """Read what follows a field's name; whether that opens a message."""
        token = next(self.tokens)
        colon = token.kind == "mark" and token.text == ":"
        if colon:
            token = next(self.tokens)
        mark = token.text if token.kind == "mark" else ""
        if mark in ("{", "<"):
            self._open(self._add(name, at.start, here), token)
            return True
        if mark == "[":
            return self._read_list(name, token, here, scalars=colon)
        if not colon:
            what = f"expected ':' or '{{' after '{short(name)}', found {_shown(token)}"
            raise self.source.error(token.start, what)
        self._set_scalar(self._add(name, at.start, here), token)
        return False

    def _open(self, field: Field, mark: Token) -> None:
        """Begin to read the message `field`, which the brace `mark` opens."""
        if len(self.open) >= MAX_DEPTH:
            raise self.source.error(field.start, f"messages nested more than {MAX_DEPTH} deep")
        self.messages += 1
        if self.messages > MAX_MESSAGES:
            raise self.source.error(field.start, f"more than {MAX_MESSAGES:,} messages in braces", _TOO_MANY)
        field.value, field.opened = [], mark.start
        self.open.append((field, "}" if mark.text == "{" else ">"))

    def _read_list(self, name: str, bracket: Token, here: list[Field], *, scalars: bool) -> bool:
        """Read `[a, b, ...]`, one field per element, each at its element's place; whether a message opens there.

        A message ends the reading here; `_goes_on` takes it up behind it. `scalars` may follow a colon alone.
        """
        token = next(self.tokens)
        if token.text == "]" and token.kind == "mark":  # a place for build to see, whether the field is repeated
            self._add(name, bracket.start, here).value = Token("list", "[]", bracket.start, token.end)
            return False
        while True:
            element = self._add(name, token.start, here)
            if token.kind == "mark" and token.text in "{<":
                self._open(element, token)
                return True
            if not scalars:
                raise self.source.error(token.start, f"expected a message in {{ }} in the list of '{short(name)}'")
            self._set_scalar(element, token)
            if not self._comma(name):
                return False
            token = next(self.tokens)

    def _goes_on(self, field: Field, here: list[Field]) -> bool:
        """After the message `field` of a list: whether another of it opens."""
        if not self._comma(field.name):
            return False
        token = next(self.tokens)
        if token.kind != "mark" or token.text not in "{<":
            raise self.source.error(token.start, f"expected a message in {{ }}, found {_shown(token)}")
        self._open(self._add(field.name, token.start, here), token)
        return True

    def _comma(self, name: str) -> bool:
        """Whether a list has another element: a comma is read, or the closing bracket."""
        mark = next(self.tokens)
        if mark.kind != "mark" or mark.text not in ",]":
            raise self.source.error(
                mark.start, f"expected ',' or ']' in the list of '{short(name)}', found {_shown(mark)}"
            )
        return mark.text == ","

    def _set_scalar(self, field: Field, token: Token) -> None:
        """Take `token` as the value of `field`; a minus has a number or a name (inf) behind it."""
        if token.kind == "mark" and token.text == "-":
            after = next(self.tokens)
            if after.kind not in ("number", "name"):
                raise self.source.error(after.start, f"expected a number after '-', found {_shown(after)}")
            token = Token("number", f"-{after.text}", token.start, after.end)
        if token.kind in ("mark", "end"):
            raise self.source.error(token.start, f"expected a value for '{short(field.name)}', found {_shown(token)}")
        field.value = token
        field.end = token.end


def _tokens(source: Source) -> Iterator[Token]:
    """Tokens of the text without blanks and comments, then one of kind "end"."""
    text, at = source.text, 0
    if text.startswith("\ufeff"):
        raise source.error(0, "begins with a byte order mark, which Caffe refuses", "save it as UTF-8 without BOM")
    while found := _TOKEN.match(text, at):
        kind, start, at = found.lastgroup, at, found.end()
        if kind == "blank":
            continue
        if kind == "bad":
            raise _no_token(source, start)
        if kind == "string":
            at = _strings_end(source, start)
        yield Token(kind, text[start:at], start, at)  # type: ignore[arg-type]
    yield Token("end", "the end of the text", at, at)


def _strings_end(source: Source, start: int) -> int:
    """End of the string that begins at `start`, and of those right behind it, which are one with it."""
    at = end = _string_end(source.text, start)
    while end >= 0:
        at = end
        while (blank := _TOKEN.match(source.text, end)) and blank.lastgroup == "blank":
            end = blank.end()
        if not blank or blank.lastgroup != "string":
            return at
        start, end = end, _string_end(source.text, end)
    raise source.error(start, "a string that does not end on its line")


def _string_end(text: str, start: int) -> int:
    """The place behind the string that begins at `start`; -1 where it does not end on its line."""
    stop = _STRING_STOP[text[start]]
    at = start + 1
    while found := stop.search(text, at):
        if found[0] == text[start]:
            return found.end()
        at = found.end() + 1
        if found[0] != "\\" or text[at - 1 : at] in ("", "\n", "\0"):
            return -1
    return -1


def string_bodies(text: str) -> Iterator[str]:
    """What stands between the quotes of each string in a token of kind "string"."""
    at = 0
    while found := _TOKEN.match(text, at):
        at = found.end()
        if found.lastgroup == "string":
            end = _string_end(text, found.start())
            yield text[at : end - 1]
            at = end


def _no_token(source: Source, at: int) -> RootgenError:
    """The error for a character that begins nothing."""
    char = source.text[at]
    if 0xDC80 <= ord(char) <= 0xDCFF:
        hint = "save it as UTF-8; is it a binary file, such as a .caffemodel?"
        return source.error(at, f"byte 0x{ord(char) - 0xDC00:02x}, no UTF-8 text, outside strings and comments", hint)
    if char < " " or char == "\x7f":
        return source.error(at, f"control character {char!r}", "is it a binary file, such as a .caffemodel?")
    if not char.isascii():
        what = f"{char!r} (U+{ord(char):04X}), which may stand in strings and comments alone"
        return source.error(at, what, "a blank or a mark that looks like another?")
    return source.error(at, f"{char!r} has no meaning here")


def _shown(token: Token) -> str:
    return repr(short(token.text))


def short(word: str) -> str:
    """A word as an error shows it: never a screenful."""
    return word if len(word) <= 40 else word[:37] + "..."
