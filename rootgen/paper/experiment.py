"""The paper's experiment on one architecture, step by step in one folder: data, nets, training, correlation, figures.

Every step leaves its result in the folder, whole or not at all, and is not done again: a run that was
interrupted goes on where it stopped, training from its newest snapshot. A result that was damaged since is named,
and its step done again.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen import correlation, datasets
from rootgen.correlation import block_score
from rootgen.engine import timing, train
from rootgen.engine.train_log import is_log
from rootgen.errors import RootgenError, UnknownNameError
from rootgen.files import locked, write_text
from rootgen.generator import render
from rootgen.generator.architectures import architecture, row_folder
from rootgen.grouping import ORIGINAL, Plan
from rootgen.net import cost
from rootgen.net.load import load
from rootgen.paper import plot, results, run_folder
from rootgen.proto import prototxt, schema

if TYPE_CHECKING:
    from rootgen.engine.api import StepResult
    from rootgen.progress import Report

ARCHITECTURES = ("nin",)
SETS = results.IMAGE_SETS["cifar10"]
PLANS = (ORIGINAL, Plan("root", 4), Plan("root", 8), Plan("root", 16))
PAIR = "conv2c-conv3a"  # the pair of the paper's Fig. 6
# Caffe's BatchNorm averages its statistics over about 1000 iterations, far more than a short run has.
SHORT_AVERAGE = 0.9
SNAPSHOTS_EVERY = 50  # iterations of a short run; minutes on a CPU
LOCK = ".lock"
TIMED_BATCH = 32
TIMED_ROUNDS = 3

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Settings:
    """What an experiment is made of; a folder holds results of one set of these.

    epochs: passes over the training images; None takes the paper's schedule (and its batch size and rate).
    images: of each set, for the correlation.
    """

    arch: str = "nin"
    dataset: str = "fashion-mnist-sample"
    source: str | None = None
    epochs: float | None = 2.0
    batch_size: int = 64
    base_lr: float = 0.05
    seed: int = 1
    images: int = 1000
    engine: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class Model:
    """One model of an experiment: its row's name, its plan, and its folder."""

    name: str
    plan: Plan
    folder: Path

    @property
    def train_val(self) -> Path:
        return self.folder / "train_val.prototxt"

    @property
    def solver(self) -> Path:
        return self.folder / "solver.prototxt"

    @property
    def deploy(self) -> Path:
        return self.folder / "deploy.prototxt"

    @property
    def trained(self) -> Path:
        """Written when the training is done: which file the model is, and how well it does."""
        return self.folder / "trained.json"


