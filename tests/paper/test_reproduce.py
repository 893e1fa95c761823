"""The experiment from data to figures, on a few random images, interrupted and resumed."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rootgen import datasets
from rootgen.cli import main
from rootgen.correlation.saved import read_scores
from rootgen.datasets import catalogue, idx
from rootgen.engine.datum import image_of
from rootgen.engine.learning_rate import learning_rate
from rootgen.engine.stop import Stop
from rootgen.engine.train_log import log_rows
from rootgen.errors import RootgenError
from rootgen.figures import save as figures
from rootgen.generator import architectures as tables
from rootgen.generator import render
from rootgen.grouping import Plan
from rootgen.locks import locked
from rootgen.net import read as net
from rootgen.paper import experiment as reproduce
from rootgen.paper import results, run, run_folder, summary, timed
from rootgen.paper.run import Settings
from rootgen.progress import Report
from rootgen.proto import prototxt, schema
from rootgen.proto.database import Database

IMAGES = 24


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Little to time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed, "BATCH", 1)
        patch.setattr(timed, "PASSES", 1)
        yield


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that look at the pictures which they have made."""


@pytest.fixture(autouse=True)
def drawn_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn for `unbroken` and where `drawn` is asked for; elsewhere their files stay empty."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "rendered", lambda *_: b"")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run of three iterations on IMAGES random images."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for images, labels in idx.FILES.values():
        idx.write(folder / f"{images}.gz", rng.integers(0, 256, (IMAGES, 28, 28)))
        idx.write(folder / f"{labels}.gz", np.arange(IMAGES) % 10)
    source = str(folder)
    return Settings(dataset="fashion-mnist", source=source, epochs=1, batch_size=8, images=IMAGES)


def experiment(
    settings: Settings, out: str | Path, report: Report | None = None, seeds: tuple[int, ...] = (1,)
) -> reproduce.Experiment:
    """Two rows, which is enough."""
    return reproduce.Experiment(settings, out, report, rows=("Orig.", "root-16"), seeds=seeds, rounds=1)


Run = tuple[Path, list[results.RunResult]]


