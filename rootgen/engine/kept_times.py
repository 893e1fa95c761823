"""Times that were measured on this machine, kept in the user's cache: a file for each thing that was timed.

What cannot be kept, or was kept and cannot be used, is measured again: no cache, a full disk or a damaged file stops
nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_text

MAX_ENTRY = 2**24  # bytes of a file in the cache

log = logging.getLogger("rootgen")


class KeptTimes:
    """Milliseconds by name, of what a key tells; without a cache, which is said once, it keeps and finds none."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        try:
            self._folder = paths.cache("times")
        except RootgenError as error:
            self._give_up(error)

    def find(self, key: Mapping[str, str], names: Collection[str]) -> dict[str, float] | None:
        """What is kept under `key`; None where it is not there, lacks one of `names`, or is damaged."""
        if self._folder is None:
            return None
        try:
            found = json.loads(read_bytes(self._place(self._folder, key), most=MAX_ENTRY))
            times = {str(name): float(ms) for name, ms in found["milliseconds"].items()}
        except (RootgenError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            return None
        good = all(math.isfinite(ms) and ms >= 0 for ms in times.values()) and found.get("of") == dict(key)
        return times if good and all(times.get(name, 0) > 0 for name in names) else None

    def keep(self, key: Mapping[str, str], times: Mapping[str, float]) -> None:
        """Keep `times` under `key`, in place of what is there."""
        if self._folder is None:
            return
        try:
            text = json.dumps({"of": key, "milliseconds": times}) + "\n"
            write_text(self._place(self._folder, key), text, durable=False)
        except RootgenError as error:
            self._give_up(error)

    def _give_up(self, error: RootgenError) -> None:
        self._folder = None
        log.warning("times are not kept: %s", error)

    @staticmethod
    def _place(folder: Path, key: Mapping[str, str]) -> Path:
        return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"
