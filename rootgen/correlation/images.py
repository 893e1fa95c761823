"""Where a model's net and images are, when nobody says: the caffemodel and its Data layer tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.correlation.responses import ImageSource
from rootgen.errors import RootgenError
from rootgen.files import locate, safe_name
from rootgen.net.read import read
from rootgen.proto import schema

if TYPE_CHECKING:
    from rootgen.net.graph import Net

SETS = ("train_lmdb", "test_lmdb")  # of a folder that `rootgen data` made
OTHER_HALF = (("train", "test"), ("train", "val"), ("test", "train"), ("val", "train"))

log = logging.getLogger("rootgen")


def find_net(model: str | Path, net: str | Path | None = None, *, lenient: bool = False) -> Net:
    """The net of `model`: the prototxt `net` where given, else the layers that the caffemodel carries."""
    if net is not None:
        return read(net, phase="TEST", lenient=lenient)
    if Path(model).suffix in (".h5", ".hdf5"):
        raise RootgenError("an HDF5 model holds weights and no net", where=model, hint="pass the net as --net")
    return read(model)


def find_images(
    model: str | Path,
    net: Net,
    *,
    net_path: str | Path | None = None,
    data: Sequence[str] = (),
    mean: str | None = None,
    lenient: bool = False,
) -> list[ImageSource]:
    """The image sets to run `model` on: `data` where given, else those of the net's Data layers.

    A folder that `rootgen data` made stands for the LMDBs in it; its mean for one that is nowhere else.
    A caffemodel's net has one Data layer, usually the training set's; the set beside it whose name says
    `test` for `train` joins it. The transform is that of the Data layer; `mean` replaces its mean.
    """
    layers = _data_layers(net)
    if net_path is not None and not str(net_path).endswith(".caffemodel"):
        layers = _data_layers(read(net_path, phase="TRAIN", lenient=lenient)) | layers
    transform = schema.TransformationParameter()
    if layers:
        schema.copy(next(reversed(layers.values())).transform_param, transform)
    if data:
        places = {place: Path(each) for each in data for place in sets_in(each)}
        names = {place: safe_name(_name(place)) for place in places}
        if len(set(names.values())) < len(names):
            names = {}
            for place in places:
                names[place] = safe_name(str(place).strip("./"), names.values())
        return [
            ImageSource(name, place, _settled(transform, model, mean, places[place])) for place, name in names.items()
        ]
    if not layers:
        raise RootgenError(
            f"the net of this model has no Data layer, so its images are not known ({net.source})",
            where=model,
            hint="pass --data LMDB, and --mean FILE where a mean is subtracted",
        )
    found: dict[Path, Any] = {}  # image set -> its transform_param
    for source, layer in layers.items():
        path = _locate(source, model)
        found.setdefault(path, _settled(layer.transform_param, model, mean))
        for beside in _beside(path) if len(layers) == 1 else ():
            log.info("%s: found beside %s, taken too", beside, path.name)
            found.setdefault(beside, found[path])
    sources: dict[str, ImageSource] = {}
    for path, settled in found.items():
        name = safe_name(_name(path), sources)
        sources[name] = ImageSource(name, path, settled)
    return list(sources.values())


def _data_layers(net: Net) -> dict[str, Any]:
    """LMDB -> LayerParameter of the net's Data layers."""
    return {layer.param.data_param.source: layer.param for layer in net.layers if layer.type == "Data"}


def sets_in(data: str | Path) -> list[Path]:
    """The LMDBs in a folder that `rootgen data` made; `data` itself where it is anything else."""
    found = [Path(data) / name for name in SETS if (Path(data) / name / "data.mdb").is_file()]
    return [Path(data)] if (Path(data) / "data.mdb").exists() or not found else found


def _settled(transform: Any, model: str | Path, mean: str | None, folder: Path | None = None) -> Any:
    """A transform_param whose mean file is found, in the last place in `folder`, or replaced by `mean`."""
    settled = schema.copy(transform, schema.TransformationParameter())
    if mean is not None:
        settled.ClearField("mean_value")
        settled.mean_file = mean
    elif settled.mean_file:
        path, other = locate(settled.mean_file, Path(model).parent), folder and folder / Path(settled.mean_file).name
        if other and other.is_file() and not path.exists():
            log.info("%s: is nowhere; taking %s", settled.mean_file, other)
            settled.mean_file = str(other)
        else:
            settled.mean_file = str(_locate(settled.mean_file, model, "--mean FILE"))
    return settled


def _locate(name: str, model: str | Path, option: str = "--data LMDB") -> Path:
    """The file or folder `name` of a Data layer, from the working folder or from one that the model is below."""
    path = locate(name, Path(model).parent)
    if path.exists():
        return path
    raise RootgenError(
        f"its Data layer reads '{name}', which is neither here nor in a folder above the model",
        where=model,
        hint=f"pass {option}, or run where the training ran",
    )


def _beside(path: Path) -> list[Path]:
    """The test set beside a training set, or the reverse."""
    others = (path.with_name(path.name.replace(one, other)) for one, other in OTHER_HALF if one in path.name)
    return [other for other in others if (other / "data.mdb").is_file()][:1]


def _name(path: str | Path) -> str:
    """Short name of an image set: the LMDB's, less a `_lmdb`; the folder's, where that says nothing."""
    path = Path(path)
    return path.name.removesuffix("_lmdb") or path.resolve().name
