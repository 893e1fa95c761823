"""Layers that find objects, of other Caffes: pooling of regions, prior boxes, and SSD's normalization."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, floor, sqrt
from typing import Any

import torch
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.net.layers.detection import aspect_ratios


def _half_up(values: Tensor) -> Tensor:
    """Rounded as C's round does: halves away from zero."""
    return torch.sign(values) * torch.floor(values.abs() + 0.5)


def _image(unit: Unit, region: Tensor, images: int) -> int:
    number = int(region[0])
    if not 0 <= number < images:
        raise unit.error(f"a region is of image {number}, but the batch has {images}")
    return number


@builds("ROIPooling")
def roi_pooling(unit: Unit) -> Run:
    """Maxima of pooled_h x pooled_w bins that cover each region, whose corners are rounded to pixels; 0 of none."""
    param = unit.param.roi_pooling_param
    grid = param.pooled_h, param.pooled_w

    def run(x: Tensor, regions: Tensor) -> Tensor:
        tops = []
        for region in regions.reshape(len(regions), 5):
            left, upper, right, lower = _half_up(region[1:] * param.spatial_scale).int().tolist()
            rows = list(_bins(upper, max(lower - upper + 1, 1) / grid[0], grid[0], x.shape[2]))
            columns = list(_bins(left, max(right - left + 1, 1) / grid[1], grid[1], x.shape[3]))
            image = x[_image(unit, region, len(x))]
            across = torch.stack([_largest(image[:, first:last], 1) for first, last in rows], 1)
            tops.append(torch.stack([_largest(across[:, :, first:last], 2) for first, last in columns], 2))
        return torch.stack(tops)

    return run


def _bins(start: float, width: float, count: int, length: int) -> Iterator[tuple[int, int]]:
    """(first pixel, one past the last) of `count` bins of `width` pixels from `start` on, as far as in the map."""
    for i in range(count):
        first, last = floor(i * width + start), ceil((i + 1) * width + start)
        yield min(max(first, 0), length), min(max(last, 0), length)


def _largest(x: Tensor, axis: int) -> Tensor:
    """Maxima along an axis; zeros where it has no pixel."""
    if not x.shape[axis]:
        return x.sum(axis)
    return x.max(axis).values


@builds("PSROIPooling")
def psroi_pooling(unit: Unit) -> Run:
    """Averages of group_size x group_size bins of each region; the bin at (i, j) looks at its own channels alone."""
    param = unit.param.psroi_pooling_param
    outputs, grid, scale = param.output_dim, param.group_size, param.spatial_scale

    def run(x: Tensor, regions: Tensor) -> Tensor:
        maps = x.reshape(len(x), outputs, grid, grid, *x.shape[2:])
        tops = []
        for region in regions.reshape(len(regions), 5):
            corners = _half_up(region[1:]).tolist()
            left, upper, right, lower = (scale * (one + (i > 1)) for i, one in enumerate(corners))
            rows = list(_bins(upper, max(lower - upper, 0.1) / grid, grid, x.shape[2]))
            columns = list(_bins(left, max(right - left, 0.1) / grid, grid, x.shape[3]))
            image, cells = maps[_image(unit, region, len(x))], []
            for (i, (r0, r1)), (j, (c0, c1)) in product(enumerate(rows), enumerate(columns)):
                window = image[:, i, j, r0:r1, c0:c1]
                cells.append(window.mean((1, 2)) if window.numel() else window.sum((1, 2)))
            tops.append(torch.stack(cells, 1).reshape(outputs, grid, grid))
        return torch.stack(tops)

    return run


@builds("PriorBox")
def prior_box(unit: Unit) -> Run:
    """The boxes of each pixel, row by row (Liu et al., SSD: Single Shot MultiBox Detector, section 2.2).

    Per min_size: a square of it, with max_size one of sqrt(min_size max_size), and boxes of the area of the first in
    each other aspect ratio. The sizes are not cut to whole pixels, as SSD's own code cuts them.
    """
    boxes = _boxes(unit, unit.param.prior_box_param)
    return lambda x, _: boxes.to(x)


def _boxes(unit: Unit, param: Any) -> Tensor:
    """1 x 2 x 4 n: the corners of all boxes in fractions of the image, and their variances."""
    sizes, (rows, columns) = list(_sizes(unit, param)), unit.bottoms[0][2:]
    height = param.img_h or param.img_size or unit.bottoms[1][2]
    width = param.img_w or param.img_size or unit.bottoms[1][3]
    down = param.step_h or param.step or height / rows
    across = param.step_w or param.step or width / columns
    y = (torch.arange(rows, dtype=torch.float64) + param.offset).reshape(-1, 1, 1) * down
    x = (torch.arange(columns, dtype=torch.float64) + param.offset).reshape(1, -1, 1) * across
    half_width, half_height = (torch.tensor([size[i] / 2 for size in sizes], dtype=torch.float64) for i in (0, 1))
    corners = [
        (x - half_width) / width,
        (y - half_height) / height,
        (x + half_width) / width,
        (y + half_height) / height,
    ]
    boxes = torch.stack([corner.expand(rows, columns, len(sizes)) for corner in corners], -1).flatten()
    variances = list(param.variance) or [0.1]
    variances *= 4 if len(variances) == 1 else 1
    spread = torch.tensor(variances, dtype=torch.float64).repeat(rows * columns * len(sizes))
    return torch.stack([boxes.clamp(0, 1) if param.clip else boxes, spread]).unsqueeze(0)


def _sizes(unit: Unit, param: Any) -> Iterator[tuple[float, float]]:
    """(width, height) of each box of a pixel, in pixels of the image."""
    for i, least in enumerate(param.min_size):
        yield least, least
        if param.max_size:
            side = sqrt(least * param.max_size[i])
            yield side, side
        for ratio in aspect_ratios(unit.layer)[1:]:
            yield least * sqrt(ratio), least / sqrt(ratio)


def _normalize_filler(param: Any) -> list[Any]:
    filler = type(param.norm_param.scale_filler)()
    filler.CopyFrom(param.norm_param.scale_filler)
    if not param.norm_param.HasField("scale_filler"):
        filler.type, filler.value = "constant", 1
    return [filler]


@builds("Normalize", fillers=_normalize_filler)
def normalize(unit: Unit) -> Run:
    """Each pixel's channels, or with across_spatial each image, divided by the root of their squares' sum and eps."""
    param = unit.param.norm_param

    def run(x: Tensor) -> Tensor:
        axes = tuple(range(1, x.dim())) if param.across_spatial else (1,)
        length = (x.square().sum(axes, keepdim=True) + param.eps).sqrt()
        return x / length * unit.blobs[0].reshape(-1, *(1,) * (x.dim() - 2))

    return run
