"""Moments of tensors, as on a GPU: against those of arrays, and from the nets' blobs to the files.

Without a GPU the same code runs on tensors of the CPU: nothing in it depends on which device they are on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import test_control
from test_correlation import SIZES

from rootgen.correlation import Moments, responses
from rootgen.correlation.study import CorrelationOptions, run
from rootgen.engine import open_network
from rootgen.errors import RootgenError

if TYPE_CHECKING:
    from rootgen.correlation.device_moments import DeviceMoments

pytestmark = pytest.mark.torch

trained = test_control.trained  # the fixture

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def on_device(pairs: list[tuple[str, str]]) -> DeviceMoments:
    from rootgen.correlation.device_moments import DeviceMoments

    return DeviceMoments(pairs)


def tensor(x: np.ndarray, device: str = "cpu", *, channels_last: bool = True) -> Any:
    """A tensor of its own, in the order in memory that a convolution leaves it in, or a fully connected layer."""
    import torch

    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.from_numpy(x.copy()).to(device).contiguous(memory_format=order)


def assert_alike(found: Moments, expected: Moments) -> None:
    """To 1e-10 of the largest covariance, in arrays of NumPy."""
    assert found.images == expected.images
    for pair in expected.pairs:
        ours, theirs = found.covariance(pair), expected.covariance(pair)
        assert (ours.samples, ours.sizes) == (theirs.samples, theirs.sizes)
        for name in ("within_earlier", "across", "within_later"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert isinstance(one, np.ndarray) and one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-10 * np.abs(other).max(), err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("few", [0, 2**16], ids=["one product", "a product per image"])
@pytest.mark.parametrize("chunk", [1, 2**30], ids=["image by image", "batch by batch"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_tensors_have_the_moments_of_arrays(
    sizes: tuple[Any, Any], chunk: int, few: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootgen.correlation import device_moments

    monkeypatch.setattr(device_moments, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(device_moments, "FEW", few)
    rng = np.random.default_rng(0)
    blobs = {
        name: np.maximum(100 + rng.standard_normal((23, channels, *size)), 99).astype(np.float32)
        for name, channels, size in (("a", 6, sizes[0]), ("b", 4, sizes[1]), ("c", 4, sizes[1]))
    }
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    found, expected = on_device(pairs), Moments(pairs)
    for start in range(0, 23, 5):  # the last batch is smaller
        batch = {name: x[start : start + 5] for name, x in blobs.items()}
        expected.add(batch)
        found.add({name: tensor(x, device, channels_last=name != "b") for name, x in batch.items()})
    assert_alike(found, expected)


def test_responses_are_left_as_they_are() -> None:
    x = tensor(np.random.default_rng(1).standard_normal((3, 2, 4, 4)))
    before = x.clone()
    on_device([("a", "b")]).add({"a": x, "b": x})
    assert (x == before).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    ok = np.ones((2, 2, 4, 4), np.float32)
    spoilt = ok.copy()
    spoilt[1, 1, 2, 3] = value
    message = r"blob 'b' holds values that are not finite \(has the training diverged\?\)"
    with pytest.raises(RootgenError, match=message):
        on_device([("a", "b")]).add({"a": tensor(ok), "b": tensor(spoilt)})
    later = on_device([("a", "b")])
    for batch in (ok, spoilt, ok):
        later.add({"a": tensor(ok), "b": tensor(batch)})
    with pytest.raises(RootgenError, match=message):
        later.covariance(("a", "b"))


def test_other_refusals_are_those_of_arrays() -> None:
    flat = tensor(np.ones((1, 2, 1, 1)))
    with pytest.raises(RootgenError, match=r"blob 'a' has shape \(1, 2\), not"):
        on_device([("a", "b")]).add({"a": flat[:, :, 0, 0], "b": flat})
    with pytest.raises(RootgenError, match="neither contains the other"):
        on_device([("a", "b")]).add({"a": tensor(np.ones((1, 2, 4, 2))), "b": tensor(np.ones((1, 2, 2, 4)))})
    single = on_device([("a", "b")])
    single.add({"a": flat, "b": flat})
    with pytest.raises(RootgenError, match="1 samples give no covariance"):
        single.covariance(("a", "b"))


def test_want_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    moments = on_device([("a", "b")])
    monkeypatch.setattr(moments, "_centred", full)
    x = tensor(np.ones((1, 2, 4, 4)))
    with pytest.raises(RootgenError, match=r"Tried to allocate 2\.00 GiB\.(?!\n)"):
        moments.add({"a": x, "b": x})


def correlated(model: Path, out: Path, data: Path, device: str) -> dict[str, np.ndarray]:
    """All numbers that a correlation of 7 images in batches of 3 leaves, trained and untrained."""
    options = CorrelationOptions(
        data=[str(data)], images=7, batch_size=3, control=True, draw=(), engine="torch", device=device
    )
    run(model, out, options)
    (row,) = csv.DictReader((out / "scores.csv").read_text().splitlines())
    found = {name: np.array(float(row[name])) for name in ("score", "untrained_score", "samples")}
    for folder in (out, out / "untrained"):
        with np.load(folder / "train.npz") as arrays:
            found |= {f"{folder.name}/{name}": arrays[name] for name in arrays.files}
    return {name.removeprefix(f"{out.name}/"): x for name, x in found.items()}


def test_a_correlation_whose_responses_stay_on_the_device(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the nets to the files, as on a GPU: no blob is copied to the host."""
    data = tmp_path / "data/train_lmdb"
    expected = correlated(trained, tmp_path / "host", data, "cpu")
    monkeypatch.setattr(responses, "_on_gpu", lambda network: network.engine == "torch")
    monkeypatch.setattr("rootgen.engine.torch.network.to_numpy", None)
    with tf32_allowed(monkeypatch) as seen:
        found = correlated(trained, tmp_path / "device", data, "cpu")
        assert set(seen) == {(False, False)}
        assert tf32() == (True, True)
    assert found.keys() == expected.keys()
    assert found["samples"] == 7 * 6 * 6  # the last batch counts with one image
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-10, atol=1e-10 * np.abs(x).max(), err_msg=name)


