"""Caffe's layer types, and how many bottoms and tops each takes (Caffe 1.0, include/caffe/layers)."""

from __future__ import annotations

from typing import NamedTuple

MANY = 1 << 30  # no upper limit


class Arity(NamedTuple):
    """The fewest and the most bottoms, and the fewest and the most tops, of a layer type."""

    min_bottoms: int
    max_bottoms: int
    min_tops: int
    max_tops: int


_ONE_TO_ONE = Arity(1, 1, 1, 1)
_LOSS = Arity(2, 2, 0, 1)  # Caffe makes the top of a loss layer where the net names none
_ELEMENTWISE = "AbsVal BNLL Clip Dropout ELU Exp Log Power PReLU ReLU Sigmoid Swish TanH Threshold"
_OTHER_ONE_TO_ONE = "ArgMax BatchNorm Embed Flatten Im2col InnerProduct LRN MVN Reduction Reshape SPP Softmax Tile"

ARITY: dict[str, Arity] = {
    **dict.fromkeys(f"{_ELEMENTWISE} {_OTHER_ONE_TO_ONE}".split(), _ONE_TO_ONE),
    **dict.fromkeys(("EuclideanLoss", "HingeLoss", "MultinomialLogisticLoss"), _LOSS),
    "SigmoidCrossEntropyLoss": _LOSS,
    "Accuracy": Arity(2, 2, 1, 2),
    "BatchReindex": Arity(2, 2, 1, 1),
    "Bias": Arity(1, 2, 1, 1),
    "Concat": Arity(1, MANY, 1, 1),
    "ContrastiveLoss": Arity(3, 3, 0, 1),
    "Convolution": Arity(1, MANY, 1, MANY),
    "Crop": Arity(2, 2, 1, 1),
    "Data": Arity(0, 0, 1, 2),
    "Deconvolution": Arity(1, MANY, 1, MANY),
    "DummyData": Arity(0, 0, 1, MANY),
    "Eltwise": Arity(2, MANY, 1, 1),
    "Filter": Arity(2, MANY, 1, MANY),
    "HDF5Data": Arity(0, 0, 1, MANY),
    "HDF5Output": Arity(2, 2, 0, 0),
    "ImageData": Arity(0, 0, 2, 2),
    "InfogainLoss": Arity(2, 3, 0, 2),
    "Input": Arity(0, 0, 1, MANY),
    "LSTM": Arity(2, 5, 1, 3),
    "LSTMUnit": Arity(3, 3, 2, 2),
    "MemoryData": Arity(0, 0, 2, 2),
    "Parameter": Arity(0, 0, 1, 1),
    "Pooling": Arity(1, 1, 1, 2),
    "Python": Arity(0, MANY, 0, MANY),
    "RNN": Arity(2, 4, 1, 2),
    "Scale": Arity(1, 2, 1, 1),
    "Silence": Arity(1, MANY, 0, 0),
    "Slice": Arity(1, 1, 1, MANY),
    "SoftmaxWithLoss": Arity(2, 2, 0, 2),
    "Split": Arity(1, 1, 1, MANY),
    "WindowData": Arity(0, 0, 2, 2),
}

LOSSES = frozenset(name for name in ARITY if name.endswith("Loss"))
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
EQUAL_BOTTOMS_AND_TOPS = frozenset({"Convolution", "Deconvolution"})
