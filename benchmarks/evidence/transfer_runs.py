"""The runs of transfer.py: what they start from, how they are trained, and what is left of each in its folder."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rootgen.deploy.regroup import with_weights
from rootgen.engine import machine, open_trainer, train
from rootgen.engine.api import PRECISIONS
from rootgen.engine.stop import Stop
from rootgen.engine.train_log import log_rows
from rootgen.engine.trainer import remove_older, restore_newest
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_bytes, write_text
from rootgen.generator import render
from rootgen.generator.architectures import ORIGINAL_ROW, architecture, row_folder
from rootgen.grouping import Plan
from rootgen.locks import LockedError, locked
from rootgen.paper import run_folder
from rootgen.paper.run import KEPT_SNAPSHOTS, SNAPSHOTS_EVERY
from rootgen.progress import Report
from rootgen.proto import prototxt, schema
from rootgen.transform.transform import transform

ARCH = "nin"
WAYS = ("sliced", "permuted", "fitted", "scratch")
PARTLY = "fitted"  # the way of the plans that leave layers as they are
START = "start.caffemodel"
TRAINED = "trained"  # the way of the original itself
FINE = 0.2  # the rate of nets that start from weights, as a share of that from scratch
SETTINGS = ("epochs", "batch_size", "base_lr", "warm_up", "dataset")

log = logging.getLogger("transfer")


@dataclass(frozen=True)
class Source:
    """An evidence run's folder, and how its nets are trained."""

    folder: Path
    batch_size: int
    base_lr: float
    warm_up: float
    dataset: str

    @classmethod
    def at(cls, folder: Path) -> Source:
        """RootgenError where none of short runs is there."""
        told = run_folder.settings(folder / "settings.json", SETTINGS)
        if told["epochs"] is None:
            raise RootgenError("is a run of the paper's schedule, not of a number of epochs", where=folder)
        return cls(folder.resolve(), *(told[name] for name in SETTINGS[1:]))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def original(self, seed: int) -> Path:
        return self.folder / row_folder(ORIGINAL_ROW) / f"seed-{seed}"

    def model(self, seed: int) -> Path:
        return run_folder.trained(self.original(seed) / "trained.json").model

    def text(self, seed: int) -> str:
        """Orig.'s train_val net, its data named from the root on: the run's own paths are seen from where it was."""
        net = prototxt.read(self.original(seed) / "train_val.prototxt", schema.NetParameter)
        for layer in net.layer:
            if layer.type == "Data":
                layer.data_param.source = str(self.data / Path(layer.data_param.source).name)
                layer.transform_param.mean_file = str(self.data / Path(layer.transform_param.mean_file).name)
        return prototxt.format(net)


@dataclass(frozen=True)
class Task:
    """One run: `plan` for the last `layers` layers that it groups (0: the original), and the way to the weights."""

    plan: str
    layers: int
    way: str
    seed: int
    epochs: float

    @property
    def start(self) -> str:
        """What the runs from the same weights have in common."""
        return f"{row_folder(self.plan)}-{self.layers}-{self.way}-seed-{self.seed}"

    @property
    def name(self) -> str:
        return f"{self.start}-epochs-{self.epochs:g}"


@dataclass(frozen=True)
class Result:
    """A run's line of the CSV; shares are means over the layers that got groups.

    `kept` is of the squared weights (for "fitted" of the variance that they give on images), `fitted` of the outputs'
    variance after the fit.
    """

    plan: str
    layers: int
    way: str
    seed: int
    epochs: float
    groups: str
    params: int
    macs: int
    kept: float | None
    fitted: float | None
    accuracy: float
    loss: float
    images: int
    batch_size: int
    base_lr: float
    iterations: int
    seconds: float
    dataset: str
    engine: str
    device: str
    versions: str
    commit: str


COLUMNS = [field.name for field in fields(Result)]


