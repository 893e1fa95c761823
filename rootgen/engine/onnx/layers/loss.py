"""Losses and Accuracy, so that a net can be scored. What is exported has none: a deploy net ends in its scores."""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import TensorProto

from rootgen.engine.onnx.layer import Part, writes
from rootgen.net.graph import LayerShapes, Shape

_FULL, _VALID, _BATCH_SIZE, _NONE = 0, 1, 2, 3  # LossParameter.NormalizationMode
_GREATEST = 87.33654475  # -log(FLT_MIN): Caffe clips the probability there
_LEAST = 1e-20  # of a probability: MultinomialLogisticLoss's kLOG_THRESHOLD


@writes("SoftmaxWithLoss")
def softmax_with_loss(part: Part) -> tuple[str, ...]:
    axis = part.axis(part.param.softmax_param.axis)
    log = part.op("LogSoftmax", part.bottoms[0], axis=axis)
    index, valid = _labels(part, axis, part.param.loss_param)
    losses = part.op("Min", part.op("Neg", _picked(part, log, index, axis)), part.number(_GREATEST))
    total = _total(part, losses if valid is None else part.op("Mul", losses, valid))
    inner = prod(part.shapes.bottoms[0][axis + 1 :])
    loss = part.op("Div", total, _normalizer(part, _mode(part, _VALID), index, valid, inner))
    return (loss, part.op("Exp", log))[: len(part.layer.tops)]


@writes("Accuracy")
def accuracy(part: Part) -> tuple[str, ...]:
    """Where a class ties with the true one it counts as better, as in Caffe."""
    param = part.param.accuracy_param
    axis, x = part.axis(param.axis), part.bottoms[0]
    index, valid = _labels(part, axis, param)
    true = part.op("GatherElements", x, part.op("Unsqueeze", index, part.whole(axis)), axis=axis)
    above = _float(part, part.op("Not", part.op("Less", x, true)))
    better = part.op("ReduceSum", above, part.whole(axis), keepdims=0)
    right = _float(part, part.op("Less", better, part.number(param.top_k + 0.5)))  # `better` counts the true one too
    right = right if valid is None else part.op("Mul", right, valid)
    seen = part.op("Add", part.op("Mul", right, part.number(0)), part.number(1)) if valid is None else valid
    mean = part.op("Div", _total(part, right), part.op("Max", _total(part, seen), part.number(1)))
    if len(part.layer.tops) == 1:
        return (mean,)
    classes = part.shapes.bottoms[0][axis]
    hot = part.op("OneHot", index, part.number(classes, np.int64), part.number([0, 1]))
    hits, all_seen = (_per_class(part, hot, values, classes) for values in (right, seen))
    return mean, part.op("Div", hits, part.op("Max", all_seen, part.number(1)))


def _per_class(part: Part, hot: str, values: str, classes: int) -> str:
    """The sum of `values` of each place by the class that `hot` (places x classes) says."""
    flat = part.op("Reshape", values, part.whole(-1, 1))
    rows = part.op("Mul", part.op("Reshape", hot, part.whole(-1, classes)), flat)
    return part.op("ReduceSum", rows, part.whole(0), keepdims=0)


@writes("EuclideanLoss")
def euclidean_loss(part: Part) -> str:
    other = part.reshape(part.bottoms[1], lambda shapes: shapes.bottoms[0])
    difference = part.op("Sub", part.bottoms[0], other)
    half = part.op("Mul", _total(part, part.op("Mul", difference, difference)), part.number(0.5))
    return part.op("Div", half, _images(part))


