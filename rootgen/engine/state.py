"""The state of a solver between iterations: .solverstate (binary SolverState) and Caffe's HDF5 form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.engine import blobs, hdf5
from rootgen.engine.weights import HDF5_SUFFIXES
from rootgen.errors import RootgenError
from rootgen.files import replacing, write_bytes
from rootgen.proto import schema

_OWN = ("batches", "engine")  # fields that Caffe does not have


@dataclass(frozen=True)
class State:
    """How far a solver is: iterations done, the model's file, steps of the rate done, and the history blobs.

    `history` goes by learnable blob in the net's order; AdaDelta and Adam append a second round. `batches` were read
    so far by all processes together; None stands for iteration x iter_size, which one process by itself reads. `engine`
    is the one that wrote it, "" where nobody says. Files have both in fields of our own, which Caffe passes over.
    """

    iteration: int
    learned_net: str
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)
    batches: int | None = None
    engine: str = ""

    def first_batch(self, iter_size: int, processes: int = 1) -> int:
        """The number of iteration 0's first batch, had all of them been read as those to come are."""
        read = self.iteration * iter_size if self.batches is None else self.batches
        return read - self.iteration * iter_size * processes


def read(path: str | Path) -> State:
    """The state in a .solverstate or .solverstate.h5."""
    if str(path).endswith(HDF5_SUFFIXES):
        return _read_hdf5(path)
    state = schema.read_binary(path, _with_own())
    if not state.HasField("iter"):
        raise RootgenError("no iteration in this file", where=path, hint="a .solverstate is wanted")
    history = [blobs.to_array(blob, f"{path}: history {i}") for i, blob in enumerate(state.history)]
    batches = _checked(state.batches, path) if state.HasField("batches") else None
    model = os.fsdecode(state.learned_net)  # a path: any bytes
    return State(state.iter, model, state.current_step, history, batches, state.engine)


def write(path: str | Path, state: State) -> None:
    """Write a state, in HDF5 if `path` ends so."""
    if str(path).endswith(HDF5_SUFFIXES):
        _write_hdf5(path, state)
        return
    message = schema.SolverState(iter=state.iteration, learned_net=state.learned_net, current_step=state.current_step)
    message.history.extend(blobs.from_array(values) for values in state.history)
    own = {name: value for name in _OWN if (value := getattr(state, name)) not in (None, "")}
    write_bytes(path, schema.to_bytes(message) + schema.to_bytes(_with_own()(**own)))  # fields may stand in any order


def check_history(state: State, sizes: Sequence[int], solver_type: str, path: str | Path) -> None:
    """Refuse the state in `path` where its history blobs are not of the `sizes` (values) that a solver has."""
    found = [array.size for array in state.history]
    if found != list(sizes):
        raise RootgenError(
            f"{len(found)} history blobs of {sum(found)} values, but {solver_type} on this net has "
            f"{len(sizes)} of {sum(sizes)}",
            where=path,
            hint="a state of another net or of another solver type; --weights takes the model alone",
        )


def learned_net(state: State, path: str | Path) -> Path:
    """Where the model of a state lies: beside the state itself, as it was written, else where it says.

    So a folder that was copied is gone on from with its own model, not with that of the folder that it came from.
    """
    named = Path(state.learned_net)
    with suppress(OSError):  # a name that no file can have
        beside = Path(path).parent / named.name
        if state.learned_net and beside.is_file():
            return beside
        if named.is_file():
            return named
    raise RootgenError(
        f"its model '{state.learned_net}' is neither there nor beside it", where=path, hint="put the two side by side"
    )


def _with_own() -> Any:
    """The class of a state's binary form with the field of our own."""
    return schema.message("SolverState", forks=True)


def _checked(batches: int, path: str | Path) -> int:
    if batches < 0:
        raise RootgenError(f"{batches} batches read", where=path, hint="a damaged file: write it again")
    return batches


def _read_hdf5(path: str | Path) -> State:
    with hdf5.reading(path) as file:
        iteration, step = file.integer("iter"), file.integer("current_step")
        names = file.below("history")
        if "history" not in file or set(names) != {f"history/{i}" for i in range(len(names))}:
            raise RootgenError("no history, or not all of it, in this file", where=path, hint="write it again")
        history = [file.floats(f"history/{i}") for i in range(len(names))]
        name = file.string("learned_net")
        batches = _checked(file.integer("batches"), path) if "batches" in file else None
        engine = os.fsdecode(file.string("engine")) if "engine" in file else ""
    return State(iteration, os.fsdecode(name), step, history, batches, engine)


def _write_hdf5(path: str | Path, state: State) -> None:
    with replacing(path) as beside, hdf5.open_file(beside, "w") as file:
        file["iter"] = np.array([state.iteration], np.int32)
        file["current_step"] = np.array([state.current_step], np.int32)
        if state.batches is not None:
            file["batches"] = np.array([state.batches], np.int64)
        _write_string(file, "learned_net", state.learned_net)
        if state.engine:
            _write_string(file, "engine", state.engine)
        group = file.create_group("history")
        for i, values in enumerate(state.history):
            group[str(i)] = np.asarray(values, np.float32)


def _write_string(file: Any, name: str, value: str) -> None:
    """A string of fixed length that ends in a zero byte: Caffe reads it as a C string, which h5py's own are not."""
    import h5py

    content = value.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(content))
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(content, dtype=f"S{len(content)}"), mtype=kind)
