"""The embedded engine: prototxt on PyTorch."""

from rootgen.engine.torch.open import open_network, open_trainer

__all__ = ["open_network", "open_trainer"]
