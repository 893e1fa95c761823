"""pycaffe, the embedded engine and OpenCV compute the same; each of the first two goes on from the other's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.engine import open_network, open_trainer, weights
from rootgen.net import read as nets
from rootgen.net.shapes import infer

pytestmark = [pytest.mark.caffe, pytest.mark.torch]

RELATIVE = 1e-4  # of a blob's largest value
NETS = {
    "nin": ["nin"],
    "nin root-8": ["nin", "--root", "8"],
    "nin column-4": ["nin", "--column", "4"],
    "alexnet": ["alexnet", "--column", "2"],
    "googlenet root-8": ["googlenet", "--root", "8"],
    "resnet50 root-32": ["resnet50", "--root", "32"],
    "resnet101": ["resnet101"],
    "resnet152": ["resnet152"],
    "resnet200 root-16": ["resnet200", "--root", "16"],
}
QUICK = ("nin", "nin root-8", "nin column-4", "alexnet", "googlenet root-8", "resnet50 root-32")
CASES = [pytest.param(name, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NETS]


def emitted(folder: Path, words: list[str], *more: str) -> Path:
    """The prototxt that `rootgen emit` writes."""
    path = folder / f"{'_'.join(words)}{'_'.join(more)}.prototxt"
    assert main(["emit", *words, *more, "-o", str(path)]) == 0
    return path


def random_model(deploy: Path, path: Path) -> Path:
    """A .caffemodel with weights that keep activations near 1, and statistics as after training."""
    random = np.random.default_rng(1)
    net = nets.read(deploy)
    learned = {}
    for layer in infer(net).layers:
        shapes = layer.shapes
        if layer.type == "BatchNorm":
            (channels,) = shapes.params[0]
            mean, variance = random.normal(0, 0.1, channels), random.uniform(0.5, 1.5, channels)
            learned[layer.name] = [2 * mean, 2 * variance, np.full(1, 2.0)]  # the third blob is their scale
        elif layer.type == "Scale":
            learned[layer.name] = [random.uniform(0.2, 0.6, shape) for shape in shapes.params]
        elif shapes.params:
            weight = random.normal(0, np.sqrt(2 / np.prod(shapes.params[0][1:])), shapes.params[0])
            learned[layer.name] = [weight, *(random.normal(0, 0.1, shape) for shape in shapes.params[1:])]
    weights.write(path, net.name, "TEST", net.layers, learned)
    return path


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """Blob name -> largest difference, relative to the blob's largest value."""
    return {name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in ours}


