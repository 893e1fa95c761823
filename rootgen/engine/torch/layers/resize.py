"""Upsample and Interp, of other Caffes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds


@builds("Upsample")
def upsample(unit: Unit) -> Run:
    """Nearest pixels; or each value where the mask of a pooling has it from, zeros elsewhere."""
    size = unit.tops[0][2:]

    def with_mask(x: Tensor, mask: Tensor) -> Tensor:
        places = mask.long().flatten(2)
        if bool(((places < 0) | (places >= size[0] * size[1])).any()):
            raise unit.error(f"its mask names pixels beyond {size[0]}x{size[1]}", "give it the size that was pooled")
        flat = torch.zeros((*x.shape[:2], size[0] * size[1]), dtype=x.dtype, device=x.device)
        return flat.scatter(2, places, x.flatten(2)).reshape(*x.shape[:2], *size)

    if len(unit.bottoms) > 1:
        return with_mask
    times = [-(-top // bottom) for top, bottom in zip(size, unit.bottoms[0][2:], strict=True)]
    return lambda x: x.repeat_interleave(times[0], 2).repeat_interleave(times[1], 3)[..., : size[0], : size[1]]


@builds("Interp", output_is_free=True)
def interp(unit: Unit) -> Run:
    """Corners on corners, bilinear between; what pad_beg and pad_end cut off is not looked at."""
    param, size = unit.param.interp_param, unit.tops[0][2:]
    begin, end = -param.pad_beg, -param.pad_end

    def run(x: Tensor) -> Tensor:
        inner = x[..., begin : x.shape[2] - end, begin : x.shape[3] - end]
        return F.interpolate(inner, size, mode="bilinear", align_corners=True)

    return run
