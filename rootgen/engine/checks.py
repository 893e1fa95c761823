"""What Caffe asks of fillers and multipliers, for both engines: Caffe itself ends the process.

Multipliers of blobs that layers share by name are compared in shapes.infer, which sees all of the net.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer
from rootgen.net.layers.registry import of
from rootgen.proto import schema

FILLERS = ("constant", "uniform", "gaussian", "xavier", "msra", "positive_unitball", "bilinear")


def check_filler(filler: Any, where: object) -> None:
    """RootgenError at `where` for a FillerParameter that no blob can be filled by (include/caffe/filler.hpp)."""
    if filler.type not in FILLERS:
        raise RootgenError(f"unknown filler '{filler.type}'", where=where, hint=did_you_mean(filler.type, FILLERS))
    if filler.sparse != -1 and filler.type != "gaussian":
        raise RootgenError(f"filler '{filler.type}' has no sparse (only gaussian has)", where=where)
    if filler.type == "uniform" and filler.min > filler.max:
        raise RootgenError(f"filler 'uniform': min {filler.min:g} is above max {filler.max:g}", where=where)
    if filler.type == "gaussian" and not filler.std > 0:
        raise RootgenError(f"filler 'gaussian': std is {filler.std:g}, but has to be above 0", where=where)


def fillers_in(message: Any) -> Iterator[Any]:
    """Every FillerParameter that is set in a layer's parameters."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if hasattr(value, "add") else (value,):
            if field.message_type.full_name == schema.FillerParameter.DESCRIPTOR.full_name:
                yield inner
            else:
                yield from fillers_in(inner)


def check_multipliers(layer: Layer) -> None:
    """RootgenError where the statistics of a BatchNorm layer, which are no weights, would be learnt."""
    for i, spec in enumerate(layer.param.param):
        if spec.lr_mult and of(layer).is_statistic(layer, i):
            raise layer.error(f"has lr_mult {spec.lr_mult:g} (Caffe needs 0 on {layer.type}'s statistics)")
