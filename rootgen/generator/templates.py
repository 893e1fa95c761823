"""The Jinja environment that the templates are rendered in."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Environment

DIGEST = 32  # bytes of a SHA-256
MAX_ENTRY = 2**24  # bytes of a compiled template; the largest have 2**16

log = logging.getLogger("rootgen")


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


def _bytecode_cache() -> BytecodeCache | None:
    """Compiled templates in the user's cache; None where it cannot be had.

    Compiling them takes a sixth of `rootgen emit`'s time (benchmarks/emit.md). Jinja drops an entry whose template,
    Jinja version or Python version changed. An entry begins with its SHA-256, for what is damaged may be run, crash
    the interpreter, or render another net; who may write to the cache is paths' concern.
    """
    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket

    class Cache(BytecodeCache):
        def load_bytecode(self, bucket: Bucket) -> None:
            with suppress(RootgenError):
                content = read_bytes(folder / bucket.key, most=MAX_ENTRY)
                digest, code = content[:DIGEST], content[DIGEST:]
                if hashlib.sha256(code).digest() == digest:
                    bucket.bytecode_from_string(code)

        def dump_bytecode(self, bucket: Bucket) -> None:
            code = bucket.bytecode_to_string()
            with suppress(RootgenError):  # a full disk must not keep anyone from a prototxt
                write_bytes(folder / bucket.key, hashlib.sha256(code).digest() + code)

    try:
        folder = paths.cache("templates")
    except RootgenError as error:
        if isinstance(error, paths.SharedCacheError):
            log.warning("templates are compiled anew: %s", error)
        return None
    return Cache()


def _quote(text: str) -> str:
    """`text` as a prototxt string."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RootgenError(f"{text!r} is no UTF-8 text", hint="a prototxt holds nothing else") from None
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
