"""Engines that run prototxt: pycaffe, the embedded one on PyTorch, or ONNX Runtime, behind two protocols (api.py).

`open_network` runs a net forward; `open_trainer` runs a solver; `place_of` says what computes here.
"""

from rootgen.engine.open import open_network, open_trainer, place_of

__all__ = ["open_network", "open_trainer", "place_of"]
