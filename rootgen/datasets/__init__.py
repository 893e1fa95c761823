"""Labelled images from where they are published to what Caffe reads: LMDBs of Datum and a mean image.

idx, cifar and folder read, sources knows the sets by name, writer and store write. Images are
uint8 of shape (channels, height, width) throughout.
"""

from rootgen.datasets.catalogue import DEFAULT_PAD, NAMES, Dataset, load
from rootgen.datasets.image_set import ImageSet
from rootgen.datasets.save import lock_of, save

__all__ = ["DEFAULT_PAD", "NAMES", "Dataset", "ImageSet", "load", "lock_of", "save"]
