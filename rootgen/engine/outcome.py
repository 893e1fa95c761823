"""What a run came to, and who is told of it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootgen.engine.api import StepResult
from rootgen.engine.train_log import log_rows
from rootgen.text import Shown, Table


@dataclass(repr=False)
class TrainOutcome(Shown):
    """What a run did: the iterations it ended at and made, and where its model and state lie.

    `device` names the precision of the arithmetic too. `tests` are the results of the last test, one dict per test net;
    `stopped` is whether it was asked to stop before max_iter. `model` and `solver_state` are None where nothing was
    written in this run.
    """

    iteration: int = 0
    steps: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    images: int = 0
    loss: float = float("nan")
    tests: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    device: str = ""
    model: Path | None = None
    solver_state: Path | None = None
    log_file: Path | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The log's rows, for pandas.DataFrame: one per iteration and per test, of earlier runs it went on from too."""
        return [] if self.log_file is None else log_rows(self.log_file)

    def tables(self) -> list[Table]:
        """What the run came to."""
        rows: list[list[object]] = [["iterations made", self.steps]]
        if self.steps:
            rows.append(["loss", f"{self.loss:.4f}"])
        for number, outputs in enumerate(self.tests):
            name = f"test {number}" if number else "test"
            rows += [[f"{name}: {output}", f"{value:.4f}"] for output, value in outputs.items()]
        if self.seconds:
            rows.append(["images/s", f"{self.images / self.seconds:.1f}"])
            rows.append(["waiting for data", f"{self.data_seconds / self.seconds:.1%}"])
        files = (("model", self.model), ("solver state", self.solver_state), ("log", self.log_file))
        rows += [[name, path] for name, path in files if path is not None]
        return [Table(["run", "stopped" if self.stopped else "done"], rows, f"iteration {self.iteration}")]


class Watcher:
    """Told what happens during a run; does nothing."""

    def stepped(self, result: StepResult) -> None:
        """An iteration is done."""

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        """The test nets were run before iteration number `iteration`."""

    def testing(self, what: str, done: int, total: int) -> None:
        """`done` of `total` batches of a test are through."""

    def saved(self, model: Path, solver_state: Path) -> None:
        """A snapshot was written."""
