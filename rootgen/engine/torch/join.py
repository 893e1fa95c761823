"""Opening a solver in several processes: the device of each, that all have the same before them, what is said of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rootgen import __version__
from rootgen.engine import machine, seeds
from rootgen.engine import solver as solvers
from rootgen.engine.feed import Feed
from rootgen.engine.processes import LostError, Place, ToldError
from rootgen.engine.stop import Stop
from rootgen.engine.torch import device as devices
from rootgen.engine.torch.data_parallel import ParallelTrainer
from rootgen.engine.torch.distributed import Group
from rootgen.engine.torch.open import open_nets
from rootgen.engine.torch.precision import settle
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")


@contextmanager
def joined(
    solver_path: str | Path,
    place: Place,
    stop: Stop,
    *,
    device: str = "auto",
    seed: int | None = None,
    lenient: bool = False,
    precision: str = "fp32",
    sync_bn: bool = False,
    scale_lr: bool = False,
) -> Iterator[ParallelTrainer]:
    """This process's part of the trainer of a solver; see engine.opened_together.

    RootgenError in process 0, ToldError in the others, where one of them cannot open it or has other files.
    """
    stop.others = True
    group = Group(place)
    options = _Options(device, seed, lenient, precision, sync_bn, scale_lr)
    try:
        trainer = _opened(solver_path, group, stop, options)
    except LostError as error:
        raise error if group.is_first_left() else ToldError(str(error)) from error
    except KeyboardInterrupt:
        group.say_failure("interrupted")
        raise
    code = 1
    try:
        yield trainer
        code = 128 + stop.signal if stop.signal else 0
    except KeyboardInterrupt:
        code = 130
        group.in_step = group.in_step and trainer.leads  # process 0 tells the others, who are waiting for it
        raise
    except (LostError, ToldError):
        raise
    except Exception as failure:
        group.say_failure(str(failure))
        raise
    finally:
        trainer.end(code)


class _Options(NamedTuple):
    """What `joined` is asked for."""

    device: str
    seed: int | None
    lenient: bool
    precision: str
    sync_bn: bool
    scale_lr: bool


def _opened(solver_path: str | Path, group: Group, stop: Stop, asked: _Options) -> ParallelTrainer:
    """This process's trainer, once all have one of the same solver; see `joined`."""
    place = group.place
    drawn = group.exchange(seeds.fresh())[0]
    trainer, error, facts = None, None, {}
    try:
        with devices.told():
            solver = solvers.read(solver_path, asked.seed, lenient=asked.lenient, draw=lambda: drawn)
            solver.base_lr *= place.world if asked.scale_lr else 1
            chosen = _device(asked.device, place, prefer_gpu=solver.solver_mode == 1)
            mixed = settle(asked.precision, chosen)
            nets = open_nets(solver, solver_path, chosen, lenient=asked.lenient, mixed=mixed, stride=place.world)
            trainer = ParallelTrainer(solver, solver_path, *nets, group=group, stop=stop, sync_bn=asked.sync_bn)
            _check_data(trainer)
            if trainer.leads:
                trainer.load_weights(solvers.weights(solver))
            alike = f"{asked.precision}, sync_bn {asked.sync_bn}, scale_lr {asked.scale_lr}"
            facts = {**_facts(trainer), "options": alike}
    except RootgenError as failure:
        error = failure
    _refuse_others(group, error, facts)
    assert trainer is not None
    trainer.device = f"{place}, each {trainer.device}"
    _tell(trainer, asked.scale_lr)
    return trainer


def _device(name: str, place: Place, *, prefer_gpu: bool) -> torch.device:
    """The device of this process: the CPU, or the GPU of its number on its machine."""
    kind, colon, _ = name.partition(":")
    if colon:
        raise RootgenError(f"device '{name}' for {place}", hint="--device gpu: each takes the GPU of its own number")
    if kind == "auto" and not (prefer_gpu and torch.cuda.is_available()):
        kind = "cpu"
    if kind == "cpu" or not torch.cuda.is_available():
        return devices.choose_device(kind)
    there = torch.cuda.device_count()
    if place.local_world > there:
        raise RootgenError(
            f"{place.local_world} processes on a machine with {there} GPUs", hint=f"torchrun --nproc-per-node {there}"
        )
    chosen = devices.choose_device(f"{'gpu' if kind == 'auto' else kind}:{place.local_rank}")
    torch.cuda.set_device(chosen)
    return chosen


