"""Losses and Accuracy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine import blobs
from rootgen.engine.checks import Labels
from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.files import locate
from rootgen.net.graph import Layer, Net
from rootgen.proto import schema
from rootgen.text import shape_text

N = TypeVar("N", bound=Net)
_FULL, _VALID, _BATCH_SIZE, _NONE = 0, 1, 2, 3  # LossParameter.NormalizationMode
_LEAST = math.log(1e-20)  # of a probability's logarithm: InfogainLoss's kLOG_THRESHOLD
_GREATEST = 87.33654475  # -log(FLT_MIN): Caffe clips the probability there


@builds("SoftmaxWithLoss")
def softmax_with_loss(unit: Unit) -> Run:
    axis = unit.axis(unit.param.softmax_param.axis)
    mode = _normalization(unit, _VALID)
    labels_of = _labels(unit, axis, unit.param.loss_param)

    def run(x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        log_probability = F.log_softmax(x, axis)
        index, valid = labels_of(x, label)
        losses = -log_probability.gather(axis, index.unsqueeze(axis)).squeeze(axis)
        value = losses.detach()
        losses = value.clamp(max=_GREATEST) + (losses - value)  # clips the value, not the gradient
        loss = torch.where(valid, losses, torch.zeros_like(losses)).sum()
        loss = loss / _normalizer(mode, valid, x.shape[:axis].numel())
        return (loss, log_probability.detach().exp())[: max(len(unit.tops), 1)]  # Caffe takes no gradient of the second

    return run


@builds("Accuracy")
def accuracy(unit: Unit) -> Run:
    param = unit.param.accuracy_param
    axis = unit.axis(param.axis)
    labels_of = _labels(unit, axis, param)

    def run(x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        index, valid = labels_of(x, label)
        true = x.gather(axis, index.unsqueeze(axis))
        better = (x >= true).sum(axis) - 1  # a class that ties with the true one counts as better, as in Caffe
        right = (better < param.top_k) & valid & ~true.squeeze(axis).isnan()
        mean = right.sum() / valid.sum().clamp(min=1)
        if len(unit.tops) == 1:
            return (mean.to(x.dtype),)
        classes = x.shape[axis]
        seen = torch.bincount(index[valid], minlength=classes)
        hits = torch.bincount(index[right], minlength=classes)
        return mean.to(x.dtype), hits.to(x.dtype) / seen.clamp(min=1)

    return run


def _labels(unit: Unit, axis: int, param):  # type: ignore[no-untyped-def]
    """A function (scores, label blob) -> (class of each place, whether it counts); it checks the classes.

    Ignored places get class 0.
    """
    ignored = param.ignore_label if param.HasField("ignore_label") else None

    def labels(x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        index = label.reshape(shape).long()
        valid = torch.ones_like(index, dtype=torch.bool) if ignored is None else index != ignored
        index = torch.where(valid, index, torch.zeros_like(index))
        wrong = (index < 0) | (index >= x.shape[axis])
        if wrong.any():
            place = int(wrong.flatten().nonzero()[0])
            raise Labels(unit.layer, unit.layer.bottoms[1], x.shape[axis]).error(int(index.flatten()[place]), place)
        return index, valid

    return labels


def _normalization(unit: Unit, default: int) -> int:
    """The NormalizationMode of a loss layer; the old `normalize` means VALID or BATCH_SIZE."""
    param = unit.param.loss_param
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return _VALID if param.normalize else _BATCH_SIZE
    return default


def _normalizer(mode: int, valid: Tensor, batch: int) -> Tensor | float:
    """What a summed loss is divided by, at least 1."""
    if mode == _VALID:
        return valid.sum().clamp(min=1)
    return {_FULL: max(valid.numel(), 1), _BATCH_SIZE: max(batch, 1), _NONE: 1}[mode]


@builds("EuclideanLoss")
def euclidean_loss(_: Unit) -> Run:
    return lambda x, y: (x - y.reshape(x.shape)).square().sum() / x.shape[0] / 2


@builds("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy_loss(unit: Unit) -> Run:
    mode = _normalization(unit, _BATCH_SIZE)
    param = unit.param.loss_param

    def run(x: Tensor, target: Tensor) -> Tensor:
        target = target.reshape(x.shape)
        valid = torch.ones_like(x, dtype=torch.bool)
        if param.HasField("ignore_label"):
            valid = target.long() != param.ignore_label
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        return (losses * valid).sum() / _normalizer(mode, valid, x.shape[0])

    return run


@builds("HingeLoss")
def hinge_loss(unit: Unit) -> Run:
    labels_of = _labels(unit, 1, unit.param.loss_param)
    squared = unit.param.hinge_loss_param.norm == 2

    def run(x: Tensor, label: Tensor) -> Tensor:
        flat = x.flatten(1)
        index, _ = labels_of(flat, label)
        sign = torch.ones_like(flat).scatter_(1, index.unsqueeze(1), -1)
        margin = (1 + sign * flat).clamp(min=0)
        return (margin.square() if squared else margin).sum() / x.shape[0]

    return run


@builds("MultinomialLogisticLoss")
def multinomial_logistic_loss(unit: Unit) -> Run:
    labels_of = _labels(unit, 1, unit.param.loss_param)

    def run(x: Tensor, label: Tensor) -> Tensor:
        flat = x.flatten(1)
        index, _ = labels_of(flat, label)
        return -flat.gather(1, index.unsqueeze(1)).clamp(min=1e-20).log().sum() / x.shape[0]

    return run


@builds("ContrastiveLoss")
def contrastive_loss(unit: Unit) -> Run:
    param = unit.param.contrastive_loss_param

    def run(a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        squares = (a - b).flatten(1).square().sum(1)
        if param.legacy_version:
            apart = (param.margin - squares).clamp(min=0)
        else:
            apart = (param.margin - squares.clamp(min=1e-20).sqrt()).clamp(min=0).square()
        return torch.where(similar.flatten().bool(), squares, apart).sum() / a.shape[0] / 2

    return run


@builds("InfogainLoss")
def infogain_loss(unit: Unit) -> Run:
    """-sum over classes k of H[label, k] log p[k], summed over places and normalized; p is the softmax of the scores.

    H, classes x classes, is the third bottom or the file infogain_loss_param.source. Small p are clipped in the
    value, not in the gradient, as in Caffe. The second top is p; no gradient passes through it, nor to H.
    """
    param = unit.param
    if param.loss_param.HasField("normalize"):
        raise unit.error("loss_param.normalize is not for InfogainLoss", "use normalization: VALID or BATCH_SIZE")
    axis = unit.axis(param.infogain_loss_param.axis)
    mode = _normalization(unit, _VALID)
    labels_of = _labels(unit, axis, param.loss_param)
    classes = unit.bottoms[0][axis]
    stored = _matrix(unit, classes) if len(unit.bottoms) < 3 else None

    def run(x: Tensor, label: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        log_probability = F.log_softmax(x, axis)
        index, valid = labels_of(x, label)
        matrix = given[0].detach().reshape(classes, classes) if stored is None else stored.to(x)
        rows = torch.where(valid.unsqueeze(-1), matrix[index], 0.0).movedim(-1, axis)  # of each place's label
        value = log_probability.detach()
        clipped = value.clamp(min=_LEAST) + (log_probability - value)
        loss = -(rows * clipped).sum() / _normalizer(mode, valid, x.shape[:axis].numel())
        return (loss, value.exp())[: max(len(unit.tops), 1)]

    return run


def find_matrices(net: N, beside: Path | None) -> N:
    """`net` with the matrix of each InfogainLoss named as it is found: here, or in the folder `beside`, as data is."""
    return replace(net, layers=tuple(_found(layer, beside) for layer in net.layers))


def _found(layer: Layer, beside: Path | None) -> Layer:
    if layer.type != "InfogainLoss" or not layer.param.infogain_loss_param.source:
        return layer
    param = type(layer.param)()
    param.CopyFrom(layer.param)
    param.infogain_loss_param.source = str(locate(param.infogain_loss_param.source, beside, layer.where))
    return replace(layer, param=param)


def _matrix(unit: Unit, classes: int) -> Tensor:
    """The infogain matrix in the file that the layer names, a binary BlobProto; RootgenError where it does not fit."""
    param = unit.param.infogain_loss_param
    if not param.HasField("source"):
        raise unit.error("has no infogain matrix", "give infogain_loss_param.source, or the matrix as a third bottom")
    path = locate(param.source, None, unit.layer.where)
    matrix = blobs.to_array(schema.read_binary(path, schema.BlobProto), path)
    if matrix.size != classes**2:
        raise unit.error(
            f"the infogain matrix in {path} is {shape_text(matrix.shape)}, but {classes} classes need "
            f"{classes}x{classes}"
        )
    return torch.from_numpy(matrix.reshape(classes, classes).copy())
