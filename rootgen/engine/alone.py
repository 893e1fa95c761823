"""One run at a time under a snapshot prefix and at a log, refused before hours of training where none could write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rootgen.errors import RootgenError
from rootgen.files import check_writable, is_stream
from rootgen.locks import locked


@contextmanager
def alone(solver: Any, log_file: str | Path | None) -> Iterator[None]:
    """Be the only one that writes snapshots under the solver's prefix, and this log; refused where nobody could."""
    places: dict[Path, str] = {}  # lock -> what it is on
    if solver.snapshot or solver.snapshot_after_train:
        _check_writable(solver.snapshot_prefix)
        places[_lock_of(solver.snapshot_prefix)] = solver.snapshot_prefix
    log_path = Path(log_file or f"{solver.snapshot_prefix}_log.csv")
    if not is_stream(log_path) and not log_path.is_dir():  # which the log refuses
        check_writable(log_path)
        places.setdefault(_lock_of(os.path.realpath(log_path)), str(log_path))
    with ExitStack() as locks:
        for path, what in places.items():
            locks.enter_context(locked(path, what))
        yield


def _lock_of(name: str) -> Path:
    """The file whose lock whoever writes under `name` holds, by whichever name of its folder."""
    folder, last = os.path.split(name)
    return Path(os.path.realpath(folder)) / f".{last}.lock"


def _check_writable(prefix: str) -> None:
    """Refuse a snapshot_prefix that nothing can be written under, before hours of training."""
    try:
        check_writable(f"{prefix}_iter_0.caffemodel")
    except RootgenError as error:
        raise RootgenError(f"snapshot_prefix: {error.what}", where=prefix, hint="change it in the solver") from error
