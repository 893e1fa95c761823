"""Filter and BatchReindex: layers that choose among the images of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from rootgen.engine.torch.unit import Run, Unit, builds


@builds("Filter")
def selected(unit: Unit) -> Run:
    """The images whose place in the last bottom, the selector, is not 0; of every other bottom, in their order.

    How many come out is known only when a batch is there: the tops have the shapes of the bottoms in `unit.tops`,
    as in Caffe before its first pass. Where none is selected the tops are empty, 0 x ..., as in Caffe; of such a
    batch there is no gradient, for which Caffe divides by their number.
    """

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        *data, selector = bottoms
        places = selector.flatten().nonzero().flatten()
        if not len(places) and torch.is_grad_enabled() and any(x.requires_grad for x in data):
            raise unit.error(
                f"its selector '{unit.layer.bottoms[-1]}' selects none of the {len(selector)} images of a batch, which "
                "leaves nothing to take a gradient of (Caffe divides by zero here)",
                "see to it that every batch has an image to select, or say propagate_down: false",
            )
        return tuple(x.index_select(0, places) for x in data)

    return run


@builds("BatchReindex")
def batch_reindex(unit: Unit) -> Run:
    """The images at the places that the second bottom lists, each as often as it is listed.

    Places are cut to whole numbers; the gradients of an image's copies add up.
    """

    def run(x: Tensor, index: Tensor) -> Tensor:
        wrong = ~((index >= 0) & (index < x.shape[0]))  # so that NaN is wrong too
        if wrong.any():
            place = int(wrong.nonzero()[0])
            raise unit.error(
                f"index {index[place].item():g} at place {place} of bottom '{unit.layer.bottoms[1]}', but bottom "
                f"'{unit.layer.bottoms[0]}' has {x.shape[0]} images (0 to {x.shape[0] - 1})"
            )
        return x.index_select(0, index.long())

    return run
