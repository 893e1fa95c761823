"""Caffe's solver on PyTorch: the train net, the test nets, updates, snapshots."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rootgen.engine import solver as solvers
from rootgen.engine import state
from rootgen.engine.api import StepResult
from rootgen.engine.learning_rate import current_step, learning_rate, tests_before
from rootgen.engine.torch import device as devices
from rootgen.engine.torch import updates
from rootgen.engine.torch.blobs import from_numpy, to_numpy
from rootgen.engine.torch.network import TorchNetwork
from rootgen.engine.trainer import diverged, write_snapshot
from rootgen.errors import RootgenError
from rootgen.progress import Report, silent

log = logging.getLogger("rootgen")


@dataclass
class Sums:
    """What the passes of an iteration have come to: means of the loss and of outputs, seconds waited for data."""

    outputs: dict[str, float]
    loss: float = 0.0
    waited: float = 0.0


class TorchTrainer:
    """A solver at some iteration; see engine.Trainer.

    Everything random in iteration i follows from random_seed and i, so a restored trainer goes on as one that
    was never interrupted.
    """

    engine = "torch"
    leads = True
    processes = 1  # that share out the batches of an iteration

    def __init__(self, solver: Any, where: object, train: TorchNetwork, tests: Sequence[TorchNetwork]) -> None:
        """`solver` is checked; `where` is its file; `tests` share the blobs of `train`."""
        self.solver, self.where, self.train, self.tests = solver, where, train, tests
        self.device = train.device
        self.iteration = 0
        self.train_outputs = _scalars(train)
        self.test_outputs = tuple(_scalars(net) for net in tests)
        for name in ("debug_info", "snapshot_diff"):
            if getattr(solver, name):
                log.warning("%s: %s is left out", where, name)
        self._update = updates.of(solver)
        for learnable in train.learnable:
            learnable.blob.requires_grad_(learnable.lr_mult != 0)
        rounds = range(solvers.HISTORIES[solver.type])
        self._history = [[torch.zeros_like(learnable.blob) for learnable in train.learnable] for _ in rounds]
        self._statistics = [blob for blob in train.module.buffers() if blob is not train.module._kind]
        self._kept = [torch.empty_like(blob) for blob in self._statistics]
        self._first_batch = 0  # of iteration 0, see State.first_batch
        self._losses: list[float] = []
        self._smoothed = 0.0
        self._begun_at = 0

    def step(self) -> StepResult:
        """One iteration; RootgenError, and nothing changed, where it fails, or the loss is not finite."""
        begun, iteration = time.perf_counter(), self.iteration
        with devices.told(), self._unchanged_by_failure():
            for learnable in self.train.learnable:
                learnable.blob.grad = None
            sums = self._accumulate()
            rate = learning_rate(self.solver, iteration)
            self._apply(rate)
        self._smooth(sums.loss)
        self.iteration += 1
        return StepResult(
            iteration,
            sums.loss,
            self._smoothed,
            rate,
            sums.outputs,
            self.train.batch_size * self._batches_per_iteration,
            time.perf_counter() - begun,
            sums.waited,
        )

    def test(self, report: Report = silent) -> list[dict[str, float]]:
        """Means of the scalar outputs of each test net; "loss" is added where test_compute_loss is set.

        As in Caffe a pass goes on in the data where the one before ended.
        """
        means, done = [], 0
        for net, names, count in zip(self.tests, self.test_outputs, self.solver.test_iter, strict=True):
            sums = dict.fromkeys((*names, "loss") if self.solver.test_compute_loss else names, 0.0)
            first = tests_before(self.solver, self.iteration) * count
            with torch.inference_mode(), devices.told():
                for scores in self._scores(net, list(sums), range(first, first + count)):
                    for name, score in zip(sums, scores, strict=True):
                        sums[name] += score / count
                    done += 1
                    report("test", done, sum(self.solver.test_iter))
            means.append(sums)
        return means

    def snapshot(self) -> tuple[Path, Path]:
        """Write model and state under snapshot_prefix; refused where a weight is not finite."""
        for learnable in self.train.learnable:
            if not bool(torch.isfinite(learnable.blob).all()):
                raise self._not_finite(f"weights {learnable.name} are not finite; no snapshot is written")
        history = [to_numpy(blob) for blobs in self._history for blob in blobs]
        steps = current_step(self.solver, max(self.iteration - 1, 0))
        return write_snapshot(
            self.solver,
            self.train.net,
            self.train.learned(),
            iteration=self.iteration,
            current_step=steps,
            history=history,
            batches=self._first_batch + self.iteration * self._batches_per_iteration,
            engine=self.engine,
        )

    def restore(self, path: str | Path) -> None:
        """Go on from a .solverstate; the model that it names must have every layer of the net."""
        found = state.read(path)
        blobs = [blob for blobs in self._history for blob in blobs]
        state.check_history(found, [blob.numel() for blob in blobs], self.solver.type, path)
        self.train.load(state.learned_net(found, path), whole=True)
        for blob, array in zip(blobs, found.history, strict=True):
            blob.copy_(from_numpy(array.reshape(tuple(blob.shape))))
        self.iteration = self._begun_at = found.iteration
        self._first_batch = found.first_batch(self.solver.iter_size, self.processes)
        self._losses, self._smoothed = [], 0.0

    def load_weights(self, paths: Sequence[str | Path]) -> None:
        """Copy blobs from models into the layers of the same name, each over the ones before."""
        for path in paths:
            self.train.load(path)

    @property
    def _batches_per_iteration(self) -> int:
        return int(self.solver.iter_size) * self.processes

    def _accumulate(self) -> Sums:
        """Add the gradients of iter_size passes up."""
        sums = Sums(dict.fromkeys(self.train_outputs, 0.0))
        first = self._first_batch + self.iteration * self._batches_per_iteration
        for batch in range(first, first + self.solver.iter_size):
            self._backward(self._forward(batch, sums))
        return sums

    def _forward(self, batch: int, sums: Sums) -> Tensor:
        """The loss of a pass over `batch`, to go backward from; its share of the means goes into `sums`."""
        passes, waited = self.solver.iter_size, self.train.data_seconds
        values, loss = self.train.run(batch)
        sums.waited += self.train.data_seconds - waited
        sums.loss += self._finite(values, loss) / passes
        for name in sums.outputs:
            sums.outputs[name] += values[name].item() / passes
        return loss

    def _backward(self, loss: Tensor) -> None:
        if loss.requires_grad:
            loss.backward()

    def _scores(self, net: TorchNetwork, names: Sequence[str], batches: range) -> Iterator[list[float]]:
        """The values of the outputs `names` of a test net, one list per batch, in their order."""
        outputs = _scalars(net)
        for batch in batches:
            values, loss = net.run(batch)
            yield [(values[name] if name in outputs else loss).item() for name in names]

    @contextmanager
    def _unchanged_by_failure(self) -> Iterator[None]:
        """Put statistics, which a pass changes by itself, back where an iteration does not come to its update."""
        if self._statistics:
            torch._foreach_copy_(self._kept, self._statistics)
        try:
            yield
        except Exception:
            if self._statistics:
                torch._foreach_copy_(self._statistics, self._kept)
            raise

    def _finite(self, values: dict[str, Tensor], loss: Tensor) -> float:
        """The loss as a number; RootgenError that says where the first bad value is, if it is not finite."""
        number = loss.item()
        if math.isfinite(number):
            return number
        for learnable in self.train.learnable:
            if not bool(torch.isfinite(learnable.blob).all()):
                raise self._not_finite(f"loss is {number}: weights {learnable.name} are not finite")
        for layer in self.train.net.layers:
            for top in layer.tops:
                if top in values and not bool(torch.isfinite(values[top]).all()):
                    raise self._not_finite(f"loss is {number}: first in blob '{top}' of layer '{layer.name}'")
        raise self._not_finite(f"loss is {number}")

    def _not_finite(self, what: str) -> RootgenError:
        return diverged(self.solver, self.iteration, self.where, what)

    def _apply(self, rate: float) -> None:
        """Clip, normalize, regularize and update, in Caffe's order (SGDSolver::ApplyUpdate)."""
        solver, learnables = self.solver, self.train.learnable
        with torch.no_grad():
            gradients = [learnable.blob.grad for learnable in learnables]
            updates.clip([gradient for gradient in gradients if gradient is not None], solver.clip_gradients)
            for i, learnable in enumerate(learnables):
                if learnable.lr_mult == 0:
                    continue
                blob, gradient = learnable.blob, gradients[i]
                if gradient is None:  # under no loss: Caffe's gradient is zero there, and weight decay goes on
                    gradient = torch.zeros_like(blob)
                if solver.iter_size > 1:
                    gradient.div_(solver.iter_size)
                updates.regularize(solver, learnable.decay_mult, blob, gradient)
                step = updates.Step(solver, self.iteration, rate * learnable.lr_mult)
                self._update(step, blob, gradient, [blobs[i] for blobs in self._history])

    def _smooth(self, loss: float) -> None:
        """Take a loss into the mean over the last average_loss iterations since the start or the restore."""
        if len(self._losses) < self.solver.average_loss:
            self._losses.append(loss)
        else:
            self._losses[(self.iteration - self._begun_at) % self.solver.average_loss] = loss
        self._smoothed = sum(self._losses) / len(self._losses)


def _scalars(net: TorchNetwork) -> tuple[str, ...]:
    """Output blobs that hold one number."""
    return tuple(name for name in net.outputs if math.prod(net.blobs[name]) == 1)
