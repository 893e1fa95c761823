"""Networks and trainers of the embedded engine, from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rootgen.engine import solver as solvers
from rootgen.engine.torch import device as devices
from rootgen.engine.torch.network import NetworkOptions, TorchNetwork
from rootgen.engine.torch.precision import settle
from rootgen.engine.torch.trainer import TorchTrainer
from rootgen.net.read import is_binary, read


@devices.told()
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
) -> TorchNetwork:
    """See engine.open_network. A .caffemodel's layers run as in `phase`, whatever phase they were saved in."""
    net = read(net_path, phase, lenient=lenient)
    place, chosen = Path(net_path).parent, devices.choose_device(device)
    options = NetworkOptions(phase, chosen, seed or 0, beside=place, batch=batch, read_data=read_data)
    network = TorchNetwork(net, options)
    if weights is None and is_binary(net_path):
        weights = net_path
    if weights is not None:
        network.load(weights)
    return network


@devices.told()
def open_trainer(
    solver_path: str | Path,
    *,
    device: str = "auto",
    seed: int | None = None,
    lenient: bool = False,
    precision: str = "fp32",
) -> TorchTrainer:
    """See engine.open_trainer. Device "auto" is the CPU where the solver says solver_mode: CPU."""
    solver = solvers.read(solver_path, seed, lenient=lenient)
    chosen = devices.choose_device(device, prefer_gpu=solver.solver_mode == 1)
    train, tests = open_nets(solver, solver_path, chosen, lenient=lenient, mixed=settle(precision, chosen))
    trainer = TorchTrainer(solver, solver_path, train, tests)
    trainer.load_weights(solvers.weights(solver))
    return trainer


def open_nets(
    solver: Any, solver_path: str | Path, device: torch.device, *, lenient: bool, mixed: bool, stride: int = 1
) -> tuple[TorchNetwork, list[TorchNetwork]]:
    """The train net and the test nets of a solver, with fresh weights that they share; see NetworkOptions."""
    beside = Path(solver_path).parent
    net = solvers.train_net(solver, solver_path, lenient=lenient)
    options = NetworkOptions("TRAIN", device, solver.random_seed, beside, stride=stride, mixed=mixed)
    train = TorchNetwork(net, options)
    train.named()  # refuses, before the training, what no snapshot could hold
    test_nets = solvers.test_nets(solver, solver_path, lenient=lenient)
    return train, [TorchNetwork(test, replace(options, phase="TEST"), source=train) for test in test_nets]
