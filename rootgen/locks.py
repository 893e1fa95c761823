"""One process at a time at what several could spoil: a snapshot prefix, a log, an experiment, a data set."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rootgen.errors import RootgenError
from rootgen.files import told

log = logging.getLogger("rootgen")


class LockedError(RootgenError):
    """Another process is at work on it."""


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Be the only process that works on `what`, as long as the block runs; LockedError says which other one does.

    The lock is the operating system's on the file `path`, which goes with the block; one that a killed process left
    does not count. Where the folder's file system has no locks, a warning says so.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, what)
    try:
        yield
    finally:
        if file is not None:
            path.unlink(missing_ok=True)
            os.close(file)


def _lock(path: Path, what: str) -> int | None:
    """The open and locked file `path`, which says whose it is; None where there are no locks."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 300, 0).decode(errors="replace").strip()
            os.close(file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                who = holder or "another process"
                raise LockedError(f"{who} is at work on it", where=what, hint="wait for it, or end it") from None
            log.warning("%s: no locks here (%s): nothing else may work on it meanwhile", what, error.strerror)
            path.unlink(missing_ok=True)
            return None
        if _is_at(file, path):  # not one that its last owner has just removed
            os.ftruncate(file, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()} (since {since})\n".encode(), 0)
            return file
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether the open `file` is what `path` names now."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
