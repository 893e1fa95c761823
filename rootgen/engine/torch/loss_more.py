"""InfogainLoss: cross-entropy under a matrix that says how much each class counts for each label."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen import schema
from rootgen.engine import blobs
from rootgen.engine.locate import locate
from rootgen.engine.torch.losses import _labels, _normalization, _normalizer
from rootgen.engine.torch.unit import Run, Unit, builds
from rootgen.shapes import text

_VALID = 1  # LossParameter.NormalizationMode
_LEAST = math.log(1e-20)  # of a probability's logarithm: Caffe's kLOG_THRESHOLD


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


def _matrix(unit: Unit, classes: int) -> Tensor:
    """The infogain matrix in the file that the layer names, a binary BlobProto; RootgenError where it does not fit."""
    param = unit.param.infogain_loss_param
    if not param.HasField("source"):
        raise unit.error("has no infogain matrix", "give infogain_loss_param.source, or the matrix as a third bottom")
    path = locate(param.source, None, unit.layer.where)
    matrix = blobs.to_array(schema.read_binary(path, schema.BlobProto), path)
    if matrix.size != classes**2:
        raise unit.error(
            f"the infogain matrix in {path} is {text(matrix.shape)}, but {classes} classes need {classes}x{classes}"
        )
    return torch.from_numpy(matrix.reshape(classes, classes).copy())
