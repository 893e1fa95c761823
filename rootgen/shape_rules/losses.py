"""Losses and accuracy: scalars, and what Caffe asks of predictions and labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rootgen.net import Layer
from rootgen.shape_rules.common import Shape, Shaped, axis, legacy, rule, size, text


def _scalar(layer: Layer, *more: Shape) -> Shaped:
    """A loss's top, a scalar, where the layer names it; further tops as given."""
    return Shaped(((), *more)[: len(layer.tops)])


def _same_batch(layer: Layer, bottoms: Sequence[Shape]) -> None:
    if not bottoms[0] or not bottoms[1] or bottoms[0][0] != bottoms[1][0]:
        raise layer.error(
            f"bottoms '{layer.bottoms[0]}' ({text(bottoms[0])}) and '{layer.bottoms[1]}' ({text(bottoms[1])}) "
            "differ in their first size (one label per image)"
        )


def _check_labels(layer: Layer, at: int, bottoms: Sequence[Shape]) -> int:
    """The number of classes on axis `at`; there has to be one label per place of the other axes."""
    scores, labels = bottoms[:2]
    at = axis(layer, at, scores)
    wanted = prod(scores) // scores[at]
    if prod(labels) != wanted:
        raise layer.error(
            f"bottom '{layer.bottoms[1]}' has {prod(labels)} labels ({text(labels)}), but predictions of "
            f"{text(scores)} with classes on axis {at} need {wanted}"
        )
    return scores[at]


@rule("SoftmaxWithLoss")
def softmax_with_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    _check_labels(layer, layer.param.softmax_param.axis, bottoms)
    return _scalar(layer, bottoms[0])


@rule("InfogainLoss")
def infogain_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    classes = _check_labels(layer, layer.param.infogain_loss_param.axis, bottoms)
    if len(bottoms) > 2 and prod(bottoms[2]) != classes**2:
        raise layer.error(f"its infogain matrix is {text(bottoms[2])}, but {classes} classes need {classes}x{classes}")
    return _scalar(layer, bottoms[0])


@rule("EuclideanLoss", "SigmoidCrossEntropyLoss")
def elementwise_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    if prod(bottoms[0]) != prod(bottoms[1]):
        raise layer.error(f"needs bottoms of equal size, not {text(bottoms[0])} and {text(bottoms[1])}")
    return _scalar(layer)


@rule("HingeLoss")
def hinge_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    return _scalar(layer)


@rule("MultinomialLogisticLoss")
def multinomial_logistic_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    if legacy(layer, bottoms[1])[1:] != (1, 1, 1):
        raise layer.error(f"needs one label per image, not {text(bottoms[1])}")
    return _scalar(layer)


@rule("ContrastiveLoss")
def contrastive_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    first, second, similar = (legacy(layer, shape) for shape in bottoms)
    if first[1:] != (first[1], 1, 1) or second[1:] != first[1:] or similar[1:] != (1, 1, 1):
        raise layer.error(
            f"takes two N x C features and N labels, not {text(first)}, {text(second)} and {text(similar)}"
        )
    return _scalar(layer)


@rule("Accuracy")
def accuracy(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.accuracy_param
    classes = _check_labels(layer, param.axis, bottoms)
    if size(layer, "top_k", param.top_k) > classes:
        raise layer.error(f"top_k {param.top_k} is more than the {classes} classes")
    return _scalar(layer, (classes,))