@pytest.fixture(scope="module")
def unbroken(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The folder and the results of a run from beginning to end."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    return out, experiment(settings, out).run(Stop())


@pytest.mark.torch
def test_a_run_leaves_everything_and_is_not_done_twice(settings: Settings, unbroken: Run) -> None:
    out, found = unbroken
    assert [result.model for result in found] == ["Orig.", "root-16"]
    assert [result.params for result in found] == [966_986, 244_682]  # Table 2: 9.67e5 and 2.45e5
    assert [result.macs for result in found] == [222_486_528, 93_315_072]
    for result in found:
        assert result.epochs == 1
        assert 0 <= result.accuracy <= 1
        assert result.time_ms > 0
    assert np.isnan(found[0].block_score)
    assert np.isnan(found[0].untrained_score)
    assert found[1].block_score > 1.2  # a group's filters see only their own inputs, trained or not
    assert found[1].untrained_score > 1.2
    assert found[1].untrained_score != found[1].block_score
    assert found[1].control_score == pytest.approx(1, abs=0.2)
    saved = results.load(out / "results.csv")
    assert [result.accuracy for result in saved] == pytest.approx([result.accuracy for result in found], rel=1e-5)
    with (out / "times/table.csv").open() as file:
        assert [(row["model"], row["cpu_ms_paper"]) for row in csv.DictReader(file)] == [
            ("Orig.", "39.0"),
            ("root-16", "23.0"),
        ]
    for path in (
        "plots/nin.png",
        "times/nin.png",
        "plots/nin_correlation.svg",
        "root-16/seed-1/correlation/whitened.pdf",
        "root-16/seed-1/correlation/untrained/test.npz",
        "report.html",
        "orig/seed-1/correlation/train.npz",
    ):
        assert (out / path).is_file()
    with (out / "plots/nin_correlation.csv").open() as file:
        beside = list(csv.DictReader(file))
    assert [(row["net"], row["group"], row["blocks"]) for row in beside] == [("Orig.", "1", "8"), ("root-16", "8", "8")]
    assert float(beside[0]["score"]) == pytest.approx(found[1].control_score, abs=1e-3)
    assert float(beside[1]["score"]) == pytest.approx(found[1].block_score, abs=1e-3)
    assert float(beside[1]["untrained_score"]) == pytest.approx(found[1].untrained_score, abs=1e-3)
    scores = read_scores(out / "orig/seed-1/correlation")
    assert len(scores) == 16  # all pairs, of each set of images
    steps = [*out.glob("*/*/trained.json"), *out.glob("*/*/correlation/*"), *out.glob("data/*"), out / "times.json"]
    before = {path: path.stat().st_mtime_ns for path in steps}
    assert experiment(settings, out).run(Stop())[1].block_score == found[1].block_score
    assert {path: path.stat().st_mtime_ns for path in steps} == before


@pytest.mark.torch
def test_a_run_goes_on_where_its_folder_was_moved_to(tmp_path: Path, settings: Settings, unbroken: Run) -> None:
    moved = shutil.copytree(unbroken[0], tmp_path / "moved", ignore=shutil.ignore_patterns("correlation", "plots"))
    found = experiment(settings, moved).run(Stop())
    assert found[1].block_score == unbroken[1][1].block_score
    assert found[1].control_score == unbroken[1][1].control_score


@pytest.mark.torch
def test_an_interrupted_training_goes_on_from_its_snapshot(tmp_path: Path, settings: Settings, unbroken: Run) -> None:
    out = tmp_path / "out"
    stop = Stop()

    def interrupt(what: str, done: int, total: int) -> None:
        if (what, done) == ("train root-16 seed 1", 1):
            stop(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        experiment(settings, out, interrupt).run(stop)
    assert (out / "orig/seed-1" / "trained.json").is_file()
    assert not (out / "root-16/seed-1" / "trained.json").exists()
    assert (out / "root-16/seed-1" / "nin_iter_1.solverstate").is_file()
    seen: list[tuple[str, int, int]] = []
    found = experiment(settings, out, lambda *told: seen.append(told)).run(Stop())
    trained = [told for told in seen if told[0].startswith("train ") and told[0] != "train images"]
    assert trained == [("train root-16 seed 1", 2, 3), ("train root-16 seed 1", 3, 3)]
    assert [result.accuracy for result in found] == [result.accuracy for result in unbroken[1]]


def untimed(result: results.RunResult) -> tuple[object, ...]:
    """What does not depend on the machine's pace; nan as a word, which equals itself."""
    cells = asdict(replace(result, time_ms=1, train_seconds=1, commit="", versions=""))
    return tuple(str(cell) for cell in cells.values())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def of_other_content(path: Path) -> None:
    path.write_text('{"a": [1, 2]}')


RESULTS = (
    "data/test_lmdb/data.mdb",
    "orig/seed-1/train_val.prototxt",
    "orig/seed-1/solver.prototxt",
    "orig/seed-1/nin_log.csv",
    "orig/seed-1/trained.json",
    "orig/seed-1/correlation/untrained/test.npz",
    "root-16/seed-1/nin_iter_3.caffemodel",
    "root-16/seed-1/correlation/scores.csv",
    "times.json",
    "results.csv",
)
TOLD = [name for name in RESULTS if not name.endswith((".prototxt", "results.csv", "log.csv"))]  # of what is not redone


@pytest.mark.torch
@pytest.mark.parametrize("damage", [cut, zeroed, of_other_content, Path.unlink])
def test_what_was_damaged_is_named_and_made_again(
    tmp_path: Path,
    settings: Settings,
    unbroken: Run,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    out = shutil.copytree(unbroken[0], tmp_path / "out")
    for name in RESULTS:
        damage(out / name)
    found = experiment(settings, out).run(Stop())
    assert [untimed(result) for result in found] == [untimed(result) for result in unbroken[1]]
    for name in TOLD if damage is not Path.unlink else ():
        assert any(message.startswith(str(out / name.removesuffix("/data.mdb"))) for message in caplog.messages), name
    for name in ("orig/seed-1/train_val.prototxt", "orig/seed-1/solver.prototxt"):
        assert (out / name).read_text() == (unbroken[0] / name).read_text().replace(str(unbroken[0]), str(out)), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seconds", 10**400, None),
        ("loss", -(10**400), None),
        ("loss", "much", None),
        ("accuracy", 10**400, "accuracy is 1000"),
        ("iterations", 0.5, "iterations is 0.5, not a whole number"),
        ("model", "a\0b", "no name that a file can have"),
        ("model", "\ud800", "no name that a file can have"),
        ("model", "..", "cannot read"),
        ("engine", ["torch"], "what trained it"),
        ("versions", "9" * 2**20, "1 MiB are too large"),
    ],
)
def test_a_strangers_trained_json(unbroken: Run, tmp_path: Path, name: str, value: object, message: str | None) -> None:
    there = unbroken[0] / "orig/seed-1/trained.json"
    content = json.loads(there.read_text())
    shutil.copy(there.parent / content["model"], tmp_path)
    (tmp_path / "trained.json").write_text(json.dumps({**content, name: value}))
    if message is None:
        assert math.isnan(getattr(run_folder.trained(tmp_path / "trained.json"), name))
        return
    with pytest.raises(RootgenError, match=message):
        run_folder.trained(tmp_path / "trained.json")


def test_a_folder_where_a_result_should_be_is_one_line(tmp_path: Path, settings: Settings, unbroken: Run) -> None:
    out = shutil.copytree(unbroken[0], tmp_path / "out")
    (out / "times.json").unlink()
    (out / "times.json").mkdir()
    with pytest.raises(RootgenError, match=r"times\.json: cannot write: Is a directory"):
        experiment(settings, out).run(Stop())


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"arch": "nin"}'])
def test_without_its_settings_nobody_knows_what_a_folder_holds(
    tmp_path: Path, settings: Settings, content: str
) -> None:
    experiment(settings, tmp_path / "out").prepare()
    (tmp_path / "out/settings.json").write_text(content)
    with pytest.raises(RootgenError, match=r"settings\.json: .*nobody knows what the folder holds: give another --out"):
        experiment(settings, tmp_path / "out")


