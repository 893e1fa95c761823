"""Shapes of tops and of learnable blobs per layer type, as Caffe 1.0's LayerSetUp and Reshape set them.

Each module registers the types of one kind; `RULES` maps a type with bottoms to its rule, and `SOURCES` a
type that makes its tops from nothing.
"""

from rootgen.shape_rules import data, learned, losses, spatial, structure
from rootgen.shape_rules.common import RULES, SOURCES, Shape, Shaped

__all__ = ["RULES", "SOURCES", "Shape", "Shaped", "data", "learned", "losses", "spatial", "structure"]
