"""InnerProduct, Dropout and Embed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.checks import Labels
from rootgen.engine.torch.layer import Run, Unit, builds


@builds(
    "InnerProduct",
    fillers=lambda param: [param.inner_product_param.weight_filler, param.inner_product_param.bias_filler],
    output_is_free=True,
)
def inner_product(unit: Unit) -> Run:
    param = unit.param.inner_product_param
    axis = unit.axis(param.axis)

    def run(x: Tensor) -> Tensor:
        weight = unit.blobs[0].t() if param.transpose else unit.blobs[0]
        return F.linear(x.flatten(axis), weight, unit.blobs[1] if param.bias_term else None)

    return run


@builds("Dropout")
def dropout(unit: Unit) -> Run:
    ratio = unit.param.dropout_param.dropout_ratio
    if unit.phase == "TEST":
        return lambda x: x

    def run(x: Tensor) -> Tensor:
        mask = torch.empty_like(x).bernoulli_(1 - ratio, generator=unit.generator)
        return x * mask.div_(1 - ratio)

    return run


@builds("Embed", fillers=lambda param: [param.embed_param.weight_filler, param.embed_param.bias_filler])
def embed(unit: Unit) -> Run:
    rows = unit.param.embed_param.input_dim

    def run(x: Tensor) -> Tensor:
        index = x.long()
        wrong = ((index < 0) | (index >= rows)).flatten()
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            raise Labels(unit.layer, unit.layer.bottoms[0], rows).error(int(index.flatten()[place]), place)
        out = F.embedding(index, unit.blobs[0])
        return out + unit.blobs[1] if unit.param.embed_param.bias_term else out

    return run
