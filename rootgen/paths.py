"""Where the templates, the patches and the tables lie, and where caches go.

A wheel carries templates/ and caffe_patches/ inside the package; an editable install or a checkout has them beside
it. Both are looked for, in that order. prototxt/, the rendered nets, is in checkouts alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from rootgen.errors import RootgenError

PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Folder `name` (templates, caffe_patches, data; in a checkout prototxt) of this installation."""
    for parent in (PACKAGE, PACKAGE.parent):
        folder = parent / name
        if folder.is_dir():
            return folder
    raise RootgenError(f"no '{name}' folder in or beside {PACKAGE}", hint="reinstall rootgen")


def data(name: str) -> Path:
    """File `name` of the package's data folder."""
    path = PACKAGE / "data" / name
    if not path.exists():
        raise RootgenError(f"no data file '{name}' in {path.parent}", hint="reinstall rootgen")
    return path


def cache(name: str) -> Path:
    """Folder `name` of the user's cache, made if absent: $ROOTGEN_CACHE, else $XDG_CACHE_HOME/rootgen."""
    base = os.environ.get("ROOTGEN_CACHE")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rootgen"
    try:
        folder = root.expanduser() / name
    except RuntimeError:  # no $HOME, and a user that the system does not know, as in containers
        raise RootgenError("this user has no home folder to keep a cache in", hint="set ROOTGEN_CACHE") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RootgenError(
            f"cannot make the cache folder: {error.strerror}", where=folder, hint="set ROOTGEN_CACHE"
        ) from error
    return folder