class Experiment:
    """The steps, in order; each returns at once where its result is there already."""

    def __init__(self, settings: Settings, out: str | Path, report: Report | None = None) -> None:
        if settings.arch not in ARCHITECTURES:
            raise UnknownNameError(f"'{settings.arch}' cannot be reproduced yet", settings.arch, ARCHITECTURES)
        if settings.dataset not in SETS:
            raise UnknownNameError(f"no images '{settings.dataset}' for this", settings.dataset, SETS)
        self.settings = settings
        self.out = Path(out)
        self.report = report
        self.arch = architecture(settings.arch)
        self.models = [self._model(plan) for plan in PLANS]
        self.data = self.out / "data"
        self.results = self.out / "results.csv"
        self._claim()

    def run(self, stop: train.Stop) -> list[results.RunResult]:
        """All steps; `stop` ends a training cleanly, with a snapshot. RootgenError where another process runs them."""
        with locked(self.out / LOCK, str(self.out)):
            self._claim()
            self.make_data()
            self.emit()
            for model in self.models:
                self.train(model, stop)
            for model in self.models:
                self.correlate(model)
            self.time()
            return self.draw()

    def make_data(self) -> None:
        """LMDBs and mean in data/."""
        if run_folder.is_done("making the data", self.data, lambda: run_folder.check_data(self.data)):
            return
        dataset = datasets.load(self.settings.dataset, self.settings.source, report=self.report)
        pad = datasets.DEFAULT_PAD[self.settings.dataset]
        datasets.save(dataset, self.data, pad=pad, force=True, report=self.report)

    def emit(self) -> None:
        """Nets and solvers, one folder per model; paths in them are seen from the working folder, as in Caffe."""
        train_val, solver = self._options()
        for model in self.models:
            own = replace(solver, net=str(model.train_val), snapshot_prefix=str(model.folder / self.arch.name))
            _write_if_new(model.train_val, render.net(self.arch, model.plan, train_val))
            _write_if_new(model.solver, render.solver(self.arch, model.plan, own))
            deploy = render.NetOptions(phase="deploy", batch_size=TIMED_BATCH)
            _write_if_new(model.deploy, render.net(self.arch, model.plan, deploy))

    def _options(self) -> tuple[render.NetOptions, render.SolverOptions]:
        """What all models' nets and solvers share: the paper's schedule, or that of a short run."""
        settings, (train_images, test_images) = self.settings, run_folder.counts(self.data)
        net = render.NetOptions(data=str(self.data))
        solver = render.SolverOptions(train_images=train_images, test_images=test_images, random_seed=settings.seed)
        if settings.epochs is None:
            return net, solver
        iterations = max(1, round(settings.epochs * train_images / settings.batch_size))
        return (
            replace(net, batch_size=settings.batch_size, moving_average_fraction=SHORT_AVERAGE),
            replace(
                solver,
                batch_size=settings.batch_size,
                base_lr=settings.base_lr,
                epochs=settings.epochs,
                snapshot=min(SNAPSHOTS_EVERY, iterations),
            ),
        )

    def train(self, model: Model, stop: train.Stop) -> None:
        """Train `model` from its newest snapshot, if it has one; KeyboardInterrupt where `stop` ended it."""
        from rootgen.engine import open_trainer

        if run_folder.is_done(f"testing {model.name}", model.trained, lambda: run_folder.trained(model.trained)):
            return
        trainer = open_trainer(model.solver, engine=self.settings.engine, device=self.settings.device)
        _set_aside_a_damaged_log(Path(f"{trainer.solver.snapshot_prefix}_log.csv"))
        try:
            train.restore_newest(trainer)
        except RootgenError as error:
            log.warning("%s: %s; training it anew", model.name, error)
        watcher = _Watcher(f"train {model.name}", trainer.solver.max_iter, self.report)
        stop.at_once = False
        try:
            outcome = train.run(trainer, watcher=watcher, stop=stop)
        finally:
            stop.at_once = True
        if outcome.stopped:
            raise KeyboardInterrupt
        tested = outcome.tests if trainer.iteration % trainer.solver.test_interval == 0 else []
        accuracy = (tested or trainer.test(watcher.testing))[0]["accuracy"]
        caffemodel = Path(f"{trainer.solver.snapshot_prefix}_iter_{trainer.iteration}.caffemodel")
        told = {"model": caffemodel.name, "accuracy": accuracy, "engine": trainer.engine, "device": trainer.device}
        write_text(model.trained, json.dumps(told, indent=2) + "\n")
        log.info("%s: accuracy %.4f after %d iterations", model.name, accuracy, trainer.iteration)

    def correlate(self, model: Model) -> None:
        """Correlation of PAIR on test and training images, in the model's correlation/."""
        scores = self._correlation(model) / "scores.csv"
        if run_folder.is_done(f"correlating {model.name}", scores, lambda: self._block_scores(model)):
            return
        trained = run_folder.trained(model.trained)
        options = correlation.CorrelationOptions(
            data=[str(self.data / name) for name in (render.TEST_LMDB, render.TRAIN_LMDB)],
            pairs=[PAIR],
            images=self.settings.images,
            engine=trained.engine,
            device=self.settings.device,
        )
        correlation.run(trained.model, self._correlation(model), options, self.report)

    def time(self) -> None:
        """Forward times of all models, in turns, so that what else the machine does falls on all alike."""
        if run_folder.is_done("timing", self._times, self._read_times):
            return
        best: dict[str, float] = {}
        for turn in range(TIMED_ROUNDS):
            for number, model in enumerate(self.models):
                taken = timing.measure(
                    model.deploy,
                    phase="TEST",
                    iterations=5,
                    backward=False,
                    engine=run_folder.trained(model.trained).engine,
                    device=self.settings.device,
                )
                per_image = taken.whole.forward / taken.batch
                best[model.name] = min(best.get(model.name, per_image), per_image)
                if self.report:
                    self.report("time", turn * len(self.models) + number + 1, TIMED_ROUNDS * len(self.models))
        write_text(self._times, json.dumps(best, indent=2) + "\n")

    def draw(self) -> list[results.RunResult]:
        """results.csv and the figures; what is in results.csv."""
        found = [self._result(model) for model in self.models]
        results.save(self.results, found)
        name = self.arch.name
        plot.draw([plot.reported(name), plot.measured(name, found)], self.out / "plots", name)
        return found

    @property
    def _times(self) -> Path:
        return self.out / "times.json"

    def _read_times(self) -> dict[str, float]:
        return run_folder.times(self._times, [model.name for model in self.models])

    def _correlation(self, model: Model) -> Path:
        return model.folder / "correlation"

    def _block_scores(self, model: Model) -> tuple[float, float]:
        """Scores of PAIR on test images by `model`'s groups: its own, and the original model's (the control)."""
        group = next(layer for layer in load(model.deploy).layers if layer.name == PAIR.split("-")[1])
        for images in ("train", "test"):
            run_folder.matrix(self._correlation(model), images, PAIR)
        original = run_folder.matrix(self._correlation(self.models[0]), "test", PAIR)
        control = block_score(original, group.param.convolution_param.group)
        return run_folder.score(self._correlation(model), PAIR), control

    def _model(self, plan: Plan) -> Model:
        name = render.row_name(self.arch, plan) or str(plan)
        return Model(name, plan, self.out / row_folder(name))

    def _claim(self) -> None:
        """Refuse a folder that holds another experiment, or something else; where it is computed may change."""
        path = self.out / "settings.json"
        mine = asdict(self.settings)
        if self.data.is_dir() and path.is_file():
            fixed = [name for name in mine if name not in ("source", "engine", "device")]
            there = run_folder.settings(path, fixed)
            other = [f"{name} {there.get(name)} (now {mine[name]})" for name in fixed if there.get(name) != mine[name]]
            if other:
                raise RootgenError(f"holds a run with {', '.join(other)}", where=self.out, hint="give another --out")
        elif self.out.is_dir() and any(
            entry not in (path, self.out / LOCK)
            and entry.suffix != ".partial"  # what a kill left of data/ or of a file
            for entry in self.out.iterdir()
        ):
            raise RootgenError("holds something else than an experiment", where=self.out, hint="give another --out")
        else:
            write_text(path, json.dumps(mine, indent=2) + "\n")

    def _result(self, model: Model) -> results.RunResult:
        trained = run_folder.trained(model.trained)
        counted = cost.count(load(model.deploy))
        block, control = self._block_scores(model)
        solver = prototxt.read(model.solver, schema.SolverParameter)
        train_images, test_images = run_folder.counts(self.data)
        batch_size = load(model.train_val, "TRAIN").layers[0].param.data_param.batch_size
        return results.RunResult(
            architecture=self.arch.name,
            model=model.name,
            dataset=self.settings.dataset,
            images=test_images,
            epochs=solver.max_iter * batch_size / train_images,
            params=counted.params,
            macs=counted.macs,
            accuracy=trained.accuracy,
            time_ms=self._read_times()[model.name],
            device=trained.device,
            engine=trained.engine,
            block_score=block,
            control_score=control,
        )


class _Watcher(train.Watcher):
    """Tells a training's progress to a Report."""

    def __init__(self, what: str, total: int, report: Report | None) -> None:
        self.what, self.total, self.report = what, total, report

    def stepped(self, result: StepResult) -> None:
        if self.report:
            self.report(self.what, result.iteration + 1, self.total)

    def testing(self, what: str, done: int, total: int) -> None:
        if self.report:
            self.report(f"{what} {self.what.removeprefix('train ')}", done, total)

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in results[0].items())
        log.info("%s: iteration %d: test %s", self.what, iteration, shown)


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _set_aside_a_damaged_log(path: Path) -> None:
    """Rename what has the name of a training's log and is none any more."""
    if path.exists() and not is_log(path):
        aside = path.with_suffix(".damaged.csv")
        log.warning("%s: no log of a training, or damaged; it is %s now", path, aside.name)
        path.replace(aside)
