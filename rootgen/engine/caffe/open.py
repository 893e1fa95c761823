"""Networks and trainers of pycaffe, from files."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from rootgen.engine import seeds
from rootgen.engine import solver as solvers
from rootgen.engine.caffe import prepare, runtime
from rootgen.engine.caffe.network import CaffeNetwork
from rootgen.engine.caffe.trainer import CaffeTrainer, Scratch
from rootgen.files import locate
from rootgen.net import forks
from rootgen.net.read import is_binary, read
from rootgen.proto import prototxt, schema

log = logging.getLogger("rootgen")

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
) -> CaffeNetwork:
    """See engine.open_network. A .caffemodel's layers run as in `phase`, whatever phase they were saved in."""
    net = read(net_path, phase, lenient=lenient)
    checked = prepare.check_net(net, phase, Path(net_path).parent, batch=batch, read_data=read_data)
    words = runtime.choose_device(device)
    caffe = runtime.pycaffe()
    with tempfile.TemporaryDirectory(prefix="rootgen-net-") as folder:
        file = Path(folder) / "net.prototxt"
        file.write_text(prepare.net_text(net_path, checked, lenient=lenient), encoding="utf-8")
        network = CaffeNetwork(caffe.Net(str(file), getattr(caffe, phase)), checked, words)
    if weights is None and is_binary(net_path):
        weights = net_path
    if weights is not None:
        network.load(weights)
    return network


def open_trainer(solver_path: str | Path, *, device: str = "auto", lenient: bool = False) -> CaffeTrainer:
    """See engine.open_trainer. Device "auto" is the CPU where the solver says solver_mode: CPU."""
    solver = solvers.read(solver_path, lenient=lenient)
    if solver.random_seed < 0:
        solver.random_seed = seeds.fresh()
        log.info("random_seed: %d (none given; put it into the solver to repeat this run)", solver.random_seed)
    beside = Path(solver_path).parent
    train = prepare.check_net(solvers.train_net(solver, solver_path, lenient=lenient), "TRAIN", beside)
    test_nets = solvers.test_nets(solver, solver_path, lenient=lenient)
    tests = [prepare.check_net(net, "TEST", beside) for net in test_nets]
    for checked in (train, *tests):
        for layer in checked.outside:
            raise layer.error(
                f"no database '{layer.param.data_param.source}'",
                "`rootgen data` makes one; relative paths start at the current folder",
            )
    words = runtime.choose_device(device, prefer_gpu=solver.solver_mode == 1)
    scratch = Scratch()
    file = scratch.path / "solver.prototxt"
    file.write_text(prototxt.format(_for_caffe(solver, beside, scratch.path, lenient=lenient)), encoding="utf-8")
    caffe_solver = runtime.pycaffe().get_solver(str(file))
    caffe_nets = [caffe_solver.net, *caffe_solver.test_nets]
    networks = [CaffeNetwork(net, checked, words) for net, checked in zip(caffe_nets, (train, *tests), strict=True)]
    trainer = CaffeTrainer(solver, solver_path, caffe_solver, scratch, networks)
    trainer.load_weights([name.strip() for field in solver.weights for name in field.split(",")])
    return trainer


def _for_caffe(solver: Any, beside: Path, scratch: Path, *, lenient: bool) -> Any:
    """The solver as Caffe gets it: nets inside, files found; testing, display and snapshots left to the caller."""
    given = schema.SolverParameter()
    given.CopyFrom(solver)
    for name in ("net", "train_net"):
        if solver.HasField(name):
            given.ClearField(name)
            _read_net(getattr(solver, name), beside, getattr(given, f"{name}_param"), lenient)
    given.ClearField("test_net")
    for name in solver.test_net:  # Caffe takes test_net_param first, then test_net: as they come here
        _read_net(name, beside, given.test_net_param.add(), lenient)
    for param in (given.net_param, given.train_net_param, *given.test_net_param):
        prepare.settle(param, beside)
    for name in ("net_param", "train_net_param"):  # reading a field of a message does not set it, settling might
        if not (solver.HasField(name) or solver.HasField(name.removesuffix("_param"))):
            given.ClearField(name)
    given.ClearField("weights")
    given.ClearField("snapshot")
    given.ClearField("display")
    given.test_initialization = False
    if given.test_iter:
        given.test_interval = NEVER
    given.snapshot_prefix = f"{scratch}/snapshot"
    return given


def _read_net(name: str, beside: Path, into: Any, lenient: bool) -> None:
    into.CopyFrom(forks.read_message(locate(name, beside), "NetParameter", lenient=lenient, told=True))
