"""What all trainers share: the names of snapshots, how they are written, and what is said of a run that diverges."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.engine import state, weights
from rootgen.engine.api import Trainer
from rootgen.engine.learning_rate import learning_rate
from rootgen.errors import RootgenError
from rootgen.net.graph import Net

log = logging.getLogger("rootgen")


class DivergedError(RootgenError):
    """Weights or a loss that are not finite: what was trained since the last snapshot is worth nothing."""


def diverged(solver: Any, iteration: int, where: object, what: str) -> DivergedError:
    """The error `what` at `iteration`, with the learning rate that led there and the last good snapshot."""
    rate = learning_rate(solver, max(iteration - 1, 0))
    newest = next(iter(snapshots(solver.snapshot_prefix)), None)
    last = f"; the last snapshot is {newest[1]}" if newest else ""
    return DivergedError(
        f"iteration {iteration}: {what}",
        where=where,
        hint=f"lower base_lr (the rate is {rate:g}) or set clip_gradients{last}",
    )


def snapshot_paths(solver: Any, iteration: int) -> tuple[Path, Path]:
    """Model and solver state of a snapshot at `iteration`, by snapshot_prefix and snapshot_format."""
    suffix = ".h5" if solver.snapshot_format == 0 else ""
    stem = f"{solver.snapshot_prefix}_iter_{iteration}"
    return Path(f"{stem}.caffemodel{suffix}"), Path(f"{stem}.solverstate{suffix}")


def write_snapshot(
    solver: Any,
    net: Net,
    learned: Mapping[str, Sequence[np.ndarray]],
    *,
    iteration: int,
    current_step: int,
    history: Iterable[np.ndarray],
    batches: int,
    engine: str,
) -> tuple[Path, Path]:
    """Write the model of `net` and the state of `solver`, each whole or not at all; their paths.

    `batches` were read so far, by `engine`.
    """
    model, solver_state = snapshot_paths(solver, iteration)
    weights.write(model, net.name, "TRAIN", net.layers, learned)
    read = None if batches == iteration * solver.iter_size else batches
    state.write(solver_state, state.State(iteration, str(model), current_step, list(history), read, engine))
    return model, solver_state


def newest_snapshot(trainer: Trainer) -> Path | None:
    """The .solverstate of the newest snapshot under the solver's snapshot_prefix that has its model beside it."""
    return next((path for _, path in snapshots(trainer.solver.snapshot_prefix)), None)


def restore_newest(trainer: Trainer) -> Path | None:
    """Go on from the newest snapshot under snapshot_prefix that is whole; its .solverstate, or None without any.

    One that cannot be used (cut short by a crash, of another net) is told of, and the next older one taken.
    RootgenError, that of the newest, where there are some and none can be used.
    """
    first: RootgenError | None = None
    for _, path in snapshots(trainer.solver.snapshot_prefix):
        try:
            trainer.restore(path)
        except RootgenError as error:
            first = first or error
            log.warning("%s; trying the snapshot before %s", error, path.name)
        else:
            return path
    if first is not None:
        raise RootgenError(
            f"no snapshot here can be gone on from; the newest: {first}",
            where=trainer.solver.snapshot_prefix,
            hint="remove them to start anew, or name one with --snapshot",
        )
    return None


def snapshots(prefix: str) -> list[tuple[int, Path]]:
    """(iteration, .solverstate or .solverstate.h5) of every snapshot under a snapshot_prefix, newest first.

    Those whose model is gone are left out.
    """
    start = Path(prefix)
    pattern = re.compile(re.escape(start.name) + r"_iter_(\d+)\.solverstate(\.h5)?$")
    found = []
    for path in start.parent.glob("*.solverstate*") if start.parent.is_dir() else ():
        match = pattern.match(path.name)
        if match and _model_of(path).is_file():
            found.append((int(match[1]), path))
    return sorted(found, reverse=True)


def remove_older(prefix: str, kept: int) -> None:
    """Remove all snapshots under a snapshot_prefix but the newest `kept`, model and state."""
    for _, path in snapshots(prefix)[kept:]:
        path.unlink(missing_ok=True)  # first: without it nobody looks for the model
        _model_of(path).unlink(missing_ok=True)


def _model_of(solver_state: Path) -> Path:
    """The model of a snapshot, beside its state."""
    return solver_state.with_name(solver_state.name.replace(".solverstate", ".caffemodel"))
