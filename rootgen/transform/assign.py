"""Which channels belong together: outputs and inputs of a layer put into balanced groups that keep the most.

Filter groups cut a layer's (outputs x inputs) connections down to blocks. How much the blocks keep depends on the
order of the channels. With one side's groups given, the best groups of the other are a linear assignment
(scipy.optimize); the two sides take turns until neither gains, from several starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rootgen.compound import Sizes
from rootgen.errors import RootgenError

STARTS = 8
ROUNDS = 50  # of turns at most; a handful is usual

Moves = bool | Sequence[tuple[int, bool]]  # whether a side may move: all of it, or (channels, whether) of its parts


@dataclass(frozen=True)
class Assignment:
    """Orders of outputs and inputs (old places, in the new order) whose blocks keep the share `kept` of all that is.

    `sliced` is the share that the blocks keep in the order as it was.
    """

    outputs: np.ndarray
    inputs: np.ndarray
    kept: float
    sliced: float


def assign(
    importance: np.ndarray,
    group: int | Sizes,
    *,
    move_outputs: Moves = True,
    move_inputs: Moves = True,
    starts: int = STARTS,
    seed: int = 0,
) -> Assignment:
    """The orders that keep the most of `importance` (outputs x inputs, not negative) inside `group` blocks.

    The blocks are equal, or of the sizes given in place of their number. A side that may not move keeps its order; one
    of several parts (a Concat) moves inside each part that may. The first start is the order as it is, so that nothing
    gets worse than slicing; the others are random, by `seed`. RootgenError where the groups do not divide both sides.
    """
    outputs, inputs = importance.shape
    total = float(importance.sum()) or 1.0
    parts = _movable(move_outputs, outputs), _movable(move_inputs, inputs)
    plain, group = _blocks(outputs, inputs, group), group if isinstance(group, int) else len(group)
    sliced = _kept(importance, *plain) / total
    best, most = plain, -1.0
    random = np.random.default_rng(seed)
    for start in range(starts if group > 1 and any(parts) else 1):
        rows, columns = (one.copy() for one in plain)
        for side, own in zip((rows, columns), parts, strict=True):
            for part in own if start else ():
                side[part] = random.permutation(side[part])
        rows, columns = _alternate(importance, group, rows, columns, parts)
        kept = _kept(importance, rows, columns)
        if kept > most:
            best, most = (rows, columns), kept
    return Assignment(_order(best[0], parts[0]), _order(best[1], parts[1]), most / total, sliced)


def share(importance: np.ndarray, group: int | Sizes) -> float:
    """What `group` equal blocks, or blocks of given sizes, keep of `importance`, in the order as it is."""
    outputs, inputs = importance.shape
    return _kept(importance, *_blocks(outputs, inputs, group)) / (float(importance.sum()) or 1.0)


def shuffled(importance: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same values in random places: what a few large weights alone let the blocks keep (the control)."""
    return np.random.default_rng(seed).permutation(importance.ravel()).reshape(importance.shape)


def _movable(moves: Moves, channels: int) -> list[slice]:
    """The parts of a side that may move."""
    if isinstance(moves, bool):
        moves = [(channels, moves)]
    found, start = [], 0
    for count, may in moves:
        found += [slice(start, start + count)] if may else []
        start += count
    return found


Parts = tuple[list[slice], list[slice]]


def _alternate(
    importance: np.ndarray, group: int, rows: np.ndarray, columns: np.ndarray, parts: Parts
) -> tuple[np.ndarray, np.ndarray]:
    """Groups of outputs and inputs after turns of assignment, until neither side gains."""
    kept = -1.0
    for _ in range(ROUNDS):
        rows = _best(_per_group(importance, columns, group), rows, parts[0])
        columns = _best(_per_group(importance.T, rows, group), columns, parts[1])
        now = _kept(importance, rows, columns)
        if now <= kept * (1 + 1e-12):
            break
        kept = now
    return rows, columns


def _per_group(importance: np.ndarray, columns: np.ndarray, group: int) -> np.ndarray:
    """How much each row has in each group of columns."""
    return importance @ np.eye(group)[columns]


def _best(gain: np.ndarray, groups: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
    """The group of each row that makes the most of `gain` (rows x groups); each part has as many in each as before."""
    from scipy.optimize import linear_sum_assignment

    found = groups.copy()
    for part in parts:
        places = np.sort(groups[part])
        _, chosen = linear_sum_assignment(gain[part][:, places], maximize=True)
        found[part] = places[chosen]
    return found


def _blocks(outputs: int, inputs: int, group: int | Sizes) -> tuple[np.ndarray, np.ndarray]:
    """The group of each output and of each input in the order as it is."""
    if isinstance(group, int):
        if group < 1 or outputs % group or inputs % group:
            raise RootgenError(f"{group} groups do not divide {outputs} outputs and {inputs} inputs")
        group = Sizes((outputs // group,) * group)
    sizes = group.of(inputs, outputs)
    return np.repeat(np.arange(len(sizes)), sizes.outputs), np.repeat(np.arange(len(sizes)), sizes.inputs)


def _kept(importance: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    return float(importance[rows[:, None] == columns[None, :]].sum())


def _order(groups: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
    """Places in the order of their groups, part by part, as they were inside each."""
    order = np.arange(len(groups))
    for part in parts:
        order[part] = part.start + np.argsort(groups[part], kind="stable")
    return order
