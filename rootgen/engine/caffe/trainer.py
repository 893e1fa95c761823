"""Caffe's own solver behind engine.Trainer: iterations, tests, snapshots that are whole or absent."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.engine import seeds, state, weights
from rootgen.engine import solver as solvers
from rootgen.engine.api import StepResult
from rootgen.engine.caffe.network import CaffeNetwork
from rootgen.engine.caffe.runtime import pycaffe
from rootgen.engine.learning_rate import learning_rate, tests_before
from rootgen.engine.trainer import diverged, write_snapshot
from rootgen.errors import RootgenError
from rootgen.progress import Report, silent
from rootgen.scratch import Folder

log = logging.getLogger("rootgen")


class CaffeTrainer:
    """A pycaffe solver at some iteration; see engine.Trainer."""

    engine = "caffe"
    leads = True

    def __init__(
        self,
        solver: Any,
        where: object,
        caffe_solver: Any,
        scratch: Folder,
        networks: Sequence[CaffeNetwork],
    ) -> None:
        """`solver` is what the user wrote, `caffe_solver` was made to leave testing and snapshots to us.

        `networks` are the train net and the test nets of `caffe_solver`, `scratch` the folder that it writes to.
        """
        train, *tests = networks
        self.solver, self.where, self.train, self.tests = solver, where, train, tests
        self.device = train.device
        self.train_outputs = train.scalars()
        self.test_outputs = tuple(net.scalars() for net in tests)
        self._solver, self._scratch = caffe_solver, scratch
        self._losses: deque[float] = deque(maxlen=solver.average_loss)
        self._first_batch = 0  # of iteration 0; another where several processes made those before a restored state
        for net in tests:
            self._check_shared(net)

    @property
    def iteration(self) -> int:
        """Updates done so far."""
        return int(self._solver.iter)

    def step(self) -> StepResult:
        """One iteration; RootgenError, and no weight changed, where the loss is not finite."""
        begun, waited = time.perf_counter(), self.train.data_seconds
        iteration, passes = self.iteration, self.solver.iter_size
        self._seed("step", iteration)
        loss, outputs = 0.0, dict.fromkeys(self.train_outputs, 0.0)
        self.train.caffe_net.clear_param_diffs()
        for part in range(passes):
            loss += self._finite(self.train.pass_forward(self._first_batch + iteration * passes + part)) / passes
            for name in outputs:
                outputs[name] += self.train.scalar(name) / passes
            self.train.pass_backward()
        self._solver.apply_update()
        self._losses.append(loss)
        return StepResult(
            iteration,
            loss,
            sum(self._losses) / len(self._losses),
            learning_rate(self.solver, iteration),
            outputs,
            self.train.batch_size * passes,
            time.perf_counter() - begun,
            self.train.data_seconds - waited,
        )

    def test(self, report: Report = silent) -> list[dict[str, float]]:
        """Means of the scalar outputs of each test net; "loss" is added where test_compute_loss is set.

        A pass goes on in the data where the one before ended.
        """
        means, done = [], 0
        self._seed("test", self.iteration)
        for net, names, count in zip(self.tests, self.test_outputs, self.solver.test_iter, strict=True):
            first = tests_before(self.solver, self.iteration) * count
            net.caffe_net.share_with(self.train.caffe_net)
            sums = dict.fromkeys((*names, "loss") if self.solver.test_compute_loss else names, 0.0)
            for batch in range(first, first + count):
                loss = net.pass_forward(batch)
                for name in sums:
                    sums[name] += (net.scalar(name) if name in names else loss) / count
                done += 1
                report("test", done, sum(self.solver.test_iter))
            means.append(sums)
        return means

    def snapshot(self) -> tuple[Path, Path]:
        """Write model and state under snapshot_prefix; refused where a weight is not finite."""
        bad = self.train.not_finite()
        if bad.startswith("weights"):
            raise self._not_finite(f"{bad}; no snapshot is written")
        found = self._history()
        return write_snapshot(
            self.solver,
            self.train.net,
            self._learned(),
            iteration=self.iteration,
            current_step=found.current_step,
            history=found.history,
            batches=self._first_batch + self.iteration * self.solver.iter_size,
            engine=self.engine,
        )

    def restore(self, path: str | Path) -> None:
        """Go on from a .solverstate; the model that it names must have every layer of the net.

        Unlike stock Caffe, which starts again at the first record and draws anew, data, crops and dropout go on as
        those of an unbroken run. Layers that read data by themselves (ImageData) cannot: that is told.
        """
        found = state.read(path)
        state.check_history(found, self._history_sizes(), self.solver.type, path)
        self.train.load(state.learned_net(found, path), whole=True)
        folder = self._scratch.path
        model, copy = folder / "restored.caffemodel", folder / "restored.solverstate"
        weights.write(model, self.train.net.name, "TRAIN", self.train.net.layers, self._learned())
        shaped = [values.reshape(shape) for values, shape in zip(found.history, self._history_shapes(), strict=True)]
        state.write(copy, state.State(found.iteration, str(model), found.current_step, shaped))
        self._solver.restore(str(copy))
        self._first_batch = found.first_batch(self.solver.iter_size)
        self._losses.clear()
        for layer in self.train.begins_anew:
            log.warning("%s: a %s layer cannot go on in its data; it begins anew", layer.where, layer.type)

    def load_weights(self, paths: Sequence[str | Path]) -> None:
        """Copy blobs from models into the layers of the same name, each over the ones before."""
        for path in paths:
            self.train.load(path)

    def _history(self) -> state.State:
        """The solver's state, which only Caffe's own snapshot tells: taken in the scratch folder."""
        folder = self._scratch.path
        wanted = 8 * sum(self._history_sizes())  # bytes: model and history, with room to spare
        if shutil.disk_usage(folder).free < wanted:  # Caffe would end the process
            raise RootgenError(f"less than {wanted} bytes are free, no snapshot is written", where=folder)
        self._solver.snapshot()
        stem = folder / f"snapshot_iter_{self.iteration}"
        try:
            return state.read(f"{stem}.solverstate")
        finally:
            for suffix in (".solverstate", ".caffemodel"):
                stem.with_name(stem.name + suffix).unlink(missing_ok=True)

    def _seed(self, what: str, iteration: int) -> None:
        """Have all that Caffe draws (dropout, DummyData) follow from random_seed and the iteration, as in a new run."""
        pycaffe().set_random_seed(seeds.derive(self.solver.random_seed, what, iteration) % 2**32)

    def _learned(self) -> dict[str, list[np.ndarray]]:
        """Layer name -> its learnable blobs."""
        params = self.train.caffe_net.params
        return {name: [np.array(blob.data, np.float32) for blob in blobs] for name, blobs in params.items()}

    def _history_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the history blobs: of every learnable blob, those that layers share by name once."""
        shapes, seen = [], set()
        for layer in self.train.net.layers:
            for i, blob in enumerate(self.train.caffe_net.params.get(layer.name, ())):
                name = layer.param.param[i].name if i < len(layer.param.param) else ""
                if name not in seen:
                    shapes.append(tuple(blob.shape))
                seen.update({name} - {""})
        return shapes * solvers.HISTORIES[self.solver.type]

    def _history_sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self._history_shapes()]

    def _check_shared(self, net: CaffeNetwork) -> None:
        """Refuse a test net whose layers differ in their blobs, at which Caffe would end the process."""
        trained = {name: [tuple(b.shape) for b in blobs] for name, blobs in self.train.caffe_net.params.items()}
        for name, blobs in net.caffe_net.params.items():
            shapes = [tuple(blob.shape) for blob in blobs]
            if name in trained and trained[name] != shapes:
                raise RootgenError(
                    f"layer '{name}': learnable blobs {shapes} in TEST, but {trained[name]} in TRAIN", where=self.where
                )

    def _finite(self, loss: float) -> float:
        """`loss`; RootgenError that says where the first bad value is, if it is not finite."""
        if math.isfinite(loss):
            return loss
        raise self._not_finite(f"loss is {loss}: {self.train.not_finite() or 'the sum overflows'}")

    def _not_finite(self, what: str) -> RootgenError:
        return diverged(self.solver, self.iteration, self.where, what)
