"""Every layer type of the embedded engine: importing this module registers them."""

from rootgen.engine.torch import (
    arrangement,
    elementwise,
    linear,
    loss_more,
    losses,
    normalisation,
    pooling,
    recurrent,
    sources,
    spatial_more,
    utility_more,
)
from rootgen.engine.torch.unit import BUILDERS, FILLERS, Unit

__all__ = [
    "BUILDERS",
    "FILLERS",
    "Unit",
    "arrangement",
    "elementwise",
    "linear",
    "loss_more",
    "losses",
    "normalisation",
    "pooling",
    "recurrent",
    "sources",
    "spatial_more",
    "utility_more",
]
