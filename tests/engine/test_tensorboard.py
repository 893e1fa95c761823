"""Scalars for TensorBoard, as TensorBoard itself reads them: of whole runs, of runs gone on with, of full disks."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
from training import make

import rootgen
from rootgen import cli
from rootgen.engine import train
from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a net, a solver and data."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    return tmp_path


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install rootgen[tensorboard]")


def scalars(folder: str | Path = "tb") -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values, without the pace, which is the machine's affair."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    tags = sorted(read.Tags()["scalars"])
    assert "train/images_per_second" in tags
    return {
        tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in tags if tag != "train/images_per_second"
    }


def told(path: str = "snaps/net_log.csv") -> dict[str, list[tuple[int, float]]]:
    """The same as the CSV tells it."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        "test/accuracy": ("test", "accuracy"),
        "test/loss": ("test", "loss"),
        "train/learning_rate": ("train", "learning_rate"),
        "train/loss": ("train", "smoothed_loss"),
    }
    return {
        tag: [(int(row["iteration"]), pytest.approx(float(row[name]))) for row in rows if row["phase"] == phase]
        for tag, (phase, name) in columns.items()
    }


def fit(**options: object) -> train.TrainOutcome:
    return rootgen.train("solver.prototxt", engine="torch", tensorboard="tb", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tensorboard")
def test_what_the_log_says_is_in_tensorboard(folder: Path) -> None:
    fit()
    assert scalars() == told()


@pytest.mark.usefixtures("tensorboard")
def test_a_run_that_goes_on_makes_again_what_came_after_its_snapshot(folder: Path) -> None:
    fit(max_iter=7)
    fit(snapshot="snaps/net_iter_5.solverstate", max_iter=8)
    before = scalars()
    assert [step for step, _ in before["train/loss"]] == list(range(8))
    assert fit(snapshot="snaps/net_iter_8.solverstate", max_iter=8).steps == 0
    assert scalars() == before  # iteration 8's test, which a run without an iteration does not make again
    fit(snapshot="auto")
    assert scalars() == told()
    fit(max_iter=2)  # anew
    assert scalars() == told()
    assert len(told()["train/loss"]) == 2


@pytest.mark.usefixtures("tensorboard")
def test_the_command_takes_the_folder_and_says_how_to_go_on_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--engine", "torch", "--tensorboard", "a b"]
    step = train._Run._step
    with monkeypatch.context() as patch:
        patch.setattr(train._Run, "_step", lambda run: (step(run), os.kill(os.getpid(), signal.SIGTERM)))
        assert cli.main(["train", "solver.prototxt", *words]) == 128 + signal.SIGTERM
    assert len(scalars("a b")["train/loss"]) == 1
    pasted = shlex.split(capsys.readouterr().err.splitlines()[-1].removeprefix("to go on: "))
    assert cli.main(pasted[1:]) == 0
    assert scalars("a b") == told()


@pytest.mark.usefixtures("tensorboard")
def test_a_folder_that_cannot_be_written_to_costs_no_iteration_and_no_traceback(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Remover(train.Watcher):
        def stepped(self, result: object) -> None:
            shutil.rmtree("tb", ignore_errors=True)

    assert fit(watcher=Remover()).iteration == 12
    assert [message for message in caplog.messages if "TensorBoard" in message] == [
        "tb: cannot write (No such file or directory); TensorBoard gets no more"
    ]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize(("place", "message"), [("net.prototxt", "is no folder"), ("/proc/x", "cannot write")])
def test_a_place_where_nothing_can_be_is_refused_before_the_first_iteration(
    folder: Path, place: str, message: str
) -> None:
    with pytest.raises(RootgenError, match=f"{place}.*{message}"):
        rootgen.train("solver.prototxt", engine="torch", tensorboard=place)
    assert not Path("snaps/net_log.csv").exists()


def test_without_the_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RootgenError, match=r"need tensorboard .pip install rootgen\[torch,tensorboard\]"):
        fit()
    assert not Path("tb").exists()
