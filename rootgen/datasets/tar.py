"""Members of a tar archive, one after another, within bounds: no more is unpacked than somebody asked for.

Python's own tarfile reads headers of any size into memory, and trusts sizes below zero. The format: 512-byte
headers with octal numbers in text, each followed by its content in whole blocks (POSIX.1-1988, ustar).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rootgen.errors import RootgenError
from rootgen.files import check_regular

BLOCK = 512
MAX_UNPACKED = 2**30  # bytes of a whole archive
OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
MAX_NAME = 2**16  # bytes of a header that tells a long name
FILE_TYPES = (b"0", b"\0")


def members(archive: Path, wanted: Callable[[str], bool], most: int) -> Iterator[tuple[str, bytes]]:
    """(last part of its name, content) of each file in `archive` whose name is `wanted`, of at most `most` bytes.

    RootgenError where the archive is damaged, or holds more than MAX_UNPACKED bytes.
    """
    check_regular(archive)
    try:
        with archive.open("rb") as file:
            start = file.read(BLOCK)
        opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), open)
        with opener(archive, "rb") as stream:
            yield from _read(stream, wanted, most)
    except (OSError, EOFError, ValueError, lzma.LZMAError, MemoryError) as error:
        raise _damaged(archive, str(error).partition("\n")[0] or "want of memory") from None
    except Exception as error:
        if not isinstance(error, RootgenError) and type(error).__module__ == "zlib":
            raise _damaged(archive, str(error)) from None
        raise


def _read(stream: Any, wanted: Callable[[str], bool], most: int) -> Iterator[tuple[str, bytes]]:
    left, long_name = MAX_UNPACKED, ""
    while True:
        header = stream.read(BLOCK)
        if len(header) < BLOCK:
            raise EOFError("it ends before its end mark")
        if not any(header):
            return
        name, size = _name_and_size(header)
        kind = header[156:157]
        padded = -(-size // BLOCK) * BLOCK
        left -= BLOCK + padded
        if left < 0:
            raise ValueError(f"more than {MAX_UNPACKED // 2**20} MiB unpacked")
        if kind in NAMES:
            if size > MAX_NAME:
                raise ValueError(f"a name of {size} bytes (at most {MAX_NAME})")
            long_name = NAMES[kind](stream.read(padded)[:size]) or long_name
            continue
        name, long_name = long_name or name, ""
        if kind in FILE_TYPES and wanted(name):
            if size > most:
                raise ValueError(f"'{name}' has {size} bytes (at most {most})")
            content = stream.read(padded)
            if len(content) < size:
                raise EOFError(f"'{name}' is cut short")
            yield name, content[:size]
        else:
            _skip(stream, padded)


def _name_and_size(header: bytes) -> tuple[str, int]:
    """The last part of a member's name, and its bytes; ValueError where the header is none."""
    blank = header[:148] + b" " * 8 + header[156:]
    if _octal(header[148:156]) != sum(blank):
        raise ValueError("a header's checksum is wrong")
    name = header[:100].split(b"\0")[0].decode("utf-8", "replace")
    return name.rpartition("/")[2], _octal(header[124:136])


def _gnu_name(content: bytes) -> str:
    """The last part of the name that the next member has, in GNU's form."""
    return content.split(b"\0")[0].decode("utf-8", "replace").rpartition("/")[2]


def _pax_name(content: bytes) -> str:
    """The last part of the name that the next member has, in records `LENGTH path=NAME`; "" where they tell none."""
    at = 0
    while at < len(content):
        length = content[at : content.find(b" ", at)]
        if not length.isdigit() or int(length) <= len(length):
            raise ValueError("a damaged extended header")
        key, _, value = content[at + len(length) + 1 : at + int(length)].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace").rpartition("/")[2]
        at += int(length)
    return ""


NAMES: dict[bytes, Callable[[bytes], str]] = {b"L": _gnu_name, b"x": _pax_name}  # of the next member, if it is long


def _octal(field: bytes) -> int:
    word = field.split(b"\0")[0].strip().decode("ascii", "replace")
    if not word.isdigit():
        raise ValueError(f"'{word}' is no size")
    return int(word, 8)


def _skip(stream: Any, count: int) -> None:
    """Read `count` bytes and forget them."""
    while count:
        chunk = stream.read(min(count, 2**20))
        if not chunk:
            raise EOFError("it is cut short")
        count -= len(chunk)


def _damaged(archive: Path, reason: str) -> RootgenError:
    return RootgenError(f"not a whole tar archive: {reason}", where=archive, hint="fetch it again")
