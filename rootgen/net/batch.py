"""Which axis of a blob counts the images of a batch: the first, but the second before and behind recurrent layers.

Recurrent layers take T x N x ...: N sequences side by side, T steps each. There a sequence is what elsewhere is an
image: costs are per sequence, and a batch of N has N of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rootgen.net.graph import Layer, Shape

RECURRENT = ("LSTM", "RNN")


def sequences(layers: Sequence[Layer], blobs: Mapping[str, Shape]) -> frozenset[str]:
    """Names of the blobs of T x N x ...: what recurrent layers read and make, and what has its first two axes of those.

    A net of images that a Reshape cuts into steps has images up to there, and sequences from there on.
    """
    found: dict[str, Shape] = {}
    for layer in layers:
        if layer.type in RECURRENT:
            found.update({name: blobs[name][:2] for name in (*layer.bottoms[:2], layer.tops[0]) if name in blobs})
    others = [layer for layer in layers if layer.type not in RECURRENT]
    before = -1 if found else 0
    while before != len(found):
        before = len(found)
        for layer in (*others, *reversed(others)):
            names = [name for name in (*layer.bottoms, *layer.tops) if name in blobs]
            steps = {found[name] for name in names if name in found}
            found.update({name: blobs[name][:2] for name in names if blobs[name][:2] in steps})
    return frozenset(found)


def images(shape: Shape, *, steps_first: bool) -> tuple[int, Shape]:
    """(images of a batch, one image's shape) of a blob; with `steps_first` sequences, of T x N x ..."""
    axis = 1 if steps_first and len(shape) > 1 else 0
    return (shape[axis], shape[:axis] + shape[axis + 1 :]) if shape else (1, ())