@pytest.mark.torch
def test_two_share_a_folder_and_nothing_is_done_or_counted_twice(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    second: list[list[results.RunResult]] = []
    trained: list[str] = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if what.startswith("train ") and "images" not in what and done == 1:
            trained.append(what)
        if what == "train Orig. seed 1" and not second:
            second.append([])
            second[0] += experiment(settings, out, meanwhile).run(Stop())

    found = experiment(settings, out, meanwhile).run(Stop())
    assert trained == ["train Orig. seed 1", "train root-16 seed 1"]
    told = [message for message in caplog.messages if "passed over" in message]
    assert told
    assert all(
        message.startswith(f"Orig. seed 1: passed over: {out / 'orig/seed-1'}: process {os.getpid()} on ")
        for message in told
    )
    assert [result.model for result in second[0]] == ["root-16"]
    assert np.isnan(second[0][0].time_ms)  # times are for whoever is last
    assert np.isnan(second[0][0].control_score)  # as Orig. was not trained yet
    assert [(result.model, result.seed) for result in found] == [("Orig.", 1), ("root-16", 1)]
    assert [(result.model, result.seed) for result in results.load(out / "results.csv")] == [
        ("Orig.", 1),
        ("root-16", 1),
    ]
    assert found[1].time_ms > 0
    assert found[1].control_score == pytest.approx(1, abs=0.2)
    assert not list(out.rglob("*.lock"))


@pytest.mark.torch
def test_a_run_that_lacked_its_correlation_alone_is_in_the_results_when_it_is_done(
    tmp_path: Path, settings: Settings, unbroken: Run
) -> None:
    out = shutil.copytree(unbroken[0], tmp_path / "out")
    shutil.rmtree(out / "orig/seed-1/correlation")
    (out / "results.csv").unlink()
    seen: list[list[str]] = []

    def look(what: str, done: int, total: int) -> None:  # once root-16 is at work, Orig. is done
        if what.startswith("time") and not seen:
            seen.append([result.model for result in results.load(out / "results.csv")])

    (out / "times.json").unlink()
    experiment(settings, out, look).run(Stop())
    assert seen == [["Orig.", "root-16"]]


@pytest.mark.torch
@pytest.mark.parametrize("row", ["Orig.", "root-16"])
def test_a_finished_run_goes_into_the_results_without_reading_all_others(
    row: str, tmp_path: Path, settings: Settings, unbroken: Run
) -> None:
    out = shutil.copytree(unbroken[0], tmp_path / "out")
    true = results.load(out / "results.csv")
    shutil.rmtree(out / tables.row_folder(row) / "seed-1/correlation")
    marked = [replace(line, loss=7.0, control_score=results.NAN) for line in true]
    results.save(out / "results.csv", marked)
    (out / "times.json").unlink()
    seen: list[list[results.RunResult]] = []

    def look(what: str, done: int, total: int) -> None:
        if what.startswith("time") and not seen:
            seen.append(results.load(out / "results.csv"))

    found = experiment(settings, out, look).run(Stop())
    original, root = seen[0]
    assert (original.model, root.model) == ("Orig.", "root-16")
    assert (original.loss == 7) == (row == "root-16")  # as it was
    assert root.loss != 7  # its control score is of Orig., whichever of the two was done last
    assert root.control_score == pytest.approx(found[1].control_score, rel=1e-5)  # written with six digits
    assert [line.loss for line in results.load(out / "results.csv")] == [line.loss for line in true]


def test_a_folder_whose_data_are_being_made_is_this_experiments(tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(datasets.lock_of(out / "data"), "data"):
        (out / "settings.json").write_text(json.dumps(asdict(settings)))
        experiment(settings, out)


@pytest.mark.torch
def test_more_seeds_go_into_the_same_folder(tmp_path: Path, settings: Settings, unbroken: Run) -> None:
    out = shutil.copytree(unbroken[0], tmp_path / "out")
    found = experiment(settings, out, seeds=(2,)).run(Stop())
    assert [(result.model, result.seed) for result in found] == [
        ("Orig.", 1),
        ("Orig.", 2),
        ("root-16", 1),
        ("root-16", 2),
    ]
    assert found[0].accuracy == unbroken[1][0].accuracy
    solver = prototxt.read(out / "root-16/seed-2/solver.prototxt", schema.SolverParameter)
    assert solver.random_seed == 2
    weights = [(out / f"root-16/seed-{seed}/nin_iter_3.caffemodel").read_bytes() for seed in (1, 2)]
    assert weights[0] != weights[1]
    with (out / "plots/nin.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    assert [(row["model"], row["n"]) for row in rows] == [("Orig.", "2"), ("root-16", "2")]
    for result in found:
        assert result.iterations == 3
        assert result.loss > 0
        assert result.train_seconds > 0
        assert "torch" in result.versions or "caffe" in result.versions


@pytest.mark.torch
def test_minutes_end_a_run_as_an_interrupt_does(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["reproduce", "nin", "--out", str(out), "--data", "fashion-mnist", "--source", str(settings.source)]
    words += ["--epochs", "400", "--batch-size", "8", "--rows", "root-16", "--minutes", "0.1"]
    assert main(words) == 130
    error = capsys.readouterr().err
    assert "--minutes 0.1 are over" in error
    assert f"{out}: stopped; the same command goes on from here" in error
    made = sorted((out / "root-16/seed-1").glob("nin_iter_*.solverstate"))
    assert 1 <= len(made) <= run.KEPT_SNAPSHOTS
    assert not (out / "results.csv").exists()


def test_rows_are_named_or_globs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arch = tables.architecture("nin")
    assert reproduce.rows_of(arch, ["tree-8", "Orig.", "column-8"]) == ("Orig.", "column-8", "tree-8")
    assert reproduce.rows_of(arch, ["root-*", "root-8"]) == ("root-2", "root-4", "root-8", "root-16", "root-32")
    for rows, hint in (("root-7", "did you mean 'root-"), ("orig", "did you mean 'Orig.'?"), ("x*", "known: Orig., ")):
        assert main(["reproduce", "nin", "--rows", f"tree-2,{rows}", "--out", str(tmp_path / "new")]) == 2
        error = capsys.readouterr().err
        assert f"nin has no row '{rows}' ({hint}" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("seeds", ["1..", "..2", "3..1", "0", "1,,2", "", "a", "1..99999", "-1"])
def test_seeds_that_are_none(capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "nin", f"--seeds={seeds}"])
    assert stopped.value.code == 2
    assert f"'{seeds}' is no seeds, from 1: such as 3, 1..5 or 1,2,7" in capsys.readouterr().err


def test_a_folder_of_an_earlier_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "settings.json").write_text(json.dumps({"arch": "nin", "seed": 3}))
    with pytest.raises(RootgenError, match=r"settings\.json: is of an earlier release's run, of seed 3 alone"):
        experiment(Settings(), tmp_path)


def test_what_a_table_says_of_replicates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = [
        results.RunResult("nin", model, "cifar10", 9, 2, 9, 9, accuracy + shift, 2.0, "CPU", "torch", seed=seed)
        for model, accuracy in (("Orig.", 0.81), ("root-8", 0.8095), ("column-8", 0.79))
        for seed, shift in ((1, 0.001), (2, -0.001), (3, 0.0))
    ]
    table = summary.table(tables.architecture("nin"), results.replicates(found))
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["this run's"] for row in cells] == ["0.8100 ± 0.0010 (3)", "0.8095 ± 0.0010 (3)", "0.7900 ± 0.0010 (3)"]
    assert [row["to Orig."] for row in cells] == ["-", "-0.0005, within", "-0.0200"]
    assert [row["paper's accuracy"] for row in cells] == [".9211", ".9215", "0.9192*"]
    assert "*: the author's thesis data" in str(table.title)


@pytest.mark.torch
def test_a_run_of_another_machine_is_gone_on_with_here(tmp_path: Path) -> None:
    import torch

    here, gpu = "cpu (a processor)", "gpu (a GPU, FP32 convolutions)"
    for engine, device, trained, expected in (
        ("torch", "auto", ("torch", here), ("torch", "auto")),
        ("torch", "cpu", ("torch", gpu), ("torch", "cpu")),
        ("torch", "auto", ("torch", gpu), ("torch", "gpu" if torch.cuda.is_available() else "auto")),
        ("torch", "cpu", ("an engine of tomorrow", here), ("torch", "cpu")),
    ):
        one = run.Run(Settings(engine=engine, device=device), "Orig.", 1, tmp_path, tmp_path)
        assert one.place(run_folder.Trained(tmp_path / "x.caffemodel", 0.5, *trained)) == expected


@pytest.mark.torch
def test_the_precision_is_the_trainers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--rows", "root-16", "--epochs", "0.02", "--engine", "torch", "--device", "cpu", "--precision", "tf32"]
    assert main(["reproduce", "nin", "--out", str(tmp_path / "out"), *words]) == 1
    assert "TF32 is an arithmetic of GPUs" in capsys.readouterr().err


def test_other_settings_and_other_folders_are_refused(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    experiment(settings, out)
    experiment(Settings(epochs=2), out)  # nothing is made yet
    (out / ".data.x.partial").mkdir(parents=True)  # what a kill leaves
    experiment(settings, out).prepare()
    with pytest.raises(RootgenError, match=r"holds a run with .*epochs 1 .now 2."):
        experiment(Settings(epochs=2), out)
    with pytest.raises(RootgenError, match=r"holds a run with precision fp32 .now bf16."):
        experiment(replace(settings, precision="bf16"), out)
    experiment(replace(settings, source="elsewhere", device="cpu"), out)
    with pytest.raises(RootgenError, match="holds something else"):
        experiment(settings, str(settings.source))
    (out / "settings.json").write_text("{")
    with pytest.raises(RootgenError, match="not JSON"):
        experiment(settings, out)
    for words, code, message in (
        (["resnet5"], 2, "no architecture 'resnet5' (did you mean 'resnet50'?)"),
        (["nin", "--full", "--epochs", "3"], 2, "--full has its own schedule and takes no --epochs"),
        (["nin", "--data", "fashion-minst", "--out", str(tmp_path / "new")], 2, "did you mean 'fashion-mnist'?"),
        (["nin", "--data", "folder", "--out", str(tmp_path / "new")], 2, "no images 'folder' for this"),
    ):
        assert main(["reproduce", *words]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    for words in (["nin", "--epochs", "0"], ["nin", "--epochs", "many"], ["nin", "--batch-size", "0"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["reproduce", *words])
        assert stopped.value.code == 2


def test_a_short_schedule_is_as_long_as_its_epochs() -> None:
    arch = tables.architecture("nin")
    options = render.SolverOptions(train_images=5000, test_images=1000, batch_size=64, base_lr=0.05, epochs=2)
    text = render.solver(arch, Plan("root", 8), options)
    assert "A short run of 2 epochs" in text
    solver = prototxt.parse(text, schema.SolverParameter)
    assert (solver.max_iter, solver.lr_policy, solver.power, solver.base_lr) == (156, "poly", 1, pytest.approx(0.05))
    assert list(solver.test_iter) == [10]
    assert (solver.test_interval, solver.test_initialization) == (156, False)
    assert not solver.HasField("gamma")
    assert not solver.stepvalue
    short = render.NetOptions(batch_size=64, data="data", moving_average_fraction=0.9)
    text = render.net(arch, Plan("root", 8), short)
    layers = {layer.name: layer for layer in net.parse(text, "TRAIN").layers}
    assert layers["data"].param.data_param.batch_size == 64
    assert layers["data"].param.data_param.source == "data/train_lmdb"
    averages = [layer for layer in layers.values() if layer.type == "BatchNorm"]
    assert len(averages) == 8
    for layer in averages:
        assert layer.param.batch_norm_param.moving_average_fraction == pytest.approx(0.9)


def test_a_rise_and_a_fall_are_two_solvers_and_meet_at_the_peak() -> None:
    arch = tables.architecture("nin")
    options = render.SolverOptions(train_images=5000, batch_size=50, epochs=2, warm_up=0.5)
    rise, fall = (
        prototxt.parse(render.solver(arch, options=replace(options, part=part)), schema.SolverParameter)
        for part in ("warm-up", "main")
    )
    assert (rise.max_iter, fall.max_iter) == (50, 200)
    assert rise.snapshot_prefix == fall.snapshot_prefix
    rates = [learning_rate(rise, i) for i in range(50)] + [learning_rate(fall, i) for i in range(50, 200)]
    assert rates[50] == pytest.approx(0.1, rel=1e-5)  # the recipe's base_lr
    steps = np.diff([0.0, *rates, 0.0])
    assert steps[:51] == pytest.approx([0.1 / 51] * 51, rel=1e-3)
    assert steps[51:] == pytest.approx([-0.1 / 150] * 150, rel=1e-3)
    assert f"-snapshot {fall.snapshot_prefix}_iter_50.solverstate" in render.solver(arch, options=options)


@pytest.mark.torch
def test_a_rise_that_was_interrupted_goes_on_and_both_parts_make_one_run(tmp_path: Path, settings: Settings) -> None:
    longer = replace(settings, epochs=4, warm_up=0.5)  # 12 iterations, 6 of them rising
    unbroken = reproduce.Experiment(longer, tmp_path / "unbroken", rows=("root-16",), rounds=1).run(Stop())
    stop = Stop()

    def interrupt(what: str, done: int, total: int) -> None:
        if (what, done) == ("train root-16 seed 1", 3):
            stop(signal.SIGINT)

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        reproduce.Experiment(longer, broken, interrupt, rows=("root-16",), rounds=1).run(stop)
    found = reproduce.Experiment(longer, broken, rows=("root-16",), rounds=1).run(Stop())
    assert [untimed(result) for result in found] == [untimed(result) for result in unbroken]
    rows = log_rows(broken / "root-16/seed-1/nin_log.csv")
    rates = [row["learning_rate"] for row in rows if row["phase"] == "train"]
    assert len(rates) == 12
    assert max(rates) == rates[6] == pytest.approx(settings.base_lr)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--warm-up", "1"], "give --epochs"),
        (["--part", "warm-up"], "give --epochs"),
        (["--epochs", "3", "--part", "warm-up"], "no warm-up is asked for"),
        (["--epochs", "3", "--warm-up", "3"], "a warm-up of 3 epochs in a run of 3"),
        (["--epochs", "3", "--max-iter", "9"], "keep one of them"),
        (["--epochs", ".001", "--warm-up", ".0001", "--part", "warm-up"], "no warm-up in 1 iterations"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["solver", "nin", *words]) == 1
    assert told in capsys.readouterr().err


def test_an_average_that_keeps_more_than_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emit", "nin", "--moving-average-fraction", "1.5"]) == 1
    assert "at most 1" in capsys.readouterr().err
    assert main(["emit", "nin", "--moving-average-fraction", "0.98"]) == 0
    assert capsys.readouterr().out.count("moving_average_fraction: 0.98") == 8


def test_the_full_schedule_is_the_recipes_own() -> None:
    arch = tables.architecture("nin")
    assert "moving_average_fraction" not in render.net(arch, Plan("root", 8))
    solver = prototxt.parse(render.solver(arch, Plan("root", 8)), schema.SolverParameter)
    assert (solver.max_iter, list(solver.stepvalue)) == (64_000, [32_000, 48_000])


def test_settings_of_the_command_line(tmp_path: Path) -> None:
    import argparse

    from rootgen.cli.commands import reproduce as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    default = command.settings(parser.parse_args(["nin"]))
    assert default == Settings()
    full = command.settings(parser.parse_args(["nin", "--full"]))
    assert (full.dataset, full.epochs, full.images) == ("cifar10", None, 10_000)
    other = command.settings(parser.parse_args(["nin", "--full", "--data", "fashion-mnist", "--source", "x"]))
    assert (other.dataset, other.source) == ("fashion-mnist", str(Path("x").resolve()))
    json.dumps(other.__dict__)


def given(settings: Settings, arch: str, **more: object) -> Settings:
    return replace(settings, arch=arch, **more)  # type: ignore[arg-type]


@pytest.mark.torch
def test_a_root_resnet_50_is_trained_on_small_images(settings: Settings, tmp_path: Path, drawn: None) -> None:
    out = tmp_path / "out"
    resnet = given(settings, "resnet50", engine="torch", device="cpu")
    found = reproduce.Experiment(resnet, out, rows=("root-64",), rounds=1).run(Stop())
    (result,) = found
    assert (result.architecture, result.model, result.iterations, result.epochs) == ("resnet50", "root-64", 3, 1)
    assert result.params == 13_329_738  # of 10 classes, and of conv1 with 3x3
    assert 0 <= result.accuracy <= 1
    assert result.time_ms > 0
    assert result.block_score > 1
    text = (out / "root-64/seed-1/train_val.prototxt").read_text()
    assert text.splitlines()[1].startswith("# Small-image form: conv1 is 3x3")
    assert text.count("crop_size: 32\n") == 2
    assert text.count(f'mean_file: "{out}/data/mean.binaryproto"') == 2
    solver = prototxt.read(out / "root-64/seed-1/solver.prototxt", schema.SolverParameter)
    assert (solver.max_iter, solver.iter_size) == (3, 1)
    assert "measured: fashion-mnist" in (out / "plots/resnet50.svg").read_text()
    assert (out / "times/times.csv").is_file()


def pictures(folder: Path, classes: int = 3, each: int = 4) -> Path:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for name in range(classes):
        (folder / str(name)).mkdir(parents=True)
        for i in range(each):
            cv2.imwrite(str(folder / str(name) / f"{i}.png"), rng.integers(0, 256, (50 + i, 60, 3), np.uint8))
    return folder


@pytest.mark.torch
def test_a_folder_of_pictures_is_resized_split_and_trained_on(settings: Settings, tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures")
    own = given(settings, "googlenet", dataset="folder", source=str(source), crop=32, engine="torch", device="cpu")
    out = tmp_path / "out"
    (result,) = reproduce.Experiment(replace(own, images=3), out, rows=("root-4",), rounds=1).run(Stop())
    assert (result.dataset, result.images, result.iterations) == ("folder", 3, 1)
    assert result.loss > 0
    text = (out / "root-4/seed-1/train_val.prototxt").read_text()
    assert "num_output: 3\n" in text
    assert "top_k" not in text
    assert "mean_value: 12" in text  # the pictures' own
    (where, datum) = next(Database.at(out / "data/train_lmdb").read(0))
    image = image_of(datum, schema.TransformationParameter(), where)
    assert image.shape[1] == 37 < image.shape[2]  # 8/7 of the crop, and the proportions kept


def test_a_folder_of_lmdbs_is_used_where_it_lies(settings: Settings, tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures")
    data = tmp_path / "mine"
    options = catalogue.FolderOptions(resize=(120, 130), test_fraction=0.25)
    datasets.save(datasets.load("folder", source, options=options), data)
    (data / "labels.txt").unlink()
    (data / "mean.binaryproto").unlink()
    run_ = given(settings, "resnet50", dataset="mine", source=str(data))
    experiment = reproduce.Experiment(run_, tmp_path / "out", rows=("Orig.",))
    experiment.prepare()
    experiment._run("Orig.", 1).emit()
    text = (tmp_path / "out/orig/seed-1/train_val.prototxt").read_text()
    assert text.count("crop_size: 112\n") == 2
    assert f'source: "{data}/train_lmdb"' in text
    assert text.count("mean_value: 104\n") == 2  # ILSVRC's, where the folder has none
    assert "num_output: 1000\n" in text
    solver = prototxt.read(tmp_path / "out/orig/seed-1/solver.prototxt", schema.SolverParameter)
    assert (solver.max_iter, solver.iter_size) == (1, 1)
    replace(experiment._run("Orig.", 1), settings=replace(run_, epochs=None)).emit()
    solver = prototxt.read(tmp_path / "out/orig/seed-1/solver.prototxt", schema.SolverParameter)
    assert (solver.max_iter, solver.iter_size) == (90, 8)  # the recipe's, of an iteration an epoch
    assert not (tmp_path / "out/data").exists()
    assert reproduce.Experiment(run_, tmp_path / "out", rows=("root-2",)).rows == ("root-2",)
    with pytest.raises(RootgenError, match=r"holds a run with dataset mine .now fashion-mnist."):
        reproduce.Experiment(given(settings, "resnet50"), tmp_path / "out")
    with pytest.raises(RootgenError, match=r"holds a run with .*crop None .now 64."):
        reproduce.Experiment(replace(run_, crop=64), tmp_path / "out", rows=("Orig.",))


def test_data_is_a_name_or_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    from rootgen.cli.commands import reproduce as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    source = pictures(tmp_path / "pictures")

    def asked(*words: str) -> tuple[str, str | None, int, float]:
        found = command.settings(parser.parse_args(["resnet50", *words]))
        return found.dataset, found.source, found.batch_size, found.base_lr

    assert asked("--data", str(source)) == ("folder", str(source), 32, 0.0125)
    assert asked("--data", "folder", "--source", str(source)) == ("folder", str(source), 32, 0.0125)
    assert asked("--data", "fashion-mnist-sample") == ("fashion-mnist-sample", None, 64, 0.025)
    assert asked("--data", "imagenet", "--source", "x")[:2] == ("imagenet", str(Path("x").resolve()))
    assert asked("--data", "cifar10") == ("cifar10", None, 128, 0.05)
    datasets.save(
        datasets.load("folder", source, options=catalogue.FolderOptions(resize=(9, 9), test_fraction=0.3)),
        tmp_path / "ours",
    )
    assert asked("--data", str(tmp_path / "ours"))[:2] == ("ours", str(tmp_path / "ours"))
    for words, code, message in (
        (["--data", str(source), "--source", "x"], 2, "--data is a folder: --source does nothing with it"),
        (
            ["--data", "no-such-folder"],
            2,
            "no images 'no-such-folder' for this (known: cifar10, fashion-mnist, fashion-mnist-sample, folder, ",
        ),
        (["--data", "folder"], 1, "data set 'folder' needs a folder of images"),
    ):
        assert main(["reproduce", "resnet50", *words, "--out", str(tmp_path / "out"), "--engine", "torch"]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
