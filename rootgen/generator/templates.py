"""The Jinja environment that the templates are rendered in."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from rootgen import paths
from rootgen.errors import RootgenError

if TYPE_CHECKING:
    from jinja2 import Environment, FileSystemBytecodeCache


@cache
def environment() -> Environment:
    """The templates, ready to render; an undefined name in one is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(paths.resource("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_bytecode_cache(),
    )
    made.filters["quote"] = _quote
    return made


def _bytecode_cache() -> FileSystemBytecodeCache | None:
    """Compiled templates in the user's cache; None where it cannot be had.

    Compiling them takes a sixth of `rootgen emit`'s time (benchmarks/emit.md). Jinja drops an entry
    whose template, Jinja version or Python version changed.
    """
    from jinja2 import FileSystemBytecodeCache
    from jinja2.bccache import Bucket

    class Cache(FileSystemBytecodeCache):
        def load_bytecode(self, bucket: Bucket) -> None:
            try:
                super().load_bytecode(bucket)
            except Exception:  # a damaged entry: unpickling it may raise anything
                bucket.reset()

        def dump_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):  # a full disk must not keep anyone from a prototxt
                super().dump_bytecode(bucket)

    try:
        return Cache(str(paths.cache("templates")))
    except RootgenError:
        return None


def _quote(text: str) -> str:
    """`text` as a prototxt string."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RootgenError(f"{text!r} is no UTF-8 text", hint="a prototxt holds nothing else") from None
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
