"""An experiment's folder in a few archives of limited size, what matters most first."""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path

from rootgen.engine.trainer import snapshots

ARCH = "nin"
LOGS = "logs"  # of the processes, in the experiment's folder
MOST_BYTES = 15 * 2**20  # of an archive
MOST_MODELS = 3  # archives of them: with the other, 60 MiB
SMALL = (
    *("settings.json", "results.csv", "report.*", "times.json", "times/*.csv", "times/*.prototxt", f"{LOGS}/*.log"),
    *("*/seed-*/trained.json", "*/seed-*/*_log.csv", "*/seed-*/*.prototxt", "*/seed-*/correlation/scores.csv"),
    *("times/*.png", "plots/*.png", "times/*.svg", "plots/*.svg", "times/*.pdf", "plots/*.pdf"),
)
BLOCK = 512  # of a tar: a header is one, and content is filled up to whole ones
END = 20 * BLOCK

log = logging.getLogger("on_gpu")


def pack(folder: Path, out: Path) -> None:
    """Put the experiment in `folder` into archives in `out`; what does not fit is told."""
    out.mkdir(parents=True, exist_ok=True)
    _pack_small(folder, out / "runs.tar.xz")
    packed, left = _fill(folder, _weights(folder))
    for number, paths in enumerate(packed, 1):
        _write(out / f"models-{number}.tar", folder, paths)
    for path in left:
        log.warning("left out: %s", path.relative_to(folder))


def _pack_small(folder: Path, archive: Path) -> None:
    """All but weights and correlations; should that be too large, without the last of it."""
    patterns = list(SMALL)
    while not _write(archive, folder, [path for pattern in patterns for path in sorted(folder.glob(pattern))]):
        log.warning("too large; left out: %s", patterns.pop())


def _weights(folder: Path) -> list[list[Path]]:
    """Files that belong together: unfinished runs' newest snapshots, then trained models that lack a correlation.

    Then the other trained models.
    """
    unfinished, trained, finished = [], [], []
    for run in sorted(folder.glob("*/seed-*")):
        if (run / "trained.json").is_file():
            model = run / json.loads((run / "trained.json").read_bytes())["model"]
            (finished if (run / "correlation/scores.csv").is_file() else trained).append([model])
        elif found := snapshots(str(run / ARCH)):
            state = found[0][1]
            unfinished.append([state, state.with_suffix(".caffemodel")])
    return [*unfinished, *trained, *finished]


def _fill(folder: Path, groups: Sequence[Sequence[Path]]) -> tuple[list[list[Path]], list[Path]]:
    """Which files go into each archive, a group always into one, the first that has room; and those left out."""
    packed: list[list[Path]] = []
    room: list[int] = []
    left: list[Path] = []
    for group in groups:
        size = sum(BLOCK + -(-path.stat().st_size // BLOCK) * BLOCK for path in group)
        place = next((place for place, free in enumerate(room) if size <= free), None)
        if place is None and len(packed) < MOST_MODELS and size + END <= MOST_BYTES:
            packed.append([])
            room.append(MOST_BYTES - END)
            place = len(packed) - 1
        if place is None:
            left += group
        else:
            packed[place] += group
            room[place] -= size
    return packed, left


def _write(archive: Path, folder: Path, paths: Sequence[Path]) -> bool:
    """Make an archive; whether it is no larger than it may be."""
    compression = "xz" if archive.suffix == ".xz" else ""
    with tarfile.open(archive, f"w:{compression}", format=tarfile.GNU_FORMAT) as tar:
        for path in paths:
            tar.add(path, path.relative_to(folder))
    size = archive.stat().st_size
    log.info("%s: %d files, %.1f MiB", archive, len(paths), size / 2**20)
    return size <= MOST_BYTES
