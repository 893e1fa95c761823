"""Networks and trainers of pycaffe, from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rootgen import scratch
from rootgen.engine import solver as solvers
from rootgen.engine.caffe import prepare, runtime, timing
from rootgen.engine.caffe.network import CaffeNetwork
from rootgen.engine.caffe.prepare import Checked
from rootgen.engine.caffe.trainer import CaffeTrainer
from rootgen.net.read import is_binary, read
from rootgen.proto import prototxt, schema

NEVER = 2**31 - 1  # an interval that no run reaches: the trainer's caller tests, displays and snapshots


def open_network(
    net_path: str | Path,
    *,
    phase: str = "TEST",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    read_data: bool = True,
    lenient: bool = False,
    seed: int | None = None,
) -> CaffeNetwork:
    """See engine.open_network. A .caffemodel's layers run as in `phase`, whatever phase they were saved in."""
    net = read(net_path, phase, lenient=lenient)
    checked = prepare.check_net(net, phase, Path(net_path).parent, batch=batch, read_data=read_data)
    words = runtime.choose_device(device)
    prepare.check_device(checked, words.startswith("gpu"))
    caffe = runtime.pycaffe()
    with scratch.folder("rootgen-net-") as folder:
        file = folder / "net.prototxt"
        losses = {} if read_data else timing.with_loss(checked.net)  # made to be timed
        file.write_text(prepare.net_text(net_path, checked, losses, lenient=lenient), encoding="utf-8")
        if seed is not None:
            caffe.set_random_seed(seed % 2**32)
        network = CaffeNetwork(caffe.Net(str(file), getattr(caffe, phase)), checked, words)
    if weights is None and is_binary(net_path):
        weights = net_path
    if weights is not None:
        network.load(weights)
    return network


def open_trainer(
    solver_path: str | Path, *, device: str = "auto", seed: int | None = None, lenient: bool = False
) -> CaffeTrainer:
    """See engine.open_trainer. Device "auto" is the CPU where the solver says solver_mode: CPU."""
    solver = solvers.read(solver_path, seed, lenient=lenient)
    beside = Path(solver_path).parent
    train_net = solvers.train_net(solver, solver_path, lenient=lenient)
    train = prepare.check_net(train_net, "TRAIN", beside, seed=solver.random_seed)
    tests = [
        prepare.check_net(net, "TEST", beside, seed=solver.random_seed)
        for net in solvers.test_nets(solver, solver_path, lenient=lenient)
    ]
    for checked in (train, *tests):
        for layer in checked.outside:
            raise layer.error(
                f"no database '{layer.param.data_param.source}'",
                "`rootgen data` makes one; relative paths start at the current folder",
            )
    words = runtime.choose_device(device, prefer_gpu=solver.solver_mode == 1)
    for checked in (train, *tests):
        prepare.check_device(checked, words.startswith("gpu"))
    folder = scratch.Folder("rootgen-solver-")
    file = folder.path / "solver.prototxt"
    file.write_text(prototxt.format(_for_caffe(solver, folder.path, train, tests, beside)), encoding="utf-8")
    caffe_solver = runtime.pycaffe().get_solver(str(file))
    caffe_nets = [caffe_solver.net, *caffe_solver.test_nets]
    networks = [CaffeNetwork(net, checked, words) for net, checked in zip(caffe_nets, (train, *tests), strict=True)]
    trainer = CaffeTrainer(solver, solver_path, caffe_solver, folder, networks)
    trainer.load_weights(solvers.weights(solver))
    return trainer


def _for_caffe(solver: Any, folder: Path, train: Checked, tests: Sequence[Checked], beside: Path) -> Any:
    """The solver as Caffe gets it: nets inside, files found; testing, display and snapshots left to the caller."""
    given = schema.copy(solver, schema.SolverParameter())
    for name in ("net", "net_param", "train_net", "test_net", "test_net_param", "weights", "snapshot", "display"):
        given.ClearField(name)
    given.train_net_param.CopyFrom(prepare.net_param(train, beside))
    given.test_net_param.extend(prepare.net_param(test, beside) for test in tests)
    given.test_initialization = False
    if given.test_iter:
        given.test_interval = NEVER
    given.snapshot_prefix = f"{folder}/snapshot"
    given.snapshot_format = schema.SolverParameter.BINARYPROTO  # what we take the state from, whatever is written
    return given
