"""The embedded engine: prototxt on PyTorch."""

from rootgen.engine.torch.build import open_network, open_trainer

__all__ = ["open_network", "open_trainer"]
