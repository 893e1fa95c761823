"""Nets and solvers of an experiment: with the paper's schedule, or shortened to a few epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rootgen.generator import render
from rootgen.generator.architectures import Arch
from rootgen.grouping import Plan
from rootgen.proto import prototxt, schema

# Caffe's BatchNorm averages its statistics over about 1000 iterations, far more than a short run has.
SHORT_AVERAGE = "0.9"
SNAPSHOTS_EVERY = 50  # iterations; minutes on a CPU


@dataclass(frozen=True)
class Short:
    """A run of a few epochs: batch_size images an iteration, the rate falling in a line from base_lr to zero.

    The long schedules' tenfold drops leave a run this short far from where it could end.
    """

    epochs: float
    batch_size: int
    base_lr: float


def net_text(arch: Arch, plan: Plan, data: str, short: Short | None) -> str:
    """The train_val net of `arch` on the LMDBs in the folder `data`."""
    text = render.net(arch, plan, render.NetOptions(batch_size=short.batch_size if short else None, data=data))
    if short is None:
        return text
    average = f"  batch_norm_param {{ moving_average_fraction: {SHORT_AVERAGE} }}"
    return text.replace('  type: "BatchNorm"\n', f'  type: "BatchNorm"\n{average}\n')


def solver_text(
    arch: Arch, plan: Plan, options: render.SolverOptions, images: tuple[int, int], short: Short | None
) -> str:
    """The solver of `arch` for a data set of `images` (training, test)."""
    options = replace(options, train_images=images[0], test_images=images[1])
    if short is None:
        return render.solver(arch, plan, options)
    max_iter = max(1, round(short.epochs * images[0] / short.batch_size))
    options = replace(options, batch_size=short.batch_size, base_lr=short.base_lr, max_iter=max_iter)
    text = render.solver(arch, plan, options)
    param: Any = prototxt.parse(text, schema.SolverParameter)
    for field in ("gamma", "stepvalue"):
        param.ClearField(field)
    param.lr_policy, param.power = "poly", 1.0
    param.snapshot = min(SNAPSHOTS_EVERY, max_iter)
    param.test_interval = max_iter
    param.test_initialization = False
    banner = text.partition("\n")[0]
    return f"{banner}\n# Shortened to {short.epochs:g} epochs.\n{prototxt.format(param)}"
