"""What a solver.prototxt says: its nets, checked as Caffe checks them (solver.cpp)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rootgen.engine import seeds
from rootgen.engine.learning_rate import check_policy
from rootgen.errors import RootgenError, did_you_mean
from rootgen.files import check_name, locate
from rootgen.net import forks
from rootgen.net.graph import PHASES, Net
from rootgen.net.read import from_param
from rootgen.net.read import read as read_net
from rootgen.proto import schema, upgrade

log = logging.getLogger("rootgen")

HISTORIES = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}
"""Solver type -> history blobs that it keeps per learnable blob."""

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def read(
    path: str | Path, seed: int | None = None, *, lenient: bool = False, draw: Callable[[], int] = seeds.fresh
) -> Any:
    """The SolverParameter of a solver.prototxt: old fields upgraded, values checked, prefix and random_seed settled.

    `seed` goes over the solver's own random_seed; where neither says one, it is what `draw` gives, and told. `lenient`
    passes over fields that Caffe does not have, with a warning.
    """
    solver = upgrade.upgrade_solver(forks.read_message(path, "SolverParameter", lenient=lenient), path)
    for name, least in (("iter_size", 1), ("average_loss", 1), ("snapshot", 0), ("test_interval", 0), ("max_iter", 0)):
        if getattr(solver, name) < least:
            raise RootgenError(f"{name} is {getattr(solver, name)}, but has to be {least} or more", where=path)
    check_policy(solver, path)
    _check_update(solver, path)
    if seed is not None:
        solver.random_seed = seed
    elif solver.random_seed < 0:
        solver.random_seed = draw()
        log.info("random_seed: %d (none given; --seed, or random_seed in the solver, repeats it)", solver.random_seed)
    for name in (solver.snapshot_prefix, *solver.weights):
        check_name(name, path)
    prefix = Path(solver.snapshot_prefix)
    try:
        if not solver.snapshot_prefix:
            solver.snapshot_prefix = str(Path(path).with_suffix(""))
        elif prefix.is_dir():
            solver.snapshot_prefix = str(prefix / Path(path).stem)
    except UnicodeEncodeError:
        what = "this name, which its snapshots would have, is no UTF-8 text"
        raise RootgenError(what, where=path, hint="rename the file or give snapshot_prefix") from None
    return solver


def _check_update(solver: Any, where: object) -> None:
    """Refuse what no update can be made of; at most of it Caffe ends the process, some of it late in a run."""
    if solver.type not in HISTORIES:
        raise RootgenError(
            f"unknown solver type '{solver.type}'", where=where, hint=did_you_mean(solver.type, HISTORIES)
        )
    if solver.type in ("AdaGrad", "RMSProp") and solver.momentum:
        raise RootgenError(f"{solver.type} takes no momentum, found {solver.momentum:g}", where=where)
    if solver.type == "RMSProp" and not 0 <= solver.rms_decay < 1:
        raise RootgenError(f"RMSProp takes rms_decay from 0 to below 1, found {solver.rms_decay:g}", where=where)
    if solver.type == "Adam" and not (0 <= solver.momentum < 1 and 0 <= solver.momentum2 < 1):
        raise RootgenError(
            f"Adam takes momentum and momentum2 from 0 to below 1, found {solver.momentum:g} and {solver.momentum2:g}",
            where=where,
        )
    if solver.regularization_type not in ("L1", "L2"):
        raise RootgenError(f"unknown regularization_type '{solver.regularization_type}'", where=where, hint="L1 or L2")


def weights(solver: Any) -> list[str]:
    """The models that a solver's training starts from."""
    return [name.strip() for field in solver.weights for name in field.split(",")]


def train_net(solver: Any, path: str | Path, *, lenient: bool = False) -> Net:
    """The net of phase TRAIN."""
    given = [name for name in _TRAIN_FIELDS if solver.HasField(name)]
    if len(given) != 1:
        raise RootgenError(f"names {len(given)} train nets", where=path, hint=f"give one of {', '.join(_TRAIN_FIELDS)}")
    return _net(given[0], getattr(solver, given[0]), "TRAIN", solver.train_state, path, lenient=lenient)


def test_nets(solver: Any, path: str | Path, *, lenient: bool = False) -> list[Net]:
    """The nets of phase TEST, one per test_iter: those named, then `net` for the rest."""
    named: list[tuple[str, Any]] = [("test_net_param", param) for param in solver.test_net_param]
    named += [("test_net", name) for name in solver.test_net]
    generic = next((name for name in ("net", "net_param") if solver.HasField(name)), None)
    count = len(solver.test_iter)
    if count < len(named) or (count > len(named) and not generic):
        raise RootgenError(
            f"{count} test_iter for {len(named)} test nets", where=path, hint="one test_iter per test net"
        )
    if generic:
        named += [(generic, getattr(solver, generic))] * (count - len(named))
    if solver.test_state and len(solver.test_state) != count:
        raise RootgenError(f"{len(solver.test_state)} test_state for {count} test nets (none, or one each)", where=path)
    if count and not solver.test_interval:
        raise RootgenError("test_iter without test_interval", where=path, hint="say how often to test")
    if any(iterations < 1 for iterations in solver.test_iter):
        raise RootgenError(f"test_iter is {min(solver.test_iter)}, but has to be 1 or more", where=path)
    states: Iterable[Any] = solver.test_state or [schema.NetState()] * count
    return [
        _net(name, value, "TEST", state, path, lenient=lenient)
        for (name, value), state in zip(named, states, strict=True)
    ]


def _net(field: str, value: Any, phase: str, state: Any, path: str | Path, *, lenient: bool) -> Net:
    """The net that a solver's field names or holds, in `phase` unless `state` says another."""
    phase = PHASES[state.phase] if state.HasField("phase") else phase
    if isinstance(value, str):
        file = locate(value, Path(path).parent, path)
        if not file.exists():
            raise RootgenError(f"{field} '{value}' is not there", where=path, hint="paths start at the current folder")
        return read_net(file, phase, level=state.level, stages=state.stage, lenient=lenient)
    return from_param(value, phase, where=f"{path}: {field}", level=state.level, stages=state.stage)
