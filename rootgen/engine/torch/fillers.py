"""Initial values of learnable blobs by Caffe's fillers (include/caffe/filler.hpp)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from rootgen.engine.checks import check_filler
from rootgen.errors import RootgenError
from rootgen.net.graph import Shape


def fill(shape: Shape, filler: Any, generator: torch.Generator, where: object) -> torch.Tensor:
    """A float32 tensor of `shape`, filled as the FillerParameter `filler` says."""
    check_filler(filler, where)
    try:
        return _FILLERS[filler.type](shape, filler, generator)
    except ValueError as error:
        raise RootgenError(f"filler '{filler.type}': {error}", where=where) from None


def fan(shape: Shape, filler: Any) -> float:
    """The number of weights per unit that variance_norm asks for.

    FAN_IN counts what one output sees, so a group's share of the inputs. FAN_OUT is Caffe's too: all outputs,
    whatever `group` is, which makes the standard deviation of a grouped convolution too small by sqrt(group).
    """
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[filler.variance_norm]


def _constant(shape: Shape, filler: Any, _: torch.Generator) -> torch.Tensor:
    return torch.full(shape, filler.value)


def _uniform(shape: Shape, filler: Any, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(shape).uniform_(filler.min, filler.max, generator=generator)


def _gaussian(shape: Shape, filler: Any, generator: torch.Generator) -> torch.Tensor:
    values = torch.empty(shape).normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        kept = min(filler.sparse / shape[0], 1.0)  # on average `sparse` weights per input are not zero
        values *= torch.empty(shape).bernoulli_(kept, generator=generator)
    return values


def _xavier(shape: Shape, filler: Any, generator: torch.Generator) -> torch.Tensor:
    bound = math.sqrt(3 / fan(shape, filler))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _msra(shape: Shape, filler: Any, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(shape).normal_(0, math.sqrt(2 / fan(shape, filler)), generator=generator)


def _positive_unitball(shape: Shape, _: Any, generator: torch.Generator) -> torch.Tensor:
    values = torch.empty(shape).uniform_(0, 1, generator=generator)
    rows = values.view(shape[0], -1)
    rows /= rows.sum(1, keepdim=True)
    return values


def _bilinear(shape: Shape, _filler: Any, _generator: torch.Generator) -> torch.Tensor:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"the blob must have 4 axes and a square filter, found {shape}")
    factor = math.ceil(shape[3] / 2)
    centre = (shape[3] - 1) / (2 * factor)
    line = 1 - (torch.arange(shape[3], dtype=torch.float32) / factor - centre).abs()
    return torch.outer(line, line).expand(shape).clone()


_FILLERS: dict[str, Callable[[Shape, Any, torch.Generator], torch.Tensor]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "xavier": _xavier,
    "msra": _msra,
    "positive_unitball": _positive_unitball,
    "bilinear": _bilinear,
}
