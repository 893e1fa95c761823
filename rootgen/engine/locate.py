"""Where the files lie that a solver or a net names."""

from __future__ import annotations

import logging
from pathlib import Path

from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


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
