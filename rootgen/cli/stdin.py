"""`-` in place of a net's file: what stdin holds, which can be read once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rootgen import scratch
from rootgen.cli import UsageError
from rootgen.errors import RootgenError, standing_for
from rootgen.net.read import is_binary
from rootgen.proto import prototxt

STDIN = "<stdin>"  # what errors call it


def read() -> str:
    """The text that stdin holds."""
    try:
        content = sys.stdin.buffer.read(prototxt.MAX_BYTES + 1)
        if len(content) > prototxt.MAX_BYTES:
            raise RootgenError(f"more than {prototxt.MAX_BYTES / 2**20:.0f} MiB of text", where=STDIN)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "give a caffemodel by its name"
        raise RootgenError(f"{error.reason} at byte {error.start}: no UTF-8 text", where=STDIN, hint=hint) from None


def text_of(path: str) -> str:
    """The text of a net, from its file or, for `-`, from stdin."""
    if path == "-":
        return read()
    if is_binary(path):
        raise RootgenError("a caffemodel has no text to change", where=path, hint="pass the net's prototxt")
    return prototxt.read_source(path)


def check_once(nets: Sequence[str]) -> None:
    """Wrong usage where several of `nets` are `-`."""
    if list(nets).count("-") > 1:
        raise UsageError("- stands for one net: stdin can be read once")


@contextmanager
def net_file(path: str) -> Iterator[str]:
    """The file of a net: `path`, or for `-` a file with what stdin holds; errors call that <stdin>."""
    if path != "-":
        yield path
        return
    text = read()
    with scratch.folder("rootgen-stdin-") as folder:
        file = str(folder / "stdin.prototxt")
        Path(file).write_text(text, encoding="utf-8")
        with standing_for(file, STDIN):
            yield file
