"""What is said when training leaves the finite numbers."""

from __future__ import annotations

from typing import Any

from rootgen.engine import schedule, state
from rootgen.errors import RootgenError


class DivergedError(RootgenError):
    """Weights or a loss that are not finite: what was trained since the last snapshot is worth nothing."""


def diverged(solver: Any, iteration: int, where: object, what: str) -> DivergedError:
    """The error `what` at `iteration`, with the learning rate that led there and the last good snapshot."""
    rate = schedule.learning_rate(solver, max(iteration - 1, 0))
    newest = next(iter(state.snapshots(solver.snapshot_prefix)), None)
    last = f"; the last snapshot is {newest[1]}" if newest else ""
    return DivergedError(
        f"iteration {iteration}: {what}",
        where=where,
        hint=f"lower base_lr (the rate is {rate:g}) or set clip_gradients{last}",
    )
