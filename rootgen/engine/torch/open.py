"""Networks and trainers of the embedded engine, from files."""

from __future__ import annotations

from pathlib import Path

from rootgen.engine import solver as solvers
from rootgen.engine.torch import device as devices
from rootgen.engine.torch.network import NetworkOptions, TorchNetwork
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
    solver_path: str | Path, *, device: str = "auto", seed: int | None = None, lenient: bool = False
) -> TorchTrainer:
    """See engine.open_trainer. Device "auto" is the CPU where the solver says solver_mode: CPU."""
    solver = solvers.read(solver_path, seed, lenient=lenient)
    chosen = devices.choose_device(device, prefer_gpu=solver.solver_mode == 1)
    beside = Path(solver_path).parent
    net = solvers.train_net(solver, solver_path, lenient=lenient)
    train = TorchNetwork(net, NetworkOptions("TRAIN", chosen, solver.random_seed, beside))
    train.named()  # refuses, before the training, what no snapshot could hold
    options = NetworkOptions("TEST", chosen, solver.random_seed, beside)
    test_nets = solvers.test_nets(solver, solver_path, lenient=lenient)
    tests = [TorchNetwork(test, options, source=train) for test in test_nets]
    trainer = TorchTrainer(solver, solver_path, train, tests)
    trainer.load_weights([name.strip() for field in solver.weights for name in field.split(",")])
    return trainer
