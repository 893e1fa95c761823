"""Losses and accuracy: scalars, and what Caffe asks of predictions and labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import axis, legacy, size
from rootgen.net.layers.registry import Shaped, layer_type
from rootgen.text import shape_text

_ONE = (0, 1)  # Caffe makes the top of a loss layer where the net names none


def _scalar(layer: Layer, *more: Shape) -> Shaped:
    """A loss's top, a scalar, where the layer names it; further tops as given."""
    return Shaped(((), *more)[: len(layer.tops)])


def _same_batch(layer: Layer, bottoms: Sequence[Shape]) -> None:
    if not bottoms[0] or not bottoms[1] or bottoms[0][0] != bottoms[1][0]:
        raise layer.error(
            f"bottoms '{layer.bottoms[0]}' ({shape_text(bottoms[0])}) and '{layer.bottoms[1]}' "
            f"({shape_text(bottoms[1])}) differ in their first size (one label per image)"
        )


def _check_labels(layer: Layer, at: int, bottoms: Sequence[Shape]) -> int:
    """The number of classes on axis `at`; there has to be one label per place of the other axes."""
    scores, labels = bottoms[:2]
    at = axis(layer, at, scores)
    wanted = prod(scores) // scores[at]
    if prod(labels) != wanted:
        raise layer.error(
            f"bottom '{layer.bottoms[1]}' has {prod(labels)} labels ({shape_text(labels)}), but predictions of "
            f"{shape_text(scores)} with classes on axis {at} need {wanted}"
        )
    return scores[at]


@layer_type(
    "MultinomialLogisticLoss",
    "loss",
    "minus log of the true class's probability",
    bottoms=2,
    tops=_ONE,
    v1="MULTINOMIAL_LOGISTIC_LOSS",
    needs_images=True,
)
def multinomial_logistic_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    if legacy(layer, bottoms[1])[1:] != (1, 1, 1):
        raise layer.error(f"needs one label per image, not {shape_text(bottoms[1])}")
    return _scalar(layer)


@layer_type(
    "InfogainLoss",
    "loss",
    "minus log probabilities, weighted by a matrix",
    bottoms=(2, 3),
    tops=(0, 2),
    v1="INFOGAIN_LOSS",
)
def infogain_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    classes = _check_labels(layer, layer.param.infogain_loss_param.axis, bottoms)
    if len(bottoms) > 2 and prod(bottoms[2]) != classes**2:
        raise layer.error(
            f"its infogain matrix is {shape_text(bottoms[2])}, but {classes} classes need {classes}x{classes}"
        )
    return _scalar(layer, bottoms[0])


@layer_type(
    "SoftmaxWithLoss",
    "loss",
    "softmax, then minus log of the true class's probability",
    bottoms=2,
    tops=(0, 2),
    v1="SOFTMAX_LOSS",
    needs_images=True,
)
def softmax_with_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    _check_labels(layer, layer.param.softmax_param.axis, bottoms)
    return _scalar(layer, bottoms[0])


@layer_type("EuclideanLoss", "loss", "half the mean squared distance", bottoms=2, tops=_ONE, v1="EUCLIDEAN_LOSS")
@layer_type(
    "SigmoidCrossEntropyLoss",
    "loss",
    "cross-entropy of sigmoids, one per value",
    bottoms=2,
    tops=_ONE,
    v1="SIGMOID_CROSS_ENTROPY_LOSS",
)
def elementwise_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    if prod(bottoms[0]) != prod(bottoms[1]):
        raise layer.error(f"needs bottoms of equal size, not {shape_text(bottoms[0])} and {shape_text(bottoms[1])}")
    return _scalar(layer)


@layer_type(
    "HingeLoss",
    "loss",
    "what scores lack of a margin of 1",
    bottoms=2,
    tops=_ONE,
    v1="HINGE_LOSS",
    needs_images=True,
)
def hinge_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    return _scalar(layer)


@layer_type(
    "ContrastiveLoss",
    "loss",
    "draws pairs together, or a margin apart",
    bottoms=3,
    tops=_ONE,
    v1="CONTRASTIVE_LOSS",
)
def contrastive_loss(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    _same_batch(layer, bottoms)
    first, second, similar = (legacy(layer, shape) for shape in bottoms)
    if first[1:] != (first[1], 1, 1) or second[1:] != first[1:] or similar[1:] != (1, 1, 1):
        raise layer.error(
            f"takes two N x C features and N labels, not {shape_text(first)}, {shape_text(second)} "
            f"and {shape_text(similar)}"
        )
    return _scalar(layer)


@layer_type(
    "Accuracy",
    "measure",
    "share of images whose true class is among the best",
    bottoms=2,
    tops=(1, 2),
    v1="ACCURACY",
    needs_images=True,
)
def accuracy(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.accuracy_param
    classes = _check_labels(layer, param.axis, bottoms)
    if size(layer, "top_k", param.top_k) > classes:
        raise layer.error(f"top_k {param.top_k} is more than the {classes} classes")
    return _scalar(layer, (classes,))
