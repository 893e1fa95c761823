"""Data that needs nothing from outside: DummyData. What is fed becomes an input of the graph."""

from __future__ import annotations

import numpy as np

from rootgen.engine.onnx.layer import Part, writes
from rootgen.proto import schema


@writes("DummyData")
def dummy_data(part: Part) -> tuple[str, ...]:
    """Constants, where every filler is one; others fill anew in each pass."""
    fillers = list(part.param.dummy_data_param.data_filler) or [schema.FillerParameter()]
    if len(fillers) not in (1, len(part.layer.tops)):
        raise part.error(f"has {len(fillers)} data_filler for {len(part.layer.tops)} top (give one, or one per top)")
    found = []
    for i, shape in enumerate(part.shapes.tops):
        filler = fillers[i if len(fillers) > 1 else 0]
        if filler.type != "constant":
            raise part.error(f"ONNX cannot say a filler '{filler.type}', which fills anew in each pass")
        if shape != part.other.tops[i]:
            raise part.frozen(f"in its top '{part.layer.tops[i]}', a constant")
        found.append(part.op("Identity", part.number(np.full(shape, filler.value))))
    return tuple(found)
