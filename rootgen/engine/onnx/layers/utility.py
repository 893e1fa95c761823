"""Layers that move, join, cut or pick values, and Softmax."""

from __future__ import annotations

from functools import reduce

from onnx import TensorProto

from rootgen.engine.onnx.layer import Part, writes
from rootgen.net.layers.utility import joined_axis


@writes("Flatten", "Reshape")
def reshape(part: Part) -> str:
    return part.reshape(part.bottoms[0], lambda shapes: shapes.tops[0])


@writes("Split")
def split(part: Part) -> tuple[str, ...]:
    return part.bottoms * len(part.layer.tops)


@writes("Silence")
def silence(_: Part) -> tuple[str, ...]:
    """Nothing; what it takes is no output of the net."""
    return ()


@writes("Concat")
def concat(part: Part) -> str:
    return part.op("Concat", *part.bottoms, axis=joined_axis(part.layer, part.shapes.bottoms[0]))


@writes("Slice")
def slices(part: Part) -> tuple[str, ...]:
    axis = joined_axis(part.layer, part.shapes.bottoms[0])
    if len(part.layer.tops) == 1:
        return part.bottoms
    sizes = []
    for i in range(len(part.layer.tops)):
        sizes.append(part.fixed(lambda shapes, i=i: shapes.tops[i][axis], "the axis that it cuts"))  # type: ignore[misc]
    return part.node("Split", part.bottoms[0], part.whole(*sizes), outputs=len(sizes), axis=axis)


@writes("Tile")
def tile(part: Part) -> str:
    param = part.param.tile_param
    repeats = [1] * len(part.shapes.bottoms[0])
    repeats[part.axis(param.axis)] = param.tiles
    return part.op("Tile", part.bottoms[0], part.whole(*repeats))


@writes("Reduction")
def reduction(part: Part) -> str:
    param = part.param.reduction_param
    axes = list(range(part.axis(param.axis), len(part.shapes.bottoms[0])))
    kind = {1: "ReduceSum", 2: "ReduceL1", 3: "ReduceSumSquare", 4: "ReduceMean"}[param.operation]
    if kind == "ReduceSum":  # the one whose axes are an input by now
        out = part.op(kind, part.bottoms[0], part.whole(*axes), keepdims=0)
    else:
        out = part.op(kind, part.bottoms[0], axes=axes, keepdims=0)
    return out if param.coeff == 1 else part.op("Mul", out, part.number(param.coeff))


@writes("ArgMax")
def arg_max(part: Part) -> str:
    """Of equal values the last counts, as in Caffe, where one is asked for; of more, the order among them is open."""
    param = part.param.argmax_param
    if param.HasField("axis"):
        values, places = _largest(part, part.bottoms[0], part.axis(param.axis), param.top_k)
        return values if param.out_max_val else places
    values, places = _largest(part, part.op("Flatten", part.bottoms[0], axis=1), 1, param.top_k)
    both = part.op("Concat", places, values, axis=1) if param.out_max_val else places
    return part.reshape(both, lambda shapes: shapes.tops[0])


def _largest(part: Part, x: str, axis: int, count: int) -> tuple[str, str]:
    """The `count` largest values along an axis, and their places as floats."""
    if count == 1:
        values = part.op("ReduceMax", x, axes=[axis])
        places = part.op("ArgMax", x, axis=axis, select_last_index=1)
    else:
        values, places = part.node("TopK", x, part.whole(count), outputs=2, axis=axis)
    return values, part.op("Cast", places, to=TensorProto.FLOAT)


@writes("Eltwise")
def eltwise(part: Part) -> str:
    param = part.param.eltwise_param
    product, greatest = 0, 2
    if param.operation == greatest:
        return part.op("Max", *part.bottoms)
    if param.operation == product:
        return reduce(lambda a, b: part.op("Mul", a, b), part.bottoms)
    coeff = list(param.coeff) or [1.0] * len(part.bottoms)
    terms = [x if c == 1 else part.op("Mul", x, part.number(c)) for x, c in zip(part.bottoms, coeff, strict=True)]
    return reduce(lambda a, b: part.op("Add", a, b), terms)


@writes("Softmax")
def softmax(part: Part) -> str:
    return part.op("Softmax", part.bottoms[0], axis=part.axis(part.param.softmax_param.axis))


@writes("Parameter")
def parameter(part: Part) -> str:
    return part.blob(0)


@writes("Filter")
def selected(part: Part) -> tuple[str, ...]:
    """The images whose place in the last bottom, the selector, is not 0."""
    *data, selector = part.bottoms
    chosen = part.op("Cast", part.op("Reshape", selector, part.whole(-1)), to=TensorProto.BOOL)
    return tuple(part.op("Compress", x, chosen, axis=0) for x in data)


@writes("BatchReindex")
def batch_reindex(part: Part) -> str:
    return part.op("Gather", part.bottoms[0], part.op("Cast", part.bottoms[1], to=TensorProto.INT64), axis=0)
