"""What both engines refuse alike, where Caffe itself ends the process, or reads memory that is not the blob's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer
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


def check_param(layer: Layer) -> None:
    """RootgenError where a field of a layer has a value that it cannot run with."""
    param = layer.param
    if layer.type == "Dropout" and not 0 <= param.dropout_param.dropout_ratio < 1:
        raise layer.error(
            f"dropout_ratio is {param.dropout_param.dropout_ratio:g}, but has to be 0 or more and below 1"
        )
    if layer.type in ("Exp", "Log"):
        base = param.exp_param.base if layer.type == "Exp" else param.log_param.base
        if base != -1 and (base <= 0 or (base == 1 and layer.type == "Log")):  # -1 stands for e
            raise layer.error(f"base {base:g} (must be positive, and not 1 in a Log layer)")
    if layer.type == "DummyData" and len(param.dummy_data_param.data_filler) not in (0, 1, len(layer.tops)):
        count = len(param.dummy_data_param.data_filler)
        raise layer.error(f"has {count} data_filler for {len(layer.tops)} top (give one, or one per top)")


def check_filled(layer: Layer) -> None:
    """RootgenError where a filler, or a loss, does not fit the shapes that were inferred."""
    weights = layer.shapes.params[0] if layer.shapes.params else ()
    for filler in fillers_in(layer.param):
        square = len(weights) == 4 and weights[2] == weights[3]
        if filler.type == "bilinear" and layer.shapes.known and weights and not square:
            raise layer.error(f"filler 'bilinear': the blob must have 4 axes and a square filter, found {weights}")
    if layer.type == "HingeLoss" and len(layer.shapes.bottoms) == 2:
        scores, labels = layer.shapes.bottoms
        if math.prod(labels) != scores[0]:
            raise layer.error(f"takes one label per image, not {math.prod(labels)} for {scores[0]}")


@dataclass(frozen=True)
class Labels:
    """The blob of whole numbers by which a layer picks from its scores, or from its weights: 0 to below `classes`."""

    layer: Layer
    blob: str
    classes: int
    ignored: int | None = None

    def check(self, values: np.ndarray) -> None:
        """RootgenError at the first of `values` that picks from beyond the end."""
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64).reshape(-1)  # as C++ rounds them; NaN becomes the least of all
        wrong = (whole < 0) | (whole >= self.classes)
        if self.ignored is not None:
            wrong &= whole != self.ignored
        if wrong.any():
            place = int(wrong.argmax())
            raise self.error(int(whole[place]), place)

    def error(self, found: int, place: int) -> RootgenError:
        """What is said of the label `found` at `place` of a batch."""
        if self.layer.type == "Embed":
            return self.layer.error(
                f"index {found} at place {place} of the batch: outside 0 to {self.classes - 1} (input_dim)"
            )
        return self.layer.error(
            f"label {found} at place {place} of the batch, but bottom '{self.layer.bottoms[0]}' scores "
            f"{self.classes} classes (labels go from 0 to {self.classes - 1})",
            "set num_output to the number of classes, or mend the labels in the database",
        )


def labels_of(layer: Layer) -> Labels | None:
    """The labels that a layer reads, or None where it reads none."""
    param, shapes = layer.param, layer.shapes.bottoms
    if not layer.shapes.known or not shapes:
        return None
    if layer.type == "Embed":
        return Labels(layer, layer.bottoms[0], param.embed_param.input_dim)
    if layer.type in ("HingeLoss", "MultinomialLogisticLoss"):
        return Labels(layer, layer.bottoms[1], math.prod(shapes[0][1:]))
    if layer.type not in _CLASSIFIERS:
        return None
    axis, ignoring = _CLASSIFIERS[layer.type](param)
    ignored = ignoring.ignore_label if ignoring.HasField("ignore_label") else None
    return Labels(layer, layer.bottoms[1], shapes[0][axis], ignored)


_CLASSIFIERS = {  # layer type -> the axis of the classes, and the message that may hold an ignore_label
    "SoftmaxWithLoss": lambda param: (param.softmax_param.axis, param.loss_param),
    "Accuracy": lambda param: (param.accuracy_param.axis, param.accuracy_param),
    "InfogainLoss": lambda param: (param.infogain_loss_param.axis, param.loss_param),
}
