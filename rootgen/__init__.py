"""Root networks for Caffe: generate, count, train, time and analyse filter groups."""

__version__ = "0.1.0"
