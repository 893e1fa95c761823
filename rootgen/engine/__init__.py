"""Engines that run prototxt: pycaffe, or the embedded one on PyTorch, behind two protocols (api.py).

`open_network` runs a net forward; `open_trainer` runs a solver.
"""

from rootgen.engine.open import open_network, open_trainer

__all__ = ["open_network", "open_trainer"]
