"""InnerProduct, Dropout and Embed."""

from __future__ import annotations

from onnx import TensorProto

from rootgen.engine.onnx.layer import Part, writes


@writes("InnerProduct")
def inner_product(part: Part) -> str:
    param = part.param.inner_product_param
    axis = part.axis(param.axis)
    flat = part.bottoms[0]
    if (axis, len(part.shapes.bottoms[0])) != (1, 2):
        flat = part.op("Flatten", flat, axis=axis)
    bias = [part.blob(1)] if param.bias_term else []
    out = part.op("Gemm", flat, part.blob(0), *bias, transB=int(not param.transpose))
    return out if axis == 1 else part.reshape(out, lambda shapes: shapes.tops[0])


@writes("Dropout")
def dropout(part: Part) -> str:
    """Nothing, in testing."""
    return part.bottoms[0]


@writes("Embed")
def embed(part: Part) -> str:
    rows = part.op("Gather", part.blob(0), part.op("Cast", part.bottoms[0], to=TensorProto.INT64), axis=0)
    return part.op("Add", rows, part.blob(1)) if part.param.embed_param.bias_term else rows
