"""Processes that train together, as torch.distributed joins them: what they say to each other, and who is gone.

Gradients go through NCCL between GPUs and through gloo between CPUs; all else is small, lies in the CPUs' memory and
goes through gloo, or at the start through the store that torchrun keeps, where it is there whoever dies.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rootgen.engine.processes import LostError, Place
from rootgen.errors import RootgenError

JOINED_IN = timedelta(minutes=2)  # processes start seconds apart: torchrun has all machines ready before
ANSWERED_IN = timedelta(minutes=10)  # process 0 may write a snapshot, or test, while the others wait
_GOES_ON = "torchrun --max-restarts N goes on by itself, with --snapshot auto"
_SEEN_IN = 2.0  # seconds to find out who is gone, once one is


class Group:
    """The processes of a training, all of them in step: a method that one calls, all call."""

    def __init__(self, place: Place) -> None:
        """Join the others; RootgenError where they are not to be had."""
        if not dist.is_available():
            raise RootgenError("this PyTorch has no torch.distributed", hint="train in one process")
        self.place, self.rank, self.size = place, place.rank, place.world
        self.in_step = True  # False once a process has left in the midst of something done together
        self._rounds = 0
        self._store = _joined(place)
        self.hosts = ["a machine not yet known"] * self.size
        self._pids: list[int] = []
        self.hosts, self._pids = map(list, zip(*self.exchange([socket.gethostname(), os.getpid()]), strict=True))

    def exchange(self, thing: Any) -> list[Any]:
        """What each process gives, in the order of their ranks; of what JSON can say. For the start: slow.

        Unlike all else that is done together, a signal may interrupt it.
        """
        self._rounds += 1
        with self.together():
            keys = [f"round/{self._rounds}/{rank}" for rank in range(self.size)]
            self._store.set(keys[self.rank], json.dumps(thing))
            self._await(keys)
            found = [json.loads(self._store.get(key)) for key in keys]
            self._store.set(f"{keys[self.rank]}/read", "")
            if self.rank == 0:  # the store may be gone with this process
                self._await([f"{key}/read" for key in keys])
            return found

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The numbers of each process, as many of each."""
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with self.together():
            dist.all_gather(found, own)
        return [numbers.tolist() for numbers in found]

    def say(self, *words: int) -> None:
        """Process 0 tells the others a few whole numbers, which they `hear`."""
        with self.together():
            dist.broadcast(torch.tensor(words), 0)

    def hear(self, count: int) -> list[int]:
        """The `count` numbers that process 0 says."""
        heard = torch.zeros(count, dtype=torch.int64)
        with self.together():
            dist.broadcast(heard, 0)
        return [int(word) for word in heard]

    def spread(self, blobs: Sequence[Tensor]) -> None:
        """Give `blobs` the values that they have in process 0."""
        with self.together(), torch.no_grad():
            for blob in blobs:
                values = blob.detach().clone(memory_format=torch.contiguous_format)
                dist.broadcast(values, 0)
                blob.copy_(values)

    @contextmanager
    def together(self) -> Iterator[None]:
        """LostError where something done together fails as another process is gone."""
        self.in_step = False
        try:
            yield
        except RuntimeError as error:  # of which all errors of torch.distributed are
            if not (isinstance(error, dist.DistError) or _TRANSPORT.search(str(error))):
                raise
            raise self._lost(error) from error
        self.in_step = True

    def average(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes, which gradients pass through."""
        with self.together():
            return _Mean.apply(values, self.size)

    def say_failure(self, text: str) -> None:
        """Leave word, for whoever finds this process failed or gone, why."""
        with suppress(RuntimeError):
            self._store.set(f"failure/{self.rank}", text)

    def failure(self, rank: int) -> str:
        """The word that process `rank` left; "" without any."""
        with suppress(RuntimeError):
            if self._store.check([f"failure/{rank}"]):
                return bytes(self._store.get(f"failure/{rank}")).decode()
        return ""

    def who(self, rank: int) -> str:
        """A process in words."""
        return f"process {rank} on {self.hosts[rank]}"

    def is_first_left(self) -> bool:
        """Whether, now that some are gone, this process is the one to tell of it and to save what was learned.

        The first that is left is; none where process 0 has left word itself.
        """
        return not (self.rank and self.failure(0)) and not any(self._lives(rank) for rank in range(self.rank))

    def leave(self) -> None:
        """Take leave of the others."""
        if self.in_step:
            dist.destroy_process_group()

    def _await(self, keys: Sequence[str]) -> None:
        """Wait until the store has a key of each process; RuntimeError where one will not set its own any more."""
        end = time.monotonic() + JOINED_IN.total_seconds()
        for rank, key in enumerate(keys):
            left = False
            while not self._store.check([key]):
                if left or time.monotonic() > end:
                    raise RuntimeError(f"timed out: {self.who(rank)} was not heard of")
                left = bool(self.failure(rank)) or (self._is_here(rank) and self._has_ended(rank))  # its last word?
                time.sleep(0.02)

    def _lost(self, error: Exception) -> LostError:
        """The error that says who is gone and why, as far as can be known, once the others had time to show up."""
        with suppress(RuntimeError):
            self._store.set(f"lives/{self.rank}", "")
        others = [rank for rank in range(self.size) if rank != self.rank]
        end = time.monotonic() + _SEEN_IN
        while time.monotonic() < end and not any(
            self.failure(rank) or (self._is_here(rank) and not self._lives(rank)) for rank in others
        ):
            time.sleep(0.02)
        for rank in others:
            if word := self.failure(rank):
                return LostError(word, where=self.who(rank), hint=_GOES_ON)
        gone = [self.who(rank) for rank in others if not self._lives(rank)]
        if gone:
            what = f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone, or no longer to be reached"
            return LostError(what, hint=_GOES_ON)
        return LostError(f"the processes have lost each other: {str(error).splitlines()[0][:200]}", hint=_GOES_ON)

    def _lives(self, rank: int) -> bool:
        """Whether a process has found one lost too, or, on this machine, is still at work."""
        with suppress(RuntimeError):
            if self._store.check([f"lives/{rank}"]):
                return True
        return self._is_here(rank) and not self._has_ended(rank)

    def _is_here(self, rank: int) -> bool:
        """Whether a process is one of this machine's, which can be looked up."""
        return bool(self._pids) and self.hosts[rank] == self.hosts[self.rank]

    def _has_ended(self, rank: int) -> bool:
        try:
            status = Path(f"/proc/{self._pids[rank]}/stat").read_text("ascii", "replace")
        except OSError:
            return True
        return status.rpartition(")")[2].split()[0] in "ZX"  # killed, and not yet taken note of


class _Mean(torch.autograd.Function):
    """A mean over all processes; the gradient is that of the sum of what all make of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _Mean._over_all(values, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Mean._over_all(gradient, ctx.size), None

    @staticmethod
    def _over_all(values: Tensor, size: int) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.div_(size)


_TRANSPORT = re.compile(r"\bgloo\b|nccl|connection (closed|reset|refused)|timed out|socket", re.IGNORECASE)


def _joined(place: Place) -> Any:
    """The store of the default process group, once all processes are in it."""
    try:
        found = dist.rendezvous("env://", place.rank, place.world, timeout=JOINED_IN)
        store, rank, world = next(iter(found))
        store = dist.PrefixStore(_meeting(store, rank, world), store)
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=ANSWERED_IN)
    except (RuntimeError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        text = " ".join(str(error).split())
        if "EADDRINUSE" in text or "address already in use" in text.lower():
            raise RootgenError("this port is in use", where=address, hint="set another MASTER_PORT") from error
        raise RootgenError(f"{place} do not find each other: {text[:200]}", where=address) from error
    return store


def _meeting(store: Any, rank: int, world: int) -> str:
    """A name that those who meet now share, and nobody before them.

    torchrun keeps one store over all restarts, and what is left in it from processes that have died must not be taken
    for news. So process 0 draws a name, and says under it whom it has met.
    """
    own = secrets.token_hex(8)
    if rank == 0:
        store.set("rootgen/first", own)
        met = [bytes(store.get(f"rootgen/{own}/{other}")).decode() for other in range(1, world)]
        store.set(f"rootgen/{own}/met", json.dumps(met))
        return f"rootgen/{own}"
    end = time.monotonic() + JOINED_IN.total_seconds()
    while time.monotonic() < end:
        first = bytes(store.get("rootgen/first")).decode()
        store.set(f"rootgen/{first}/{rank}", own)
        if store.check([f"rootgen/{first}/met"]) and own in json.loads(store.get(f"rootgen/{first}/met")):
            return f"rootgen/{first}"
        time.sleep(0.02)
    raise RuntimeError(f"process 0 was not met in {JOINED_IN.total_seconds():.0f} s")
