"""Folders for what is made on the way to a result; those that a killed process left go at the next occasion.

Each is held by a lock that the operating system drops with its process, so that a folder without one is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SETTLED_S = 60  # a younger folder without a lock may be about to get it
KEPT = "replaced"  # what lies in a folder under this name was somebody's result: never removed with what is left
_RANDOM = 8  # characters that mkdtemp puts between prefix and suffix


class Folder:
    """A new, locked folder `PREFIX*SUFFIX` in `place` (the temporary folder by default); `remove` ends it.

    It also goes with this object. OSError where it cannot be made.
    """

    def __init__(self, prefix: str, suffix: str = "", place: Path | None = None) -> None:
        place = place or Path(tempfile.gettempdir())
        for old in _left(place, prefix, suffix):
            shutil.rmtree(old, ignore_errors=True)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=place))
        lock = None
        with suppress(OSError):  # a file system without locks
            lock = _lock(self.path)
        self._end = weakref.finalize(self, _remove, self.path, lock)

    def remove(self) -> None:
        """Remove the folder with all that is in it; nothing is said where that fails."""
        self._end()


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A new folder in the temporary folder for as long as the block lasts."""
    made = Folder(prefix)
    try:
        yield made.path
    finally:
        made.remove()


def _remove(path: Path, lock: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        with suppress(OSError):
            os.close(lock)


def _lock(path: Path) -> int:
    """A descriptor of the folder `path` that holds its lock; BlockingIOError where another one does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _held(path: Path) -> bool | None:
    """Whether a living process holds the lock of `path`; None where that cannot be known."""
    try:
        os.close(_lock(path))
    except BlockingIOError:
        return True
    except OSError:  # it is gone, or its file system has no locks
        return None
    return False


def _left(place: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """The user's own folders `PREFIX*SUFFIX` in `place` whose process is gone, but for those with something `KEPT`."""
    for path in _matching(place, prefix, suffix):
        with suppress(OSError):
            facts = path.lstat()
            own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            old = time.time() - facts.st_mtime > SETTLED_S
            if own and old and not (path / KEPT).exists() and _held(path) is False:
                yield path


def _matching(place: Path, prefix: str, suffix: str) -> list[Path]:
    """What lies in the folder `place` under a name as `mkdtemp` makes it of a prefix and a suffix."""
    length = len(os.fsencode(prefix + suffix)) + _RANDOM
    try:
        names = os.listdir(place)  # noqa: PTH208
    except OSError:
        return []
    like = (name for name in names if name.startswith(prefix) and name.endswith(suffix))
    return [place / name for name in like if len(os.fsencode(name)) == length]
