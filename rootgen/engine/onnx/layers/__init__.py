"""How each layer type is said in ONNX, by the chapters of net/layers: importing this package registers them."""

from rootgen.engine.onnx.layer import WRITERS
from rootgen.engine.onnx.layers import (
    activation,
    common,
    data,
    loss,
    normalization,
    recurrent,
    utility,
    vision,
)

__all__ = ["WRITERS", "activation", "common", "data", "loss", "normalization", "recurrent", "utility", "vision"]