@writes("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy_loss(part: Part) -> str:
    """Of each score x and target t: log(1 + exp(-|x|)) + max(x, 0) - x t."""
    x, param = part.bottoms[0], part.param.loss_param
    target = part.reshape(part.bottoms[1], lambda shapes: shapes.bottoms[0])
    soft = part.op("Softplus", part.op("Neg", part.op("Abs", x)))
    losses = part.op("Sub", part.op("Add", soft, part.op("Relu", x)), part.op("Mul", x, target))
    valid = None
    if param.HasField("ignore_label"):
        whole = part.op("Cast", target, to=TensorProto.INT64)
        valid = _float(part, part.op("Not", part.op("Equal", whole, part.number(param.ignore_label, np.int64))))
        losses = part.op("Mul", losses, valid)
    mode = _mode(part, _BATCH_SIZE)
    divisor = _images(part) if mode == _BATCH_SIZE else _normalizer(part, mode, x, valid, 1)
    return part.op("Div", _total(part, losses), divisor)


@writes("HingeLoss")
def hinge_loss(part: Part) -> str:
    labels, images = prod(part.shapes.bottoms[1]), part.shapes.bottoms[0][0]
    if labels != images:
        raise part.error(f"takes one label per image, not {labels} for {images}")
    flat = part.op("Flatten", part.bottoms[0], axis=1)
    classes = prod(part.shapes.bottoms[0][1:])
    sign = part.op("OneHot", _places(part), part.number(classes, np.int64), part.number([1, -1]))
    margin = part.op("Relu", part.op("Add", part.op("Mul", sign, flat), part.number(1)))
    margin = part.op("Mul", margin, margin) if part.param.hinge_loss_param.norm == 2 else margin
    return part.op("Div", _total(part, margin), _images(part))


@writes("MultinomialLogisticLoss")
def multinomial_logistic_loss(part: Part) -> str:
    picked = _picked(part, part.op("Flatten", part.bottoms[0], axis=1), _places(part), 1)
    log = part.op("Log", part.op("Max", picked, part.number(_LEAST)))
    return part.op("Div", part.op("Neg", _total(part, log)), _images(part))


def _places(part: Part) -> str:
    """The label of each image, a whole number."""
    return part.op("Reshape", part.op("Cast", part.bottoms[1], to=TensorProto.INT64), part.whole(-1))


def _labels(part: Part, axis: int, param) -> tuple[str, str | None]:  # type: ignore[no-untyped-def]
    """The class of each place, 0 where it is ignored; and 1 or 0 for what counts, None where all do."""

    def places(shapes: LayerShapes) -> Shape:
        return (*shapes.bottoms[0][:axis], *shapes.bottoms[0][axis + 1 :])

    index = part.reshape(part.op("Cast", part.bottoms[1], to=TensorProto.INT64), places)
    if not param.HasField("ignore_label"):
        return index, None
    valid = part.op("Not", part.op("Equal", index, part.number(param.ignore_label, np.int64)))
    return part.op("Where", valid, index, part.number(0, np.int64)), _float(part, valid)


def _picked(part: Part, values: str, index: str, axis: int) -> str:
    """Of `values` along `axis` the one at each place's `index`."""
    picked = part.op("GatherElements", values, part.op("Unsqueeze", index, part.whole(axis)), axis=axis)
    return part.op("Squeeze", picked, part.whole(axis))


def _mode(part: Part, default: int) -> int:
    """The NormalizationMode of a loss layer; the old `normalize` means VALID or BATCH_SIZE."""
    param = part.param.loss_param
    if param.HasField("normalization"):
        return int(param.normalization)
    if param.HasField("normalize"):
        return _VALID if param.normalize else _BATCH_SIZE
    return default


def _normalizer(part: Part, mode: int, places: str, valid: str | None, inner: int) -> str:
    """What a summed loss over `places` is divided by, at least 1; each image has `inner` of them."""
    if mode == _NONE:
        return part.number(1)
    if mode == _VALID and valid is not None:
        return part.op("Max", _total(part, valid), part.number(1))
    count = _float(part, part.op("Size", places))
    return part.op("Div", count, part.number(inner)) if mode == _BATCH_SIZE else count


def _images(part: Part) -> str:
    """The size of the batch."""
    return _float(part, part.op("Gather", part.op("Shape", part.bottoms[0]), part.number(0, np.int64)))


def _total(part: Part, values: str) -> str:
    """The sum of all values, a scalar."""
    return part.op("ReduceSum", values, keepdims=0)


def _float(part: Part, values: str) -> str:
    return part.op("Cast", values, to=TensorProto.FLOAT)
