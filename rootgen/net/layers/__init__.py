"""Every layer type of Caffe 1.0, chapter by chapter as Caffe's layer catalogue has them: shapes, blobs, kinds.

Importing this package registers them (registry.TYPES).
"""

from rootgen.net.layers import activation, common, data, loss, normalization, recurrent, utility, vision

__all__ = ["activation", "common", "data", "loss", "normalization", "recurrent", "utility", "vision"]
