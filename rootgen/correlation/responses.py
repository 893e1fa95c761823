"""Responses of a trained net to the images of an LMDB, batch by batch, as its TEST phase gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from rootgen import scratch
from rootgen.correlation.moments import Moments, Pair
from rootgen.correlation.pairs import AdjacentPair
from rootgen.errors import RootgenError, standing_for
from rootgen.files import safe_name, write_text
from rootgen.proto import prototxt, schema

if TYPE_CHECKING:
    import numpy as np

    from rootgen.engine.api import Network, TensorNetwork
    from rootgen.engine.feed import Feed
    from rootgen.net.graph import Net
    from rootgen.progress import Report

INPUTS = ("Data", "Input", "ImageData", "MemoryData", "DummyData", "HDF5Data", "WindowData")


@dataclass(frozen=True)
class ImageSource:
    """An LMDB, a name for it ("train", "test"), and the transform_param that its images go through."""

    name: str
    path: Path
    transform: Any


def feed(source: ImageSource, batch_size: int) -> Feed:
    """Batches of `source` as a Data layer of the TEST phase gives them: mean, scale, centre crop, no random crop."""
    from rootgen.engine.feed import Feed
    from rootgen.net.graph import Layer

    param = schema.LayerParameter(name="data", type="Data", top=["data"])
    param.transform_param.CopyFrom(source.transform)
    param.transform_param.mirror = False
    param.data_param.source = str(source.path)
    param.data_param.batch_size = batch_size
    param.data_param.backend = schema.DataParameter.LMDB
    return Feed(Layer("data", "Data", (), ("data",), param, str(source.path)), "TEST", 0, None)


@dataclass(frozen=True)
class FedNetwork:
    """A network that is fed with images from memory, as its blob `input`."""

    network: Network
    input: str

    def moments(self, pairs: Iterable[Pair]) -> Moments:
        """What sums its responses: on the GPU, where they are made there by PyTorch."""
        if _on_gpu(self.network):
            from rootgen.correlation.device_moments import DeviceMoments

            return DeviceMoments(pairs)
        return Moments(pairs)

    def respond(self, wanted: Sequence[str], images: np.ndarray) -> Mapping[str, Any]:
        """The blobs `wanted` of one batch, as its `moments` take them: in float32.

        TF32, PyTorch's choice for a GPU's convolutions, rounds to 11 bits, which is noise far above whitening.DEAD.
        """
        if not _on_gpu(self.network):
            return self.network.forward(wanted, {self.input: images})
        from rootgen.engine.torch.precision import no_tf32

        with no_tf32():
            return self.network.tensors(wanted, {self.input: images})


def _on_gpu(network: Network) -> TypeGuard[TensorNetwork]:
    """Whether a network's responses are PyTorch's, on a CUDA device, and can stay there."""
    return network.engine == "torch" and cast("TensorNetwork", network).torch_device.type == "cuda"


def open_fed(
    net: Net,
    weights: str | Path | None,
    input_shape: tuple[int, ...],
    *,
    engine: str = "auto",
    device: str = "auto",
    seed: int | None = None,
) -> FedNetwork:
    """`net` with `weights`, fed with images from memory and without what needs labels.

    The net may be of either phase: what is opened runs in the TEST phase (running statistics, no dropout). Without
    weights it is the net as `seed` fills it, before any training, whose BatchNorm has no running statistics yet and
    takes each batch's own, as in the first iteration.
    """
    from rootgen.engine import open_network

    text, blob = fed_by_memory(net, input_shape, batch_statistics=weights is None)
    with scratch.folder("rootgen-fed-") as folder:
        path = folder / f"{safe_name(Path(weights or 'untrained').stem)}.prototxt"
        write_text(path, text, durable=False)
        with standing_for(path, net.source, lines=False):
            network = open_network(path, phase="TEST", weights=weights, engine=engine, device=device, seed=seed)
        return FedNetwork(network, blob)


def fed_by_memory(net: Net, input_shape: tuple[int, ...], *, batch_statistics: bool = False) -> tuple[str, str]:
    """The prototxt of what `net` computes of its images alone, an Input in their place; and that blob's name.

    With `batch_statistics` its BatchNorm normalises by each batch, in whatever phase.
    """
    inputs = [layer for layer in net.layers if layer.type in INPUTS]
    if len(inputs) != 1:
        found = ", ".join(f"'{layer.name}' ({layer.type})" for layer in inputs) or "none"
        raise RootgenError(f"one input layer is needed, found {found}", where=net.source)
    blob = inputs[0].tops[0]
    forks = any(schema.has_forks(layer.param) for layer in net.layers)
    fed = schema.message("NetParameter", forks=forks)(name=net.name)
    fed.layer.add(name=blob, type="Input", top=[blob]).input_param.shape.add(dim=input_shape)
    made = {blob}
    for layer in net.layers:
        if layer.bottoms and made.issuperset(layer.bottoms):
            made.update(layer.tops)
            copy = schema.copy(layer.param, fed.layer.add())
            for field in ("blobs", "include", "exclude", "phase"):  # a snapshot's layers say phase: TRAIN
                copy.ClearField(field)
            if batch_statistics and layer.type == "BatchNorm":
                copy.batch_norm_param.use_global_stats = False
    return prototxt.format(fed), blob


def gather(
    networks: Sequence[FedNetwork],
    pairs: Sequence[AdjacentPair],
    source: Feed,
    name: str,
    *,
    images: int,
    report: Report | None = None,
) -> list[Moments]:
    """Per network, the moments of the responses of `pairs` over the first `images` images of `source`: in one pass."""
    wanted = list(dict.fromkeys(blob for pair in pairs for blob in pair.blobs))
    moments = [fed.moments(pair.blobs for pair in pairs) for fed in networks]
    total = min(images, source.database.size)
    for start in range(0, total, source.batch_size):
        batch = source.batch(start // source.batch_size)["data"]
        count = min(source.batch_size, total - start)  # the last batch goes on with the first images: not counted twice
        for fed, sums in zip(networks, moments, strict=True):
            sums.add({blob: response[:count] for blob, response in fed.respond(wanted, batch).items()})
        if report:
            report(f"{name} images", start + count, total)
    return moments
