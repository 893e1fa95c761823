"""Several processes that train one solver together: which of them this one is, and what is said when that fails."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rootgen.errors import RootgenError


@dataclass(frozen=True)
class Place:
    """Where a process stands: its rank among `world` processes, and among the `local_world` of its machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    def __str__(self) -> str:
        machines = -(-self.world // self.local_world)
        return f"{self.world} processes" + (f" on {machines} machines" if machines > 1 else "")


class LostError(RootgenError):
    """Another process is gone, or does not answer: nothing can be done together any more."""


class ToldError(RootgenError):
    """This process ends for a reason that process 0 tells."""


def place() -> Place | None:
    """The place that torchrun has given this process in its environment; None where it is by itself."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    rank, world = _number("RANK"), _number("WORLD_SIZE")
    local_rank, local_world = _number("LOCAL_RANK", rank), _number("LOCAL_WORLD_SIZE", world)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise RootgenError(f"WORLD_SIZE is {world}, but there is no {name}", hint="start it with torchrun")
    if not (rank < world and local_rank < local_world):
        raise RootgenError(f"RANK is {rank} of WORLD_SIZE {world}", hint="start it with torchrun")
    return Place(rank, world, local_rank, local_world)


def are_started() -> bool:
    """Whether torchrun, or what does as it does, has started this process, by itself or with others."""
    return "WORLD_SIZE" in os.environ


def _number(name: str, default: int | None = None) -> int:
    word = os.environ.get(name, "" if default is None else str(default))
    if not (word.isascii() and word.isdigit() and len(word) < 8):
        raise RootgenError(f"{name} is '{word}', not a whole number", hint="start it with torchrun")
    return int(word)
