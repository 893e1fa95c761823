"""Nets run on images, to see what each convolution reads and makes: before what works in place overwrites it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.correlation.images import find_images, find_net, sets_in
from rootgen.correlation.responses import fed_by_memory, feed
from rootgen.engine.feed import Feed
from rootgen.errors import RootgenError
from rootgen.net.graph import Net
from rootgen.net.read import parse
from rootgen.proto import schema
from rootgen.text import shape_text

BATCH = 16


@dataclass
class Images:
    """The first `count` images of an image set, in batches, as a Data layer's TEST phase gives them."""

    feed: Feed
    count: int

    def batches(self) -> Iterator[np.ndarray]:
        """Images x channels x height x width, float32; from the first on each time."""
        for start in range(0, self.count, BATCH):
            yield self.feed.batch(start // BATCH)["data"][: self.count - start]

    def close(self) -> None:
        """Stop reading."""
        self.feed.close()


def open_images(
    data: str | Path, net: Net, model: str | Path, *, net_path: str | None, mean: str | None, count: int, lenient: bool
) -> Images:
    """The images in `data`, an LMDB or a folder of `rootgen data`, as the net or the model's own Data layer has them.

    RootgenError where they are of another size than the net takes, or PyTorch is not there to run it.
    """
    if not find_spec("torch"):
        raise RootgenError("--data needs PyTorch, which is not installed", hint="`pip install rootgen[torch]`")
    place = sets_in(data)[0]
    told = net
    if not any(layer.type == "Data" for layer in net.layers) and str(model).endswith(".caffemodel"):
        told = find_net(model, lenient=lenient)
    path = net_path if told is net else None
    (source,) = find_images(model, told, net_path=path, data=[str(place)], mean=mean, lenient=lenient)
    images = Images(feed(source, BATCH), 0)
    images.count = min(count, images.feed.database.size)
    wanted = [net.blobs[layer.tops[0]][1:] for layer in net.layers if not layer.bottoms][:1]
    if wanted != [images.feed.image_shape]:
        images.close()
        takes = shape_text(wanted[0]) if wanted else "none"
        raise RootgenError(
            f"images of {shape_text(images.feed.image_shape)}, but the net takes {takes}",
            where=place,
            hint="crop_size in the net's transform_param, or other images",
        )
    return images


class Runner:
    """A net in the embedded engine, whose blobs all have a name of their own."""

    def __init__(self, net: Net, blobs: Mapping[str, Sequence[np.ndarray]], image_shape: tuple[int, ...]) -> None:
        import torch

        from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

        self.net = _apart(net)
        text, self.input = fed_by_memory(self.net, (1, *image_shape))
        options = NetworkOptions("TEST", torch.device("cpu"), read_data=False)
        self.network = TorchNetwork(parse(text, "TEST", where=net.source, lenient=True), options)
        self.layers = {layer.name: layer for layer in self.net.layers}
        for name in self.network.named():
            self.set(name, blobs[name])

    def set(self, name: str, blobs: Sequence[np.ndarray]) -> None:
        """Give a layer other blobs."""
        import torch

        with torch.no_grad():
            for blob, values in zip(self.network.named()[name], blobs, strict=True):
                blob.copy_(torch.from_numpy(np.array(values, np.float32)).reshape(blob.shape))

    def inputs(self, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """What each of the layers `names` reads."""
        return self._blobs({name: self.layers[name].bottoms[0] for name in names}, images)

    def outputs(self, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """What each of the layers `names` makes."""
        return self._blobs({name: self.layers[name].tops[0] for name in names}, images)

    def _blobs(self, wanted: Mapping[str, str], images: np.ndarray) -> dict[str, np.ndarray]:
        found = self.network.forward(list(dict.fromkeys(wanted.values())), {self.input: images})
        return {name: found[blob] for name, blob in wanted.items()}


def _apart(net: Net) -> Net:
    """`net` with another name for each blob that is written again."""
    now: dict[str, str] = {}
    taken = {top for layer in net.layers for top in layer.tops}
    layers = []
    for place, layer in enumerate(net.layers):
        bottoms = tuple(now[name] for name in layer.bottoms)
        for top in layer.tops:
            name = top
            while top in now and name in taken:
                name = f"{name}@{place}"
            now[top] = name
            taken.add(name)
        tops = tuple(now[top] for top in layer.tops)
        param: Any = schema.copy(layer.param, type(layer.param)())
        for field, names in (("bottom", bottoms), ("top", tops)):
            param.ClearField(field)
            getattr(param, field).extend(names)
        layers.append(replace(layer, bottoms=bottoms, tops=tops, param=param))
    return replace(net, layers=tuple(layers))
