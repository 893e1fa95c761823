"""Devices: which one a name means, and what it says of itself."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from rootgen.engine.machine import processor
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's <malloc.h>


def choose_device(name: str, *, prefer_gpu: bool = True) -> torch.device:
    """The device that "auto", "cpu", "gpu" or "gpu:1" (or "cuda...") means.

    "auto" is the first CUDA device where there is one and `prefer_gpu`, else the CPU.
    """
    if name == "auto":
        name = "gpu" if prefer_gpu and torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if name == "cpu":
        _keep_memory()
        return torch.device("cpu")
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not _):
        raise RootgenError(f"no device '{name}'", hint="cpu, gpu, gpu:1 or auto")
    if not torch.cuda.is_available():
        raise RootgenError(f"no CUDA device for '{name}' (torch {torch.__version__})", hint="use --device cpu")
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise RootgenError(f"no device '{name}': there are {torch.cuda.device_count()}", hint="they count from 0")
    return torch.device("cuda", index)


@cache
def _keep_memory() -> None:
    """Have glibc keep the memory of freed blobs for the next pass; where the C library is another, do nothing.

    By default it maps every blob above 32 MiB anew in each pass, and the kernel's clearing of their pages took two
    fifths of a training step (NiN root-8, batch 64: benchmarks/engine.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1)):
            mallopt(option, value)


def describe(device: torch.device, mixed: bool = False) -> str:
    """A device in words: its kind, its name, the threads and the precision of its arithmetic, `mixed` or not."""
    if device.type == "cuda":
        precision = "BF16" if mixed else "TF32" if torch.backends.cudnn.allow_tf32 else "FP32"
        return f"gpu ({torch.cuda.get_device_name(device)}, {precision} convolutions)"
    return f"cpu ({processor()}, {torch.get_num_threads()} threads{', BF16 convolutions' if mixed else ''})"


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def told() -> Iterator[None]:
    """Turn want of memory into one clear line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and "out of memory" not in text and "allocate memory" not in text:
            raise
        raise RootgenError(
            f"out of memory: {text.splitlines()[0] if text else ''}",
            hint="lower batch_size, and raise iter_size by as much in the solver",
        ) from error
