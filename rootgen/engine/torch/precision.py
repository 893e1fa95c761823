"""The precision of a training's arithmetic: float32, TF32 in a GPU's matrix units, or bfloat16 where it is safe.

Weights, histories, updates, statistics and losses are float32 in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit
from rootgen.errors import RootgenError
from rootgen.net.layers.registry import of

_IN_FLOAT32 = ("normalization", "loss")  # chapters; Softmax and the like are float32 by autocast's own lists


def settle(name: str, device: torch.device) -> bool:
    """Have `device` compute in the precision "fp32", "tf32" or "bf16"; whether nets have to run `mixed` for it.

    The choice between float32 and TF32 is PyTorch's own, one for the whole process.
    """
    if device.type != "cuda":
        if name == "tf32":
            raise RootgenError("TF32 is an arithmetic of GPUs, and this is the CPU", hint="fp32, or bf16")
        return name == "bf16"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name == "bf16" and not torch.cuda.is_bf16_supported():
        raise RootgenError(f"no bfloat16 on {torch.cuda.get_device_name(device)}", hint="fp32")
    return name == "bf16"


@contextmanager
def no_tf32() -> Iterator[None]:
    """Have GPUs compute in float32, whatever was chosen for the process, and afterwards as before."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def mixed(device: torch.device) -> torch.autocast:
    """Where sums of products are bfloat16's, as PyTorch's autocast has it."""
    return torch.autocast(device.type, torch.bfloat16)


def keep_float32(units: Iterable[Unit]) -> None:
    """Have normalization and losses take and give float32, whatever their bottoms come in."""
    for unit in units:
        if of(unit.layer).chapter in _IN_FLOAT32:
            unit.run = _in_float32(unit.run)


def _in_float32(run: Run) -> Run:
    def wide(*bottoms: Tensor) -> Any:
        with torch.autocast(bottoms[0].device.type, enabled=False):
            return run(*(bottom.float() for bottom in bottoms))

    return wide
