"""ONNX: nets written as ONNX models, and run by ONNX Runtime behind the engines' protocol; forward only."""

from rootgen.engine.onnx.open import open_network, open_trainer

__all__ = ["open_network", "open_trainer"]
