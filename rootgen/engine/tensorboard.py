"""What the log of a training says, as scalars for TensorBoard, by torch.utils.tensorboard."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootgen.engine.api import StepResult
from rootgen.errors import RootgenError
from rootgen.files import check_writable, told

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_S = 30  # between what a reader of the folder gets to see

log = logging.getLogger("rootgen")


class ScalarLog:
    """Event files in `folder`: of each iteration train/loss (Caffe's smoothed one), train/learning_rate and
    train/images_per_second, of each test net's outputs test/BLOB (test_1/BLOB, ...); steps count as the log's rows do.

    With its first iteration, a run that begins at `iteration` has TensorBoard drop what an earlier one left in the
    folder from there on; a run that makes none leaves all as it is. RootgenError where the package or the folder is
    wanting; a disk that fills up ends the scalars and not the training.
    """

    def __init__(self, folder: str | Path, iteration: int) -> None:
        self.path, self.first = Path(folder), iteration
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            missing = error.name or "tensorboard"
            hint = "pip install rootgen[torch,tensorboard]"
            raise RootgenError(f"scalars for TensorBoard need {missing}", where=folder, hint=hint) from None
        self._make: type[SummaryWriter] | None = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._hook: Callable[[threading.ExceptHookArgs], Any] | None = None
        self._waiting: list[tuple[str, float, int]] = []
        if self.path.exists() and not self.path.is_dir():
            raise RootgenError("is no folder", where=folder, hint="name another for TensorBoard")
        check_writable(self.path / "events")

    def step(self, result: StepResult) -> None:
        """Add what an iteration gave."""
        speed = result.images / result.seconds if result.seconds else 0.0
        told = {"loss": result.smoothed_loss, "learning_rate": result.learning_rate, "images_per_second": speed}
        self._add("train", told, result.iteration)
        self._write()

    def test(self, iteration: int, results: Sequence[dict[str, float]], seconds: float) -> None:
        """Add what the test nets gave."""
        for number, outputs in enumerate(results):
            self._add(f"test_{number}" if number else "test", outputs, iteration)
        if self._writer is not None:  # the first iteration may fail yet
            self._write()

    def sync(self) -> None:
        """Hand on what was added."""
        self._guarded(lambda writer: writer.flush())

    def close(self) -> None:
        """End the event file."""
        self._guarded(lambda writer: writer.close())
        self._end()

    def _add(self, group: str, values: dict[str, float], iteration: int) -> None:
        self._waiting += [(f"{group}/{name}", value, iteration) for name, value in values.items()]

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._make is not None and self._writer is None:
            self._hook = threading.excepthook
            threading.excepthook = self._quiet
            try:
                with told(self.path):
                    self._writer = self._make(str(self.path), purge_step=self.first, flush_secs=FLUSH_S)
            except RootgenError as error:
                self._give_up(error)

        def write(writer: Any) -> None:
            for name, value, iteration in waiting:
                writer.add_scalar(name, value, iteration)

        self._guarded(write)

    def _guarded(self, call: Any) -> None:
        """Call with the writer, where there is one; what its thread could not write is told once."""
        if self._writer is None:
            return
        try:
            call(self._writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("%s: cannot write (%s); TensorBoard gets no more", self.path, getattr(error, "strerror", error))
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._end()

    def _end(self) -> None:
        if self._hook is not None:
            threading.excepthook = self._hook
        self._writer = self._make = self._hook = None

    def _quiet(self, args: threading.ExceptHookArgs) -> None:
        """What the thread that writes cannot write comes up in the next call too: no traceback for that."""
        if self._hook is not None and not isinstance(args.exc_value, OSError):
            self._hook(args)
