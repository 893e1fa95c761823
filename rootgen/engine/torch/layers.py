"""Every layer type of the embedded engine: importing this module registers them."""

from rootgen.engine.torch import arrangement, elementwise, linear, losses, normalisation, pooling, sources
from rootgen.engine.torch.unit import BUILDERS, FILLERS, Unit

__all__ = [
    "BUILDERS",
    "FILLERS",
    "Unit",
    "arrangement",
    "elementwise",
    "linear",
    "losses",
    "normalisation",
    "pooling",
    "sources",
]
