"""What was learned by a run that fails, saved."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from rootgen.engine.api import Trainer
from rootgen.engine.trainer import snapshots
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


def rescue(trainer: Trainer, snapshot: Callable[[], tuple[Path, Path]]) -> None:
    """Make a `snapshot` of what a failed run had learned, in a temporary folder where it has to be."""
    solver = trainer.solver
    try:
        _, solver_state = snapshot()
    except RootgenError:
        folder, own = mkdtemp(prefix="rootgen-rescued-"), solver.snapshot_prefix
        solver.snapshot_prefix = str(Path(folder) / trainer.engine)
        try:
            _, solver_state = snapshot()
        except RootgenError as failure:
            shutil.rmtree(folder, ignore_errors=True)
            log.warning("what was learned since the last snapshot is lost: %s", failure)
            return
        finally:
            solver.snapshot_prefix = own
    log.warning("rescued: iteration %d is in %s", trainer.iteration, solver_state)


def save_what_is_new(trainer: Trainer) -> None:
    """Make a snapshot unless there is one of the iteration, or nothing was learned."""
    saved = max((iteration for iteration, _ in snapshots(trainer.solver.snapshot_prefix)), default=0)
    if trainer.iteration > saved:
        rescue(trainer, trainer.snapshot)
