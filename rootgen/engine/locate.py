"""Where the files lie that a solver or a net names."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("rootgen")


def locate(name: str, beside: Path | None) -> Path:
    """The file or folder `name`: under the current folder as in Caffe, else under `beside`.

    A name such as "nets/small/net.prototxt" is also found in a `beside` that is itself some folder's nets/small.
    Says so where it is not the current folder's; where it is nowhere, the path that Caffe would take.
    """
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
