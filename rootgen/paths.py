"""Where the templates, the patches and the tables lie, and where caches go.

A wheel carries templates/ and caffe_patches/ inside the package; an editable install or a checkout has them beside
it. Both are looked for, in that order. prototxt/, the rendered nets, is in checkouts alone.

What lies in a cache is run: compiled templates, a Caffe. So a cache is a folder that nobody else can write to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rootgen.errors import RootgenError

PACKAGE = Path(__file__).resolve().parent
UNMAPPED = 65534  # who owns the folders above a container's own, as seen from within


class SharedCacheError(RootgenError):
    """A cache that others own or can write to."""


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
    """Folder `name` of the user's cache, made if absent: $ROOTGEN_CACHE, else $XDG_CACHE_HOME/rootgen.

    RootgenError where it cannot be made, where a variable names it from the working folder, which may be
    anybody's, or where another user owns it or can write to it.
    """
    top = root()
    folder = top / name
    try:
        for part in (*reversed(top.parents), top, folder):
            if not part.exists():
                part.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RootgenError(
            f"cannot make the cache folder: {error.strerror}", where=folder, hint="set ROOTGEN_CACHE"
        ) from error
    check_own(folder)
    return folder


def check_own(path: Path) -> None:
    """RootgenError where another user owns, or can replace or write to, the file or folder `path`.

    Its folders count up to the root; root's own are everybody's, and /tmp, where only owners may rename, is safe.
    """
    real = Path(os.path.realpath(path))
    for part in (real, *real.parents):
        try:
            facts = part.stat()
        except OSError as error:
            raise RootgenError(f"cannot read: {error.strerror}", where=part) from error
        if facts.st_uid not in (0, os.geteuid(), *([UNMAPPED] if part != real else [])):
            raise RootgenError(
                "belongs to another user, so nothing in it is used", where=part, hint="set ROOTGEN_CACHE"
            )
        sticky = part != real and facts.st_mode & stat.S_ISVTX
        if not sticky and (facts.st_mode & stat.S_IWOTH or (facts.st_mode & stat.S_IWGRP and _is_shared(facts.st_gid))):
            what = "others can write to it, so nothing in it is used"
            raise SharedCacheError(what, where=part, hint=f"chmod go-w {part}, or set ROOTGEN_CACHE")


def check_own_tree(folder: Path) -> None:
    """`check_own` of `folder` and of all that lies in it, links that lead out of it included."""
    check_own(folder)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                check_own(path)
            else:
                _check_entry(path)


def _check_entry(path: Path) -> None:
    facts = path.lstat()
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & stat.S_IWOTH:
        raise SharedCacheError("another user owns it or can write to it", where=path, hint="rootgen caffe build anew")


def root() -> Path:
    """The cache's top folder, there or not; RootgenError where there is none to name."""
    for name, below in (("ROOTGEN_CACHE", ""), ("XDG_CACHE_HOME", "rootgen")):
        if value := os.environ.get(name):
            top = _expanded(value) / below
            if not top.is_absolute():
                raise SharedCacheError(f"{name} is '{value}', no absolute path, so no cache", hint=f"set {name} to one")
            return top
    return _expanded("~/.cache") / "rootgen"


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no $HOME, and a user that the system does not know, as in containers
        raise RootgenError("this user has no home folder to keep a cache in", hint="set ROOTGEN_CACHE") from None


def _is_shared(gid: int) -> bool:
    """Whether a group may have other members than this user: all but the one that many systems give each user."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
        return group.gr_name != pwd.getpwuid(os.geteuid()).pw_name or bool(group.gr_mem)
    except KeyError:
        return True
