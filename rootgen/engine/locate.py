"""Where the files lie that a solver or a net names."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("rootgen")


def locate(name: str, beside: Path | None) -> Path:
    """The file or folder `name`: under the current folder as in Caffe, else under `beside` or a folder above it.

    Says so where it is not the first. Where it is nowhere, the path that Caffe would take.
    """
    path = Path(name)
    if path.is_absolute() or path.exists() or beside is None or not name:
        return path
    here = beside.resolve()
    other = next((folder / name for folder in (here, *here.parents) if (folder / name).exists()), None)
    if other is None:
        return path
    log.info("'%s' is not in the current folder; taking %s", name, other)
    return other
