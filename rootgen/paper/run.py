"""One run of an experiment: one row of the paper's table with one seed, in a folder of its own.

Every step leaves its result in the folder, whole or not at all, and is not done again; training goes on from its
newest snapshot. A result that was damaged since is named, and its step done again.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen import correlation
from rootgen.correlation.report import Score
from rootgen.engine import machine, place_of, train
from rootgen.engine.api import PRECISIONS
from rootgen.engine.train_log import is_log, log_rows
from rootgen.engine.trainer import remove_older, restore_newest
from rootgen.errors import RootgenError
from rootgen.files import write_text
from rootgen.generator import render
from rootgen.generator.architectures import ORIGINAL_ROW, architecture, row_folder
from rootgen.grouping import Plan
from rootgen.net import cost
from rootgen.net.load import load
from rootgen.paper import results, run_folder, timed
from rootgen.paper.form import Form
from rootgen.proto import prototxt, schema

if TYPE_CHECKING:
    from rootgen.engine.api import StepResult, Trainer
    from rootgen.engine.stop import Stop
    from rootgen.progress import Report

# A grouped convolution and the one before it. NiN's is the pair of the paper's Fig. 6, the others are our choice.
PAIRS = {
    "nin": "conv2c-conv3a",
    "alexnet": "conv3-conv4",
    "googlenet": "inception_3b/3x3_reduce-inception_3b/3x3",
    "resnet50": "res3b_branch2a-res3b_branch2b",
}
DEEPER_PAIR = "res3b1_branch2a-res3b1_branch2b"  # of the deeper ResNets
ACCURACY, LOSS = ("accuracy", "loss3/top-1"), ("loss", "loss3/loss")  # what the nets call them
# Caffe's BatchNorm averages its statistics over about 1000 iterations, far more than a short run has.
SHORT_AVERAGE = 0.95
# Peak of a short run's rate, for batches of PEAK_BATCH (other batches: in proportion), and the share of the run in
# which it rises; benchmarks/evidence/README.md tells how they were measured, on held-out training images.
PEAK_RATE, PEAK_BATCH, WARM_UP = 0.1, 128, 0.1
SNAPSHOTS_EVERY = 50  # iterations of a short run; minutes on a CPU
KEPT_SNAPSHOTS = 2  # of a short run: the newest, and one should that be damaged
CORRELATED = {"fashion-mnist-sample": 150}  # images of each set for the correlation, which takes minutes for thousands
ALL_CORRELATED = 10_000  # of other sets

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Settings:
    """What an experiment is made of; a folder holds results of one set of these, of any rows and seeds.

    epochs: passes over the training images; None takes the paper's schedule (and its batch size and rate). Else the
    rate rises in a line to base_lr in the first share `warm_up` of the run, and falls in a line to zero.
    images: of each set, for the correlation. crop: None takes the architecture's own, or what the images have (Form).
    precision: of the trainings, as open_trainer's.
    """

    arch: str = "nin"
    dataset: str = "fashion-mnist-sample"
    source: str | None = None
    epochs: float | None = 2.0
    batch_size: int = 64
    base_lr: float = PEAK_RATE * 64 / PEAK_BATCH
    warm_up: float = WARM_UP
    images: int = CORRELATED["fashion-mnist-sample"]
    engine: str = "auto"
    device: str = "auto"
    crop: int | None = None
    precision: str = PRECISIONS[0]


@dataclass(frozen=True)
class Run:
    """One row with one seed, its folder, and the folder of the experiment's data."""

    settings: Settings
    row: str
    seed: int
    out: Path
    data: Path
    report: Report | None = None

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"

    @property
    def folder(self) -> Path:
        return self.out / row_folder(self.row) / f"seed-{self.seed}"

    @property
    def train_val(self) -> Path:
        return self.folder / "train_val.prototxt"

    @property
    def solver(self) -> Path:
        return self.folder / "solver.prototxt"

    @property
    def warm_up(self) -> Path:
        """The solver of the rise, where the schedule has one."""
        return self.folder / "warm_up.prototxt"

    @property
    def deploy(self) -> Path:
        return self.folder / "deploy.prototxt"

    @property
    def correlation(self) -> Path:
        return self.folder / "correlation"

    @property
    def trained(self) -> Path:
        """Written when the training is done: which file the model is, and how well it does."""
        return self.folder / "trained.json"

    @property
    def pair(self) -> str:
        """The two convolutions whose filters are correlated."""
        return PAIRS.get(self.settings.arch, DEEPER_PAIR)

    def emit(self) -> None:
        """Nets and solver; paths in them are seen from the working folder, as in Caffe."""
        train_val, solver = self._options()
        arch, plan = architecture(self.settings.arch), Plan.named(self.row)
        own = replace(solver, net=str(self.train_val), snapshot_prefix=str(self.folder / arch.name))
        _write_if_new(self.train_val, render.net(arch, plan, train_val))
        _write_if_new(self.solver, render.solver(arch, plan, own))
        if render.short_iterations(arch, own)[1]:
            _write_if_new(self.warm_up, render.solver(arch, plan, replace(own, part="warm-up")))
        deploy = render.NetOptions(
            phase="deploy",
            batch_size=timed.paper_batch(arch.name),
            crop_size=train_val.crop_size,
            classes=train_val.classes,
        )
        _write_if_new(self.deploy, render.net(arch, plan, deploy))

    def _options(self) -> tuple[render.NetOptions, render.SolverOptions]:
        """What the net and the solver depend on: the paper's schedule, or that of a short run."""
        settings, (train_images, test_images) = self.settings, run_folder.counts(self.data)
        form = Form.of(settings.arch, settings.crop, self.data)
        net = render.NetOptions(data=str(self.data), crop_size=form.crop_size, classes=form.classes, mean=form.mean)
        solver = render.SolverOptions(train_images=train_images, test_images=test_images, random_seed=self.seed)
        if settings.epochs is None:
            return net, solver
        iterations = max(1, round(settings.epochs * train_images / settings.batch_size))
        return (
            replace(net, batch_size=settings.batch_size, moving_average_fraction=SHORT_AVERAGE),
            replace(
                solver,
                batch_size=settings.batch_size,
                iter_size=1,
                base_lr=settings.base_lr,
                epochs=settings.epochs,
                warm_up=settings.warm_up * settings.epochs,
                snapshot=min(SNAPSHOTS_EVERY, iterations),
            ),
        )

    def train(self, stop: Stop) -> None:
        """Train from the newest snapshot, if there is one; KeyboardInterrupt where `stop` ended it."""
        if run_folder.is_done(f"testing {self}", self.trained, lambda: run_folder.trained(self.trained)):
            return
        if self.warm_up.is_file():
            self._train(self.warm_up, stop)
        trainer, watcher, tests = self._train(self.solver, stop)
        tested = tests if trainer.iteration % trainer.solver.test_interval == 0 else []
        self._write_trained(trainer, (tested or trainer.test(watcher.testing))[0])

    def _train(self, solver: Path, stop: Stop) -> tuple[Trainer, _Watcher, list[dict[str, float]]]:
        """Train to the end of `solver`, from the newest snapshot; nothing where that is further on already."""
        from rootgen.engine import open_trainer

        its = self.settings
        trainer = open_trainer(solver, engine=its.engine, device=its.device, precision=its.precision)
        _set_aside_a_damaged_log(Path(f"{trainer.solver.snapshot_prefix}_log.csv"))
        try:
            restore_newest(trainer)
        except RootgenError as error:
            log.warning("%s: %s; training it anew", self, error)
        watcher = _Watcher(self, trainer.solver.snapshot_prefix)
        stop.at_once = False
        try:
            outcome = train.run(trainer, watcher=watcher, stop=stop)
        finally:
            stop.at_once = True
        if outcome.stopped:
            raise KeyboardInterrupt
        return trainer, watcher, outcome.tests

    def _write_trained(self, trainer: Trainer, tested: dict[str, float]) -> None:
        prefix = trainer.solver.snapshot_prefix
        accuracy = next(tested[name] for name in ACCURACY if name in tested)
        told = {
            "model": f"{Path(prefix).name}_iter_{trainer.iteration}.caffemodel",
            "accuracy": accuracy,
            "loss": next((tested[name] for name in LOSS if name in tested), None),
            "iterations": trainer.iteration,
            "seconds": max((row["seconds"] or 0.0 for row in log_rows(f"{prefix}_log.csv")), default=None),
            "engine": trainer.engine,
            "device": trainer.device,
            "versions": machine.versions(trainer.engine),
            "commit": machine.commit(),
        }
        write_text(self.trained, json.dumps(told, indent=2) + "\n")
        log.info("%s: accuracy %.4f after %d iterations", self, accuracy, trainer.iteration)

    def correlate(self) -> None:
        """Correlation of adjacent pairs on test and training images, and of the same net untrained."""
        if run_folder.is_done(f"correlating {self}", self.correlation / "scores.csv", self._check_correlation):
            return
        engine, device = self.place(trained := run_folder.trained(self.trained))
        options = correlation.CorrelationOptions(
            data=[str(self.data)],
            pairs=[] if self.settings.arch == "nin" else [self.pair],  # the others have up to 200
            images=self.settings.images,
            batch_size=min(self.settings.images, correlation.CorrelationOptions.batch_size),
            control=True,
            seed=self.seed,
            engine=engine,
            device=device,
        )
        correlation.run(trained.model, self.correlation, options, self.report)

    def place(self, trained: run_folder.Trained) -> tuple[str, str]:
        """Engine and device to go on with after the training: those of it, where they are here, else the settings'.

        A device that the settings name is taken as it is.
        """
        engine, device = self.settings.engine, self.settings.device
        if device == "auto" and trained.device.startswith("gpu"):
            device = "gpu"
        try:
            place_of(trained.engine, device)
        except RootgenError:
            return engine, self.settings.device
        return trained.engine, device

    def _check_correlation(self) -> None:
        """RootgenError at what is damaged, or wanting: earlier releases had no control."""
        for images in ("train", "test"):
            for untrained in (False, True):
                run_folder.matrix(self.correlation, images, self.pair, untrained=untrained)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, and their results whole."""
        try:
            run_folder.trained(self.trained)
            self._check_correlation()
        except RootgenError:
            return False
        return True

    def result(self, time_ms: float) -> results.RunResult:
        """A finished run's line of results.csv."""
        trained, score = run_folder.trained(self.trained), run_folder.score(self.correlation, self.pair)
        counted = cost.count(load(self.deploy))
        train_images, test_images = run_folder.counts(self.data)
        batch_size = load(self.train_val, "TRAIN").layers[0].param.data_param.batch_size
        solver = prototxt.read(self.solver, schema.SolverParameter)
        return results.RunResult(
            architecture=self.settings.arch,
            model=self.row,
            dataset=self.settings.dataset,
            images=test_images,
            epochs=solver.max_iter * solver.iter_size * batch_size / train_images,
            params=counted.params,
            macs=counted.macs,
            accuracy=trained.accuracy,
            time_ms=time_ms,
            device=trained.device,
            engine=trained.engine,
            block_score=score.score,
            control_score=self._original_score(score),
            seed=self.seed,
            iterations=trained.iterations,
            loss=trained.loss,
            train_seconds=trained.seconds,
            versions=trained.versions,
            commit=trained.commit,
            untrained_score=score.untrained_score,
        )

    def _original_score(self, score: Score) -> float:
        """The score of the pair in the original network of the same seed by this one's groups; nan without it."""
        original = replace(self, row=ORIGINAL_ROW)
        try:
            matrix = run_folder.matrix(original.correlation, "test", self.pair)
        except RootgenError:
            return results.NAN
        return score.blocks.score(matrix)


class _Watcher(train.Watcher):
    """Tells a training's progress to a Report, and removes snapshots of a short run that newer ones replace."""

    def __init__(self, run: Run, prefix: str) -> None:
        self.run, self.report, self.prefix = run, run.report, prefix
        self.total = prototxt.read(run.solver, schema.SolverParameter).max_iter

    def stepped(self, result: StepResult) -> None:
        if self.report:
            self.report(f"train {self.run}", result.iteration + 1, self.total)

    def testing(self, what: str, done: int, total: int) -> None:
        if self.report:
            self.report(f"{what} {self.run}", done, total)

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in results[0].items())
        log.info("train %s: iteration %d: test %s", self.run, iteration, shown)

    def saved(self, model: Path, solver_state: Path) -> None:
        if self.run.settings.epochs is not None:
            remove_older(self.prefix, KEPT_SNAPSHOTS)


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _set_aside_a_damaged_log(path: Path) -> None:
    """Rename what has the name of a training's log and is none any more."""
    if path.exists() and not is_log(path):
        aside = path.with_suffix(".damaged.csv")
        log.warning("%s: no log of a training, or damaged; it is %s now", path, aside.name)
        path.replace(aside)