def tf32() -> tuple[bool, bool]:
    import torch

    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@contextmanager
def tf32_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bool, bool]]]:
    """Allow TF32 within; the list gets what of it is allowed in each pass."""
    import torch

    from rootgen.engine.torch.network import TorchNetwork

    before = tf32()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    seen: list[tuple[bool, bool]] = []
    run = TorchNetwork.run
    monkeypatch.setattr(TorchNetwork, "run", lambda *args: (seen.append(tf32()), run(*args))[1])
    try:
        yield seen
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.gpu
def test_a_correlation_on_a_gpu(trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "data/train_lmdb"
    expected = correlated(trained, tmp_path / "host", data, "cpu")
    found = correlated(trained, tmp_path / "device", data, "gpu")
    for name, x in expected.items():  # the forward passes differ in float32
        np.testing.assert_allclose(found[name], x, rtol=1e-3, atol=1e-3 * np.abs(x).max(), err_msg=name)


def test_on_the_cpu_and_in_other_engines_responses_are_arrays(trained: Path, tmp_path: Path) -> None:
    import torch

    network: Any = open_network(tmp_path / "net.prototxt", weights=trained, engine="torch", device="cpu")
    fed, pairs = responses.FedNetwork(network, "data"), [("one", "two")]
    assert type(fed.moments(pairs)) is Moments
    images = np.zeros((2, 3, 6, 6), np.float32)
    assert isinstance(fed.respond(["one"], images)["one"], np.ndarray)
    network.torch_device = torch.device("cuda", 0)  # the kind of device decides
    assert type(fed.moments(pairs)) is type(on_device(pairs))
    other: Any = SimpleNamespace(engine="onnx")
    assert type(responses.FedNetwork(other, "data").moments(pairs)) is Moments
