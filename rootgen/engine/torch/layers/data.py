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
        drawn = unit.generator.initial_seed() if unit.generator else int(torch.randint(2**62, ()))
        generator = torch.Generator().manual_seed(seeds.derive(drawn, "dummy", unit.layer.name))  # each layer's own
        places = zip(unit.tops, per_top, strict=True)
        return tuple(fill(shape, filler, generator, unit.layer.where) for shape, filler in places)

    return run