def _check_data(trainer: ParallelTrainer) -> None:
    """RootgenError where data is not there, or too little for so many processes; warns of tests that leave some out."""
    for net in (trainer.train, *trainer.tests):
        net.refuse_unfed()
    for feed in trainer.train.feeds.values():
        if feed.batch_size * trainer.processes > feed.database.size:
            raise feed.layer.error(
                f"batch_size {feed.batch_size} x {trainer.processes} processes is more than the {feed.database.size} "
                "records there are",
                "fewer processes, or a smaller batch_size",
            )
    for net, count in zip(trainer.tests, trainer.solver.test_iter, strict=True):
        for feed in net.feeds.values():
            size, there = feed.batch_size, feed.database.size
            if size * count < there:
                log.warning(
                    "%s: a test is of %d records (test_iter %d x batch_size %d), of the %d there are; test_iter: %d "
                    "takes all",
                    *(trainer.where, size * count, count, size, there, -(-there // size)),
                )


def _facts(trainer: ParallelTrainer) -> dict[str, str]:
    """What has to be the same in every process, in words and hashes."""
    commit = machine.commit()
    facts = {
        "rootgen": f"{__version__}{f' ({commit})' if commit else ''}",
        "PyTorch": torch.__version__,
        "NumPy": np.__version__,
        "the solver": _hash(trainer.solver.SerializePartialToString(deterministic=True)),
    }
    for number, net in enumerate((trainer.train, *trainer.tests)):
        what = f"test net {number - 1}" if number else "train net"
        layers = (layer.param.SerializePartialToString(deterministic=True) for layer in net.net.layers)
        facts[f"the {what}"] = _hash(*layers)
        facts |= {f"the data of the {what}'s layer '{name}'": _of_data(feed) for name, feed in net.feeds.items()}
    return facts


def _of_data(feed: Feed) -> str:
    """A database and a mean: how many records, and a hash of some of them."""
    size = feed.database.size
    some = (next(feed.database.read(number))[1].SerializeToString() for number in (0, size // 2, size - 1))
    mean = feed.transform.mean
    return f"{size} records, {_hash(*some, b'' if mean is None else np.ascontiguousarray(mean).tobytes())}"


def _hash(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _refuse_others(group: Group, error: RootgenError | None, facts: dict[str, str]) -> None:
    """Raise where a process has failed, or has another version, solver, net or data than process 0."""
    told = group.exchange(["" if error is None else str(error), facts])
    failures = {group.who(rank): text for rank, (text, _) in enumerate(told) if text}
    for rank, (_, theirs) in enumerate(told if not failures else ()):
        for name, fact in told[0][1].items():
            if theirs.get(name, "none") != fact:
                failures.setdefault(
                    group.who(rank), f"{name} differs: {theirs.get(name, 'none')}, in {group.who(0)} {fact}"
                )
    if not failures:
        return
    if group.rank:
        raise ToldError("process 0 tells why")
    if error is not None:
        raise error
    where, text = next(iter(failures.items()))
    raise RootgenError(text, where=where)


def _tell(trainer: ParallelTrainer, scale_lr: bool) -> None:
    """Say what the processes make of the solver, as Caffe's GPUs would."""
    size, passes, count = trainer.train.batch_size, trainer.solver.iter_size, trainer.processes
    log.info(
        "an update is of %d images (batch_size %d x iter_size %d x %d processes), their gradients averaged; max_iter "
        "counts updates; the learning rate is %s",
        *(size * passes * count, size, passes, count),
        f"{count} times the solver's" if scale_lr else f"the solver's (--scale-lr: {count} times that)",
    )
    if any(unit.layer.type in ("BatchNorm", "BN") for unit in trainer.train.units):
        own = "each process's own, process 0's are tested and saved (--sync-bn: of all batches together)"
        log.info("BatchNorm's statistics are %s", "of all batches together" if trainer.sync_bn else own)
