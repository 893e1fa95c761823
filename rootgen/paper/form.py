"""What the images that are trained on make of an architecture's nets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rootgen.datasets.save import MEAN_VALUES
from rootgen.engine.datum import image_of
from rootgen.files import read_bytes
from rootgen.generator import render
from rootgen.generator.architectures import architecture
from rootgen.paper import results
from rootgen.proto import schema
from rootgen.proto.database import Database

CROPS = (112, render.SMALL_CROP, 32)  # of images too small for an architecture's own


@dataclass(frozen=True)
class Form:
    """Crop, classes and mean of nets for a folder of LMDBs; None is the architecture's own."""

    crop_size: int | None = None
    classes: int | None = None
    mean: str | None = None

    @classmethod
    def of(cls, arch: str, crop: int | None, data: Path) -> Form:
        """Of the images in the folder `data`: for them `crop`, else the largest of CROPS and the own that they have."""
        its = architecture(arch)
        if its.recipe in results.IMAGE_SETS:
            return cls(crop)
        side = _image_side(data)
        return cls(
            crop or next((each for each in (its.crop, *CROPS) if each <= side), side),
            _classes(data),
            _mean(data),
        )


def _image_side(folder: Path) -> int:
    """The lesser of height and width of the first training image in `folder`."""
    where, datum = next(Database.at(folder / render.TRAIN_LMDB).read(0))
    return min(image_of(datum, schema.TransformationParameter(), where).shape[1:])


def _mean(folder: Path) -> str | None:
    """The mean image's file, else the channels' means; None where neither is there."""
    if (folder / render.MEAN_FILE).is_file():
        return str(folder / render.MEAN_FILE)
    values = folder / MEAN_VALUES
    return read_bytes(values).decode("utf-8", "replace").strip() if values.is_file() else None


def _classes(folder: Path) -> int | None:
    """How many classes the labels.txt in `folder` names; None where it is not there."""
    path = folder / "labels.txt"
    return len(read_bytes(path).splitlines()) if path.is_file() else None
