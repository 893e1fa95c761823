"""Files that are whole or absent (written beside their place, then renamed), and files that another file names."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


def read_bytes(path: str | Path) -> bytes:
    """Content of the file `path`; RootgenError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RootgenError(f"cannot read: {error.strerror}", where=path) from error


def write_text(path: str | Path, text: str) -> None:
    """Put `text` (UTF-8; lone surrogates are the bytes they stand for) into the file `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Put `content` into the file `path`, whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file or make a folder at; it takes `path`'s place if the block ends well.

    A file replaces what was there, a symbolic link stays and its target is replaced. A folder only takes a place
    that is free or an empty folder. On any error, Ctrl-C included, what was begun is removed and `path` is as it was.
    """
    path = Path(path)
    if is_stream(path):
        with _told(path):
            yield path
        return
    path = Path(os.path.realpath(path))
    holder = _holder(path)
    try:
        beside = holder / path.name
        with _told(path):
            yield beside
            if beside.is_file():
                _keep_mode(path, beside)
            beside.replace(path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def check_writable(path: str | Path) -> None:
    """Refuse a `path` that `replacing` could not write, before the long work it waits for; its folder is made."""
    if not is_stream(Path(path)):
        _holder(Path(os.path.realpath(path))).rmdir()


def is_stream(path: Path) -> bool:
    """Whether `path` is /dev/null, /dev/full, a terminal or a pipe: nothing to rename, or to rename over."""
    return path.is_char_device() or path.is_fifo()


def check_name(name: str, where: object) -> None:
    """Refuse a name with a zero byte, which prototxt can hold and the operating system cannot."""
    if "\0" in name:
        raise RootgenError(f"'{name}' holds a zero byte, which no file's name can", where=where)


def locate(name: str, beside: Path | None, where: object = None) -> Path:
    """The file or folder `name`: under the current folder as in Caffe, else under `beside`.

    A name such as "nets/small/net.prototxt" is also found in a `beside` that is itself some folder's nets/small.
    Says so where it is not the current folder's; where it is nowhere, the path that Caffe would take. RootgenError
    at `where`, the layer or solver that names it, for what no file can be named.
    """
    check_name(name, where)
    path = Path(name)
    if path.is_absolute() or path.exists() or beside is None or not name:
        return path
    here = beside.resolve()
    for folder in (here, *here.parents):
        other = folder / name
        if here in (folder, other.parent) and other.exists():
            log.info("'%s' is not in the current folder; taking %s", name, other)
            return other
    return path


def _holder(path: Path) -> Path:
    """A new folder beside `path`, where what takes its place is made."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))


def _keep_mode(path: Path, beside: Path) -> None:
    """Give `beside` the permissions that `path` has now, so that replacing a file does not change them."""
    if path.exists():
        beside.chmod(path.stat().st_mode & 0o7777)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals (no room, no permission) into one clear line."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError) or error.strerror is None:
            raise
        reason = os.strerror(error.errno) if error.errno else error.strerror  # HDF5's own is a paragraph
        hint = "free some room" if error.errno == errno.ENOSPC else "choose another place"
        raise RootgenError(f"cannot write: {reason}", where=path, hint=hint) from error
