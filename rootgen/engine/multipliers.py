"""What Caffe asks of the multipliers in a layer's `param`, for both engines: Caffe itself ends the process.

Those of blobs that layers share by name are compared in shapes.infer, which sees all of the net.
"""

from __future__ import annotations

from rootgen.net import Layer


def check(layer: Layer) -> None:
    """RootgenError where the statistics of a BatchNorm layer, which are no weights, would be learnt."""
    for spec in layer.param.param if layer.type == "BatchNorm" else ():
        if spec.lr_mult:
            raise layer.error(f"has lr_mult {spec.lr_mult:g} (Caffe needs 0 on BatchNorm's statistics)")