RESIDUAL = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 8 dim: 16 dim: 16 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "a" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
"""


def test_who_wants_outputs_alone_gets_the_same_bits_and_no_other_blob(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(RESIDUAL)
    network = open_network(tmp_path / "net.prototxt", engine="caffe", device="cpu")
    if not hasattr(network.caffe_net, "outputs_only"):
        pytest.skip("this Caffe is not of our series: it stores every blob")
    inputs = {"data": np.random.default_rng(2).normal(0, 1, (2, 8, 16, 16)).astype(np.float32)}
    every = network.forward(["a", "sum"], inputs)
    kept = network.caffe_net.blobs["a"].data
    kept[...] = -7
    assert np.array_equal(network.forward(["sum"], inputs)["sum"], every["sum"])
    assert (kept == -7).all()
    assert not network.caffe_net.outputs_only
    assert np.array_equal(network.forward(["a"], inputs)["a"], every["a"])


@pytest.mark.parametrize("name", CASES)
def test_every_blob_is_the_same_in_three_engines(name: str, tmp_path: Path) -> None:
    deploy = emitted(tmp_path, NETS[name], "--phase", "deploy", "--batch-size", "2")
    model = random_model(deploy, tmp_path / "random.caffemodel")
    by_caffe = open_network(deploy, weights=model, engine="caffe", device="cpu")
    by_torch = open_network(deploy, weights=model, engine="torch", device="cpu")
    assert by_caffe.blobs == by_torch.blobs
    inputs = {"data": np.random.default_rng(2).normal(0, 1, by_caffe.blobs["data"]).astype(np.float32)}
    blobs = by_caffe.forward(list(by_caffe.blobs), inputs)
    found = differences(by_torch.forward(list(by_caffe.blobs), inputs), blobs)
    assert {blob: value for blob, value in found.items() if not value < RELATIVE} == {}
    top = list(blobs)[-1]
    assert np.ptp(blobs[top]) > 1e-3 * np.abs(blobs[top]).max(), "an output without structure proves nothing"
    assert differences({top: by_opencv(deploy, model, inputs["data"])}, blobs)[top] < RELATIVE


def by_opencv(deploy: Path, model: Path, images: np.ndarray) -> np.ndarray:
    """The output of the net in OpenCV."""
    cv2 = pytest.importorskip("cv2")
    text = deploy.read_text(encoding="utf-8").replace("round_mode: FLOOR", "ceil_mode: false")
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8), np.frombuffer(model.read_bytes(), np.uint8))
    net.setInput(images)
    output: np.ndarray = net.forward()
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NiN root-8 on the embedded images: no random crop, no mirror, a step that a small batch can take."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["data", "fashion-mnist-sample", "--pad", "0", "--out", str(folder / "data")]) == 0
    net = emitted(folder, ["nin", "--root", "8"], "--batch-size", "16", "--crop", "28", "--data", str(folder / "data"))
    text = net.read_text(encoding="utf-8").replace("mirror: true", "").replace("crop_size: 28", "")
    net.write_text(text, encoding="utf-8")
    solver = f"""net: "{net}" base_lr: 0.002 lr_policy: "multistep" gamma: 0.1 stepvalue: 40 max_iter: 60 momentum: 0.9
        weight_decay: 0.0001 test_iter: 2 test_interval: 20 random_seed: 5 snapshot_prefix: "{folder}/nin"
        snapshot_after_train: false"""
    (folder / "solver.prototxt").write_text(solver, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def snapshot(run: Path) -> Path:
    """A state written by Caffe, that both engines start from."""
    trainer = open_trainer(run / "solver.prototxt", engine="caffe", device="cpu")
    for _ in range(2):
        trainer.step()
    return trainer.snapshot()[1]


def losses(run: Path, engine: str, start: Path, iterations: int) -> tuple[list[float], Path]:
    """The losses of `iterations` from the state `start` on, and the state after them."""
    trainer = open_trainer(run / "solver.prototxt", engine=engine, device="cpu")
    trainer.solver.snapshot_prefix = str(run / engine)
    trainer.restore(start)
    found = [trainer.step().loss for _ in range(iterations)]
    return found, trainer.snapshot()[1]


@pytest.mark.slow
def test_fifty_iterations_lose_alike(run: Path, snapshot: Path) -> None:
    by_caffe, _ = losses(run, "caffe", snapshot, 50)
    by_torch, _ = losses(run, "torch", snapshot, 50)
    assert by_caffe[-1] < by_caffe[0]
    np.testing.assert_allclose(by_torch, by_caffe, rtol=1e-3)


def test_each_engine_goes_on_from_the_other(run: Path, snapshot: Path) -> None:
    whole, _ = losses(run, "caffe", snapshot, 4)
    for first, second in (("caffe", "torch"), ("torch", "caffe")):
        begun, state = losses(run, first, snapshot, 2)
        ended, _ = losses(run, second, state, 2)
        np.testing.assert_allclose([*begun, *ended], whole, rtol=1e-4, err_msg=f"{first}, then {second}")


def test_tests_of_both_engines_agree(run: Path, snapshot: Path) -> None:
    found = []
    for engine in ("caffe", "torch"):
        trainer = open_trainer(run / "solver.prototxt", engine=engine, device="cpu")
        trainer.restore(snapshot)
        found.append(trainer.test()[0])
    assert found[0].keys() == found[1].keys() > {"accuracy"}
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4)
