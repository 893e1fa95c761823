"""NVIDIA's MPS, by which kernels of several processes run side by side on a GPU, as long as it is wanted."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rootgen import scratch

CONTROL = "nvidia-cuda-mps-control"
PROBE = "import torch; torch.zeros(1, device='cuda').sum().item()"
PROBE_S = 20
QUIT_S = 10

log = logging.getLogger("on_gpu")


@contextmanager
def daemon() -> Iterator[dict[str, str]]:
    """Variables for processes that use MPS; none, and no daemon, where there is no MPS or it does not work."""
    if shutil.which(CONTROL) is None:
        log.warning("no %s: going on without", CONTROL)
        yield {}
        return
    with scratch.folder("mps-") as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
        for place in variables.values():
            Path(place).mkdir()
        try:
            works = _works(os.environ | variables)
            log.info("with MPS" if works else "MPS does not work: going on without")
            if not works:
                _quit(os.environ | variables)
            yield variables if works else {}
        finally:
            _quit(os.environ | variables)


def _works(environment: dict[str, str]) -> bool:
    """Start the daemon, and try it."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    try:
        for command in ([CONTROL, "-d"], [sys.executable, "-c", PROBE]):
            subprocess.run(command, env=environment, timeout=PROBE_S, check=True, **streams)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s", error)
        return False
    return True


def _quit(environment: dict[str, str]) -> None:
    """End the daemon, if there is one."""
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [CONTROL],
            input=b"quit -t 1\n",
            env=environment,
            timeout=QUIT_S,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