@dataclass
class Experiment:
    """All runs in a folder; what runs them may change from call to call."""

    out: Path
    source: Source
    fine: float
    engine: str
    device: str
    precision: str
    report: Report

    def claim(self) -> None:
        """Make the folder this experiment's; RootgenError where it holds runs of another schedule or source."""
        told = {name: getattr(self.source, name) for name in SETTINGS[1:]} | {"fine": self.fine}
        if self.precision != PRECISIONS[0]:
            told["precision"] = self.precision
        path = self.out / "settings.json"
        if path.is_file() and run_folder.settings(path, told) != told:
            raise RootgenError("holds runs of another evidence run, --fine or --precision", where=self.out)
        write_text(path, json.dumps(told, indent=2) + "\n")

    def tasks(
        self, plans: Sequence[str], ways: Sequence[str], seeds: Sequence[int], epochs: Sequence[float]
    ) -> list[Task]:
        """Shorter runs first, so that what there is after a while is whole."""
        layers = {plan: len(self.groups(plan)) for plan in plans}
        kinds = [(ORIGINAL_ROW, 0, TRAINED)]
        kinds += [(plan, layers[plan], way) for plan in plans for way in ways]
        kinds += [(plan, count, PARTLY) for plan in plans for count in range(1, layers[plan]) if PARTLY in ways]
        return [Task(*kind, seed, epoch) for epoch in sorted(epochs) for seed in seeds for kind in kinds]

    def groups(self, plan: str, seed: int = 1) -> dict[str, int]:
        """The layers that a plan groups, from the input on."""
        made = transform(self.source.text(seed), Plan.named(plan), self.source.folder)
        return {one.layer.name: one.after for one in made.changes if one.before != one.after}

    def finish(self, task: Task, stop: Stop) -> bool:
        """Do a run, unless it is done; False where another process is at work on it."""
        folder = self.out / task.name
        if _result(folder) is not None:
            return True
        try:
            with locked(folder / ".lock", str(folder)):
                if _result(folder) is None:  # nor done by another process meanwhile
                    found = self._run(task, folder, stop)
                    write_text(folder / "result.json", json.dumps(asdict(found), indent=2) + "\n")
                    log.info("%s: accuracy %.4f", task.name, found.accuracy)
        except LockedError as error:
            log.warning("passed over: %s", error)
            return False
        self.save()
        return True

    def save(self) -> None:
        """transfer.csv of all runs that are done."""
        done = [found for path in sorted(self.out.glob("*/result.json")) if (found := _result(path.parent)) is not None]
        done.sort(key=lambda one: (one["plan"], one["layers"], one["way"], one["epochs"], one["seed"]))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(done)
        write_text(self.out / "transfer.csv", text.getvalue())

    def _run(self, task: Task, folder: Path, stop: Stop) -> Result:
        start = self._start(task, folder)
        trainer = self._trained(task, folder, stop)
        tested = trainer.test(lambda what, done, total: self.report(f"{what} {task.name}", done, total))[0]
        seconds = max((row["seconds"] or 0.0 for row in log_rows(_log(folder))), default=0.0) if task.epochs else 0.0
        return Result(
            **asdict(task),
            **start,
            accuracy=tested["accuracy"],
            loss=tested["loss"],
            images=run_folder.counts(self.source.data)[1],
            batch_size=self.source.batch_size,
            base_lr=self._rate(task),
            iterations=trainer.iteration,
            seconds=seconds,
            dataset=self.source.dataset,
            engine=trainer.engine,
            device=trainer.device,
            versions=machine.versions(trainer.engine),
            commit=machine.commit(),
        )

    def _start(self, task: Task, folder: Path) -> dict[str, Any]:
        """Write the net, and the weights that it starts from; what it costs and keeps."""
        original = self.out / f"original-seed-{task.seed}.prototxt"
        text = self.source.text(task.seed)
        if not original.is_file() or original.read_text("utf-8") != text:
            write_text(original, text)
        groups = dict(list(self.groups(task.plan, task.seed).items())[-task.layers :]) if task.layers else {}
        model = self.source.model(task.seed)
        plan = Plan.of(group=groups)
        made = transform(text, plan, original)
        kept: dict[str, float | None] = {"kept": None, "fitted": None}
        if task.way == TRAINED:
            write_bytes(folder / START, read_bytes(model))
        elif task.way != "scratch":
            kept = self._same_start(task, folder) or self._new_start(task, folder, original, model, plan)
        write_text(folder / "net.prototxt", made.text)
        told = " ".join(f"{name}={group}" for name, group in groups.items())
        return {"groups": told, "params": made.after.params, "macs": made.after.macs, **kept}

    def _same_start(self, task: Task, folder: Path) -> dict[str, float | None] | None:
        """Take the start of a run that is done and differs in epochs alone, and what it keeps; None without one."""
        for other in sorted(self.out.glob(f"{task.start}-epochs-*")):
            found = _result(other)
            if found is not None and (other / START).is_file():
                write_bytes(folder / START, read_bytes(other / START))
                return {name: found[name] for name in ("kept", "fitted")}
        return None

    def _new_start(self, task: Task, folder: Path, net: Path, model: Path, plan: Plan) -> dict[str, float | None]:
        data = self.source.data if task.way == "fitted" else None
        found = with_weights(net, model, plan=plan, permute=task.way != "sliced", seed=task.seed, data=data)
        found.write_model(folder / START)
        return {
            "kept": _mean([one.permuted for one in found.kept]),
            "fitted": _mean([one.fitted for one in found.kept if one.fitted is not None]),
        }

    def _rate(self, task: Task) -> float:
        return self.source.base_lr * (1.0 if task.way == "scratch" else self.fine)

    def _trained(self, task: Task, folder: Path, stop: Stop) -> Any:
        """A trainer at the end of its run; KeyboardInterrupt where `stop` ended it before."""
        arch, options = architecture(ARCH), self._options(task, folder)
        parts = ["main"]
        if task.epochs and render.short_iterations(arch, options)[1]:
            parts.insert(0, "warm-up")
        for part in parts:
            path = folder / f"solver-{part}.prototxt"
            write_text(path, render.solver(arch, Plan(), replace(options, part=part)))
            trainer = open_trainer(path, engine=self.engine, device=self.device, precision=self.precision)
            if restore_newest(trainer) is None and task.way != "scratch":
                trainer.load_weights([folder / START])
            if task.epochs:
                self._train(trainer, task, stop)
        return trainer

    def _train(self, trainer: Any, task: Task, stop: Stop) -> None:
        stop.at_once = False
        try:
            outcome = train.run(trainer, watcher=_Watcher(task, trainer.solver, self.report), stop=stop)
        finally:
            stop.at_once = True
        if outcome.stopped:
            raise KeyboardInterrupt

    def _options(self, task: Task, folder: Path) -> render.SolverOptions:
        train_images, test_images = run_folder.counts(self.source.data)
        iterations = max(1, round(task.epochs * train_images / self.source.batch_size))
        return render.SolverOptions(
            net=str(folder / "net.prototxt"),
            snapshot_prefix=str(folder / ARCH),
            train_images=train_images,
            test_images=test_images,
            batch_size=self.source.batch_size,
            base_lr=self._rate(task),
            epochs=task.epochs or self.source.batch_size / train_images,  # of no epochs: a solver all the same
            warm_up=self.source.warm_up * task.epochs,
            snapshot=min(SNAPSHOTS_EVERY, iterations),
            random_seed=task.seed,
        )


class _Watcher(train.Watcher):
    """Tells how far a training is, and removes snapshots that newer ones replace."""

    def __init__(self, task: Task, solver: Any, report: Report) -> None:
        self.task, self.solver, self.report = task, solver, report

    def stepped(self, result: Any) -> None:
        self.report(f"train {self.task.name}", result.iteration + 1, self.solver.max_iter)

    def saved(self, model: Path, solver_state: Path) -> None:
        remove_older(self.solver.snapshot_prefix, KEPT_SNAPSHOTS)


def _log(folder: Path) -> Path:
    return folder / f"{ARCH}_log.csv"


def _mean(shares: Sequence[float]) -> float | None:
    """The geometric mean of shares, None of none."""
    return math.exp(sum(map(math.log, shares)) / len(shares)) if shares else None


def _result(folder: Path) -> dict[str, Any] | None:
    """A run's result; None where it is not done, or damaged."""
    try:
        found = json.loads((folder / "result.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and list(found) == COLUMNS else None
