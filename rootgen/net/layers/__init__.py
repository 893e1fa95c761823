"""Every layer type of Caffe 1.0, chapter by chapter as Caffe's layer catalogue has them: shapes, blobs, kinds.

The common types of other Caffes (`origin`) stand in the chapter that they would be in; resize and detection have no
others.

Importing this package registers them (registry.TYPES).
"""

from rootgen.net.layers import (
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
