"""How the embedded Fashion-MNIST sample was chosen: `python -m rootgen.datasets.sample FOLDER OUT`.

FOLDER holds the four IDX files of the full set. The sample is its first 500 training and first 100 test
images of each class, in the set's own order; running this again gives the same four files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rootgen.datasets import idx

PER_CLASS = {"train": 500, "test": 100}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices, ascending, of the first `count` occurrences of every label."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def choose(folder: str | Path, out: str | Path) -> None:
    """Write the sample of the full set in `folder` to `out`, as gzipped IDX files."""
    for part, count in PER_CLASS.items():
        whole = idx.read_set(folder, part)
        chosen = first_of_each_class(whole.labels, count)
        image_file, label_file = idx.FILES[part]
        idx.write(Path(out) / f"{image_file}.gz", np.asarray(whole.images)[chosen, 0])
        idx.write(Path(out) / f"{label_file}.gz", whole.labels[chosen])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m rootgen.datasets.sample FOLDER OUT")
    choose(*sys.argv[1:])
