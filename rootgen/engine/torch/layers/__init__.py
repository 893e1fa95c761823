"""Every layer type of the embedded engine, by the chapters of net/layers: importing this package registers them."""

from rootgen.engine.torch.layer import BUILDERS, FILLERS
from rootgen.engine.torch.layers import (
    activation,
    common,
    data,
    detection,
    loss,
    normalization,
    recurrent,
    resize,
    utility,
    vision,
)

__all__ = [
    "BUILDERS",
    "FILLERS",
    "activation",
    "common",
    "data",
    "detection",
    "loss",
    "normalization",
    "recurrent",
    "resize",
    "utility",
    "vision",
]
