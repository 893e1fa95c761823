"""Data that needs nothing from outside: DummyData. What is fed runs no layer (see TorchNetwork)."""

from __future__ import annotations

import torch
from torch import Tensor

from rootgen.engine import seeds
from rootgen.engine.torch.fillers import fill
from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.proto import schema


@builds("DummyData")
def dummy_data(unit: Unit) -> Run:
    fillers = list(unit.param.dummy_data_param.data_filler) or [schema.FillerParameter()]  # by default zeros
    per_top = fillers * len(unit.tops) if len(fillers) == 1 else fillers

    def run() -> tuple[Tensor, ...]:
        seed = seeds.derive(unit.generator.initial_seed(), "dummy", unit.layer.name)  # each layer's own, pass by pass
        generator = torch.Generator().manual_seed(seed)
        places = zip(unit.tops, per_top, strict=True)
        tops = (fill(shape, filler, generator, unit.layer.where) for shape, filler in places)
        return tuple(top.to(unit.generator.device) for top in tops)

    return run
