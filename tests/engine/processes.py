"""Several `rootgen train` processes on this machine, started as torchrun starts them, but from one that has PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parents[2]
_STARTS = multiprocessing.get_context("forkserver")
_STARTS.set_forkserver_preload(["rootgen.engine.torch.join", "rootgen.cli.commands.train"])


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal that killed it), what it wrote."""

    code: int
    out: str
    err: str


class Processes:
    """`count` processes that run `rootgen` with `words`, in the current folder or each in its own of `folders`.

    `own` is the rank that the caller is to take itself, with the environment `env` gives.
    """

    def __init__(self, count: int, *words: str, folders: Sequence[Path] = (), own: int | None = None) -> None:
        self.port = free_port()
        self._store = TCPStore(
            "127.0.0.1", self.port, is_master=True, wait_for_workers=False
        )  # as torchrun's agent has
        folder = Path.cwd() / "said"
        folder.mkdir(exist_ok=True)
        ranks = [rank for rank in range(count) if rank != own]
        self._files = [folder / f"{self.port}-{rank}" for rank in ranks]
        self.all: list[Any] = []
        here = [Path.cwd() / path for path in folders] or [Path.cwd()] * count
        for rank, file in zip(ranks, self._files, strict=True):
            process = _STARTS.Process(target=_run, args=(here[rank], words, self.env(rank, count), file))
            process.start()
            self.all.append(process)

    def env(self, rank: int, count: int) -> dict[str, str]:
        """What torchrun would tell a process."""
        told = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
        told |= {"MASTER_PORT": str(self.port), "OMP_NUM_THREADS": "1"}
        return told | {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}

    def said(self, rank: int) -> str:
        """What a process has written to stderr so far."""
        file = self._files[rank].with_suffix(".err")
        return file.read_text() if file.exists() else ""

    def end(self, timeout: float = 120) -> list[Ended]:
        """How each has ended; what is left after `timeout` seconds is killed."""
        for process in self.all:
            process.join(timeout)
        late = [process for process in self.all if process.is_alive()]
        for process in late:
            process.kill()
            process.join()
        found = [
            Ended(process.exitcode, *(file.with_suffix(kind).read_text() for kind in (".out", ".err")))
            for process, file in zip(self.all, self._files, strict=True)
        ]
        assert not late, found
        return found


def trained(count: int, *words: str) -> Ended:
    """`count` processes that train, without any of them failing: what process 0 said, who alone says anything."""
    first, *others = Processes(count, "train", *words, "--engine", "torch").end()
    assert first.code == 0, first.err
    for other in others:
        assert (other.code, other.out, other.err) == (0, "", "")
    return first


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _run(folder: Path, words: tuple[str, ...], env: dict[str, str], file: Path) -> None:
    os.chdir(folder)
    os.environ.update(env)
    for number, kind in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(file.with_suffix(kind), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666), number)
    sys.path.insert(0, str(ROOT))
    import torch

    from rootgen import cli

    torch.set_num_threads(1)
    code = cli.main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without the tests' own endings
