"""A solver that several processes run together, each with batches of its own: Caffe's data parallelism.

Process 0 leads: it says what is done next, an iteration or a test, and the others follow. Each passes batch_size
images through the net iter_size times; DistributedDataParallel averages the gradients, and all make the same update.
So any of them has what was learned.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rootgen.engine.api import StepResult
from rootgen.engine.processes import LostError
from rootgen.engine.stop import Stop
from rootgen.engine.torch import device as devices
from rootgen.engine.torch.distributed import Group
from rootgen.engine.torch.module import NetModule
from rootgen.engine.torch.network import TorchNetwork
from rootgen.engine.torch.trainer import Sums, TorchTrainer
from rootgen.engine.trainer import DivergedError
from rootgen.errors import RootgenError
from rootgen.progress import Report, silent

_END, _SHARE, _STEP, _TEST = range(4)  # what process 0 says
_BETWEEN_TALKS = 8  # batches that each process tests before they tell each other
_FINE, _FAILED, _DIVERGED = range(3)  # how a process did


class ParallelTrainer(TorchTrainer):
    """A solver at some iteration, as one of `group`'s processes has it; see engine.Trainer.

    Process 0 is used as any trainer; the others `follow`. A stop that any of them is asked for is all's, at the end of
    the same iteration. What fails in one of them fails in all; whoever finds another gone raises LostError.
    """

    def __init__(
        self,
        solver: Any,
        where: object,
        train: TorchNetwork,
        tests: Sequence[TorchNetwork],
        *,
        group: Group,
        stop: Stop,
        sync_bn: bool = False,
    ) -> None:
        super().__init__(solver, where, train, tests)
        self.group, self.stop, self.sync_bn = group, stop, sync_bn
        self.leads, self.processes = group.rank == 0, group.size
        self._shared = False  # whether all have the weights of process 0
        self._stopped = False  # whether all know of a stop: one that a process has just been asked for is its own yet
        self._pass: Any = None
        if sync_bn:
            for unit in train.units:
                unit.group = group

    def step(self) -> StepResult:
        """One iteration of all processes; as of a trainer by itself."""
        self._lead(_STEP)
        return super().step()

    def test(self, report: Report = silent) -> list[dict[str, float]]:
        """As of a trainer by itself, each process with its share of the batches; KeyboardInterrupt at a stop."""
        self._lead(_TEST)
        self.group.spread(self._statistics)
        return super().test(report)

    def restore(self, path: str | Path) -> None:
        super().restore(path)
        self._shared = False

    def load_weights(self, paths: Sequence[str | Path]) -> None:
        super().load_weights(paths)
        self._shared = False

    def follow(self) -> int:
        """Do what process 0 says until it says that this is the end; the exit code that it gives."""
        does: dict[int, Callable[[], object]] = {_SHARE: self._share, _STEP: self.step, _TEST: self.test}
        while True:
            what, code = self.group.hear(2)
            if what == _END:
                return code
            try:
                does[what]()
            except _AgreedError:
                pass
            except RootgenError as error:
                if not isinstance(error, LostError):
                    self.group.say_failure(str(error))
                raise

    def end(self, code: int) -> None:
        """As process 0, have the others end with this exit code; nothing where they have lost each other."""
        with suppress(LostError):
            if self.leads and self.group.in_step:
                self.group.say(_END, code)
            self.group.leave()

    def _lead(self, what: int) -> None:
        """As process 0, say what is done next."""
        if not self.leads:
            return
        if not self._shared:
            self.group.say(_SHARE, 0)
            self._share()
        self.group.say(what, 0)

    def _share(self) -> None:
        """Take on the weights, the histories and the place in the data that process 0 has."""
        counts = torch.tensor([self.iteration, self._first_batch])
        blobs = [learnable.blob for learnable in self.train.learnable]
        self.group.spread([counts, *blobs, *(blob for blobs in self._history for blob in blobs)])
        self.iteration, self._first_batch = counts.tolist()
        self._shared = True

    def _accumulate(self) -> Sums:
        """Gradients of this process's passes, averaged over all processes; the means of all."""
        first = self._first_batch + self.iteration * self._batches_per_iteration + self.group.rank
        batches = [first + part * self.processes for part in range(self.solver.iter_size)]
        through = self._through()
        sums = Sums(dict.fromkeys(self.train_outputs, 0.0))
        last: list[Tensor] = []

        def up_to_the_last_backward_pass() -> list[float]:
            with through.no_sync() if through is not None else nullcontext():
                for batch in batches[:-1]:
                    self._backward(self._forward(batch, sums))
            last.append(self._forward(batches[-1], sums))
            return [sums.waited, sums.loss, *sums.outputs.values()]

        found = self._agreed(up_to_the_last_backward_pass, 2 + len(sums.outputs), in_pass=self.sync_bn)
        with self.group.together():
            self._backward(last[0])
        waited, *means = zip(*found, strict=True)
        loss, *outputs = (math.fsum(values) / self.processes for values in means)
        return Sums(dict(zip(sums.outputs, outputs, strict=True)), loss, max(waited))

    def _scores(self, net: TorchNetwork, names: Sequence[str], batches: range) -> Iterator[list[float]]:
        """As of a trainer by itself, the batches dealt out to the processes one by one; each gets what all found."""
        size, width = self.processes, len(names)
        for begin in range(0, len(batches), _BETWEEN_TALKS * size):
            piece = batches[begin : begin + _BETWEEN_TALKS * size]
            scores = super()._scores(net, names, piece[self.group.rank :: size])
            told = self._agreed(partial(_flat, scores), -(-len(piece) // size) * width)
            if self._stopped:
                raise KeyboardInterrupt if self.leads else _AgreedError("stopped")
            for i in range(len(piece)):
                start = i // size * width
                yield told[i % size][start : start + width]

    def _agreed(self, work: Callable[[], list[float]], count: int, *, in_pass: bool = False) -> list[list[float]]:
        """The numbers, `count` at most, that `work` gives in each process; where it fails in one, all raise.

        `in_pass`: the others wait in the midst of it, and see that a process has failed when that leaves them.
        """
        status, numbers, error = _FINE, [], None
        try:
            with devices.told():
                numbers = work()
        except LostError:
            raise
        except RootgenError as failure:
            self.group.say_failure(str(failure))
            self.group.in_step = not in_pass
            if in_pass:
                raise
            status, error = _DIVERGED if isinstance(failure, DivergedError) else _FAILED, failure
        except BaseException:
            self.group.in_step = False
            raise
        numbers += [0.0] * (count - len(numbers))
        found = self.group.gather([status, self.stop.signal, *numbers])
        for rank, (how, *_) in enumerate(found):
            if how != _FINE:
                raise self._failure(rank, int(how), error) from error
        told = int(max(row[1] for row in found))
        self._stopped, self.stop.signal = bool(told), self.stop.signal or told
        return [row[2:] for row in found]

    def _failure(self, rank: int, how: int, error: RootgenError | None) -> RootgenError:
        """What to raise where process `rank` failed: process 0, which tells of it, as if it had failed itself."""
        if not self.leads:
            return _AgreedError(f"{self.group.who(rank)} failed")
        if error is not None:
            return error
        kind = DivergedError if how == _DIVERGED else RootgenError
        return kind(self.group.failure(rank) or "it failed", where=self.group.who(rank))

    def _through(self) -> Any:
        """The net in DistributedDataParallel, made at the first iteration; None where there is nothing to learn.

        It looks anew in each pass which weights the loss depends on. Else it would lay out its buffers otherwise after
        the first iteration, and gradients of a resumed run be summed in another order than those of an unbroken one.
        """
        if self._pass is None and any(learnable.blob.requires_grad for learnable in self.train.learnable):
            with self.group.together(), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers has another name in PyTorch 2.13
                self._pass = nn.parallel.DistributedDataParallel(
                    _Pass(self.train.module), broadcast_buffers=False, find_unused_parameters=True
                )
            self.train.through = lambda values, _: self._pass(values)
        return self._pass


def _flat(rows: Iterable[list[float]]) -> list[float]:
    return [number for row in rows for number in row]


class _AgreedError(RootgenError):
    """What all processes know of, and process 0 tells."""


class _Pass(nn.Module):
    """A pass through a net as DistributedDataParallel wants it: nothing but the loss for gradients to come from."""

    def __init__(self, net: NetModule) -> None:
        super().__init__()
        self.net = net
        self.unused = nn.Parameter(torch.zeros_like(net._kind))  # else a warning that all others are used

    def forward(self, values: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        found, loss = self.net.run(values)
        return {name: value.detach() for name, value in found.items()}, loss
