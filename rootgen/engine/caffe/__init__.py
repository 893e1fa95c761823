"""The engine of the paper: pycaffe, from the Caffe that `rootgen caffe build` makes."""

from rootgen.engine.caffe.open import open_network, open_trainer

__all__ = ["open_network", "open_trainer"]
