"""Layers that move values about: Concat, Slice, Split, Flatten, Reshape, Tile, Crop, Reduction, ArgMax, Silence."""

from __future__ import annotations

import torch
from torch import Tensor

from rootgen.engine.torch.unit import Run, Unit, builds


@builds("Flatten", "Reshape")
def reshape(unit: Unit) -> Run:
    return unit.reshaped


@builds("Split")
def split(unit: Unit) -> Run:
    return lambda x: (x,) * len(unit.tops)


@builds("Silence")
def silence(_: Unit) -> Run:
    return lambda *_: ()


@builds("Concat")
def concat(unit: Unit) -> Run:
    param = unit.param.concat_param
    axis = unit.axis(param.concat_dim if param.HasField("concat_dim") else param.axis)
    return lambda *bottoms: torch.cat(bottoms, axis)


@builds("Slice")
def slices(unit: Unit) -> Run:
    param = unit.param.slice_param
    axis = unit.axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
    return lambda x: torch.split(x, [top[axis] for top in unit.tops], axis)


@builds("Tile")
def tile(unit: Unit) -> Run:
    param = unit.param.tile_param
    axis = unit.axis(param.axis)
    return lambda x: torch.cat([x] * param.tiles, axis)


@builds("Crop")
def crop(unit: Unit) -> Run:
    param = unit.param.crop_param
    first = unit.axis(param.axis)
    offsets = list(param.offset) or [0]
    offsets *= len(unit.bottoms[0]) - first if len(offsets) == 1 else 1

    def run(x: Tensor, like: Tensor) -> Tensor:
        for axis, offset in enumerate(offsets, first):
            x = x.narrow(axis, offset, like.shape[axis])
        return x

    return run


@builds("Reduction")
def reduction(unit: Unit) -> Run:
    param = unit.param.reduction_param
    axis = unit.axis(param.axis)
    total, absolute, squares, mean = 1, 2, 3, 4

    def run(x: Tensor) -> Tensor:
        flat = x.flatten(axis)
        values = {total: flat, absolute: flat.abs(), squares: flat * flat, mean: flat}[param.operation]
        out = values.mean(axis) if param.operation == mean else values.sum(axis)
        return out * param.coeff

    return run


@builds("ArgMax")
def arg_max(unit: Unit) -> Run:
    param = unit.param.argmax_param

    def run(x: Tensor) -> Tensor:
        if param.HasField("axis"):
            values, places = x.topk(param.top_k, unit.axis(param.axis))
            return values if param.out_max_val else places.to(x.dtype)
        values, places = x.flatten(1).topk(param.top_k, 1)
        parts = [places.to(x.dtype), values] if param.out_max_val else [places.to(x.dtype)]
        return unit.reshaped(torch.stack(parts, 1))

    return run
