"""Training from end to end: logs, snapshots, stops, kills, and going on exactly where it was."""

from __future__ import annotations

import csv
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
import pytest
from training import NET, SOLVER, make

import rootgen
from rootgen import cli
from rootgen.engine import open_trainer, train
from rootgen.engine.stop import Stop
from rootgen.engine.trainer import newest_snapshot
from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: a net, a solver and two small databases of four kinds of images."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    return tmp_path


def solver_with(folder: Path, text: str) -> None:
    (folder / "solver.prototxt").write_text(SOLVER + text)


def trainer():
    return open_trainer("solver.prototxt", engine="torch")


def rows(path: str | Path = "snaps/net_log.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def losses(log: list[dict[str, str]]) -> list[tuple[str, str, str, str]]:
    """What a log says but for times."""
    return [(row["iteration"], row["phase"], row["total_loss"], row["accuracy"]) for row in log]


class Recorder(train.Watcher):
    """What a run told, in order."""

    def __init__(self, stop: Stop | None = None, at: int = -1) -> None:
        self.events: list[tuple[str, int]] = []
        self.losses: dict[int, float] = {}
        self.stop, self.at = stop, at

    def stepped(self, result) -> None:
        self.events.append(("step", result.iteration))
        self.losses[result.iteration] = result.loss
        if self.stop and result.iteration == self.at:
            self.stop(signal.SIGTERM)

    def tested(self, iteration, results) -> None:
        self.events.append(("test", iteration))

    def saved(self, model, solver_state) -> None:
        self.events.append(("saved", int(model.name.split("_")[-1].split(".")[0])))


def test_the_order_of_a_run_is_caffes(folder):
    recorder = Recorder()
    outcome = train.run(trainer(), watcher=recorder)
    wanted = []
    for i in range(12):
        wanted += [("test", i)] * (i % 4 == 0) + [("step", i)] + [("saved", i + 1)] * (i + 1 in (5, 10))
    assert recorder.events == [*wanted, ("saved", 12), ("test", 12)]
    assert (outcome.iteration, outcome.steps, outcome.images, outcome.stopped) == (12, 12, 84, False)
    assert outcome.model == Path("snaps/net_iter_12.caffemodel")
    assert list(outcome.tests[0]) == ["accuracy", "loss"]
    assert 0 <= outcome.data_seconds < outcome.seconds
    log = rows()
    assert [(row["phase"], int(row["iteration"])) for row in log if row["phase"] == "test"] == [
        ("test", i) for i in (0, 4, 8, 12)
    ]
    told = [np.float32(row["total_loss"]) for row in log if row["phase"] == "train"]
    assert told == [np.float32(loss) for loss in recorder.losses.values()]
    assert {row["learning_rate"] for row in log} == {"0.05", "0.025", "0.0125", ""}
    assert sorted(path.name for path in (folder / "snaps").iterdir()) == sorted(
        [f"net_iter_{i}.{kind}" for i in (5, 10, 12) for kind in ("caffemodel", "solverstate")] + ["net_log.csv"]
    )


@pytest.mark.parametrize(
    "text",
    ["", "snapshot_format: HDF5", 'type: "Adam"', "iter_size: 3", 'type: "AdaDelta" delta: 1e-4'],
)
def test_a_restored_run_has_the_losses_of_an_unbroken_one(folder, text):
    solver_with(folder, text)
    unbroken = Recorder()
    train.run(trainer(), watcher=unbroken)
    wanted, log = unbroken.losses, losses(rows())
    assert len(set(wanted.values())) == 12
    resumed = trainer()
    resumed.restore(next(Path("snaps").glob("net_iter_5.solverstate*")))
    recorder = Recorder()
    train.run(resumed, watcher=recorder)
    assert recorder.losses == {i: loss for i, loss in wanted.items() if i >= 5}
    assert losses(rows()) == log  # the rows that were made again stand once


def test_the_same_seed_gives_the_same_run_and_another_seed_another(folder):
    def first_losses(text: str) -> list[float]:
        solver_with(folder, text)
        running = trainer()
        return [running.step().loss for _ in range(3)]

    assert first_losses("") == first_losses("")
    (folder / "solver.prototxt").write_text(SOLVER.replace("random_seed: 3", "random_seed: 4"))
    running = trainer()
    assert [running.step().loss for _ in range(3)] != first_losses("")


def test_testing_goes_on_in_the_data_as_caffe_does_and_changes_nothing(folder):
    running = trainer()
    first = running.test()
    assert running.test() == first  # the same iteration, the same images
    for _ in range(4):
        running.step()
    twin = trainer()
    for _ in range(4):
        twin.step()
    assert running.test() == twin.test()
    assert [round(labels) for labels in running.tests[0].feeds["data"].batch(2)["label"]] != [
        round(labels) for labels in running.tests[0].feeds["data"].batch(0)["label"]
    ]


def test_a_stop_ends_the_iteration_and_leaves_a_snapshot(folder):
    stop = Stop()
    outcome = train.run(trainer(), watcher=Recorder(stop, at=6), stop=stop)
    assert outcome.stopped
    assert (outcome.iteration, outcome.solver_state) == (7, Path("snaps/net_iter_7.solverstate"))
    again = trainer()
    assert newest_snapshot(again) == outcome.solver_state
    again.restore(outcome.solver_state)
    assert again.iteration == 7


def test_a_second_stop_and_one_during_a_test_are_at_once(folder):
    stop = Stop()
    stop(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT)
    stop, running = Stop(), trainer()
    running.test = lambda _: stop(signal.SIGINT)
    outcome = train.run(running, stop=stop)
    assert (outcome.stopped, outcome.iteration, outcome.model) == (True, 0, None)


def test_a_full_disk_does_not_end_the_training_before_its_end(folder, monkeypatch, caplog):
    running = trainer()
    snapshot, failures = running.snapshot, iter([True, False, False])

    def sometimes():
        if next(failures):
            raise RootgenError("cannot write: No space left on device") from OSError(28, "No space left on device")
        return snapshot()

    running.snapshot = sometimes
    outcome = train.run(running)
    assert "no snapshot at iteration 5: cannot write: No space left on device; training goes on" in caplog.text
    assert outcome.model is not None
    assert not Path("snaps/net_iter_5.solverstate").exists()


def test_a_damaged_image_leaves_what_was_learned_before_it(folder, capsys):
    with lmdb.open(str(folder / "train_lmdb")) as env, env.begin(write=True) as txn:
        txn.put(b"00000029", b"damaged")
    assert run_cli() == 1  # record 29 is in the batch of iteration 4
    *_, rescued, last = capsys.readouterr().err.strip().splitlines()
    assert rescued == "rootgen: rescued: iteration 4 is in snaps/net_iter_4.solverstate"
    assert "record '00000029': not a binary Datum" in last
    again = trainer()
    again.restore("snaps/net_iter_4.solverstate")
    assert again.iteration == 4


def test_a_disk_that_is_full_at_the_end_loses_nothing(folder, monkeypatch, caplog):
    (folder / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "elsewhere"))
    running = trainer()
    snapshot = running.snapshot

    def full():
        if running.solver.snapshot_prefix.startswith("snaps"):
            raise RootgenError("cannot write: No space left on device") from OSError(28, "No space left on device")
        return snapshot()

    running.snapshot = full
    with pytest.raises(RootgenError, match="No space left"):
        train.run(running)
    (state,) = (folder / "elsewhere").rglob("*.solverstate")
    assert f"rescued: iteration 12 is in {state}" in caplog.text
    again = trainer()
    again.restore(state)
    assert again.iteration == 12
    assert running.solver.snapshot_prefix == "snaps/net"  # as it was, for whoever goes on with the trainer


def test_rand_skip_is_said_to_be_left_out(folder, caplog):
    rewrite(folder, 'source: "train_lmdb"', 'source: "train_lmdb" rand_skip: 3')
    trainer()
    assert "net.prototxt:2: layer 'data': rand_skip is left out" in caplog.text


@pytest.mark.parametrize("field", ["debug_info", "snapshot_diff"])
def test_solver_fields_that_do_nothing_are_said_to_be_left_out(folder, caplog, field):
    solver_with(folder, f"{field}: true")
    trainer()
    assert f"solver.prototxt: {field} is left out" in caplog.text


def test_training_goes_on_when_nobody_reads_its_messages(folder):
    solver_with(folder, "display: 1")
    command = f"{sys.executable} -m rootgen train solver.prototxt --engine torch --threads 1 2>&1 | head -1"
    subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert Path("snaps/net_iter_12.solverstate").is_file()


def test_ending_early_keeps_the_solvers_rates(folder):
    (folder / "solver.prototxt").write_text(SOLVER.replace('"step"', '"poly" power: 1'))
    train.run(trainer())
    whole = [row["learning_rate"] for row in rows() if row["phase"] == "train"]
    train.run(trainer(), max_iter=6)
    assert [row["learning_rate"] for row in rows() if row["phase"] == "train"] == whole[:6]
    with pytest.raises(RootgenError, match="13 iterations, but lr_policy 'poly' has no rate after max_iter 12"):
        train.run(trainer(), max_iter=13)


@pytest.mark.parametrize("name", ["conv", "ip"])
def test_layers_of_one_name_are_refused_before_they_are_trained(folder, name):
    twin = f'layer {{ name: "{name}" type: "PReLU" bottom: "ip" top: "prelu" }}'
    (folder / "net.prototxt").write_text(NET.replace('layer { name: "loss"', twin + '\nlayer { name: "loss"'))
    with pytest.raises(RootgenError, match="has the name of a layer above"):
        trainer()


def test_a_log_is_never_put_in_place_of_a_folder_or_a_device(folder):
    (folder / "logs").mkdir()
    with pytest.raises(RootgenError, match="logs: cannot write: Is a directory"):
        train.run(trainer(), log_file="logs")
    assert (folder / "logs").is_dir()
    main, terminal = os.openpty()
    try:
        train.run(trainer(), log_file=os.ttyname(terminal), max_iter=1)
        assert os.read(main, 10) == b"iteration,"
    finally:
        os.close(main)
        os.close(terminal)


@pytest.mark.parametrize("log", [".", "logs/"])
def test_a_folder_named_as_the_log_is_one_line_and_leaves_no_lock(folder, capsys, log):
    (folder / "logs").mkdir()
    before = sorted(path.name for path in folder.rglob("*"))
    assert run_cli("--log", log) == 1
    assert "cannot write: Is a directory" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock" and path.name != "snaps") == before


def test_a_log_of_the_prefix_s_own_name_needs_its_lock_once(folder):
    outcome = rootgen.train("solver.prototxt", engine="torch", log="snaps/net", max_iter=1)
    assert outcome.log_file == Path("snaps/net")
    assert outcome.rows


def test_weights_alone_begin_at_iteration_0(folder):
    train.run(trainer())
    tuned = trainer()
    tuned.load_weights(["snaps/net_iter_12.caffemodel"])
    assert tuned.iteration == 0
    assert not tuned._history[0][0].any()
    other = open_trainer("solver.prototxt", engine="torch")
    other.restore("snaps/net_iter_12.solverstate")
    assert tuned.test()[0]["loss"] == pytest.approx(_loss_on_the_first_images(other))


def _loss_on_the_first_images(running) -> float:
    running.iteration = 0
    return running.test()[0]["loss"]


def test_a_new_run_keeps_the_log_of_the_old(folder):
    train.run(trainer())
    train.run(trainer())
    assert losses(rows("snaps/net_log.previous.csv")) == losses(rows())


@pytest.mark.parametrize("text", ["test_initialization: false", ""])
@pytest.mark.parametrize("state", [None, "snaps/net_iter_5.solverstate", "snaps/net_iter_8.solverstate"])
def test_starts_that_fail_leave_the_log_as_it_is(folder, text, state):
    solver_with(folder, text)
    first = trainer()
    train.run(first, max_iter=8)
    train.run(first)
    whole = Path("snaps/net_log.csv").read_text()
    for _ in range(2):
        failing = trainer()
        if state:
            failing.restore(state)
        failing.step = _fail  # a test may come before it
        with pytest.raises(RootgenError, match="damaged"):
            train.run(failing)
        assert Path("snaps/net_log.csv").read_text() == whole
        assert not Path("snaps/net_log.previous.csv").exists()


def test_a_log_without_rows_takes_no_other_logs_place(folder):
    train.run(trainer())
    whole = losses(rows())
    Path("snaps/net_log.csv").rename("snaps/net_log.previous.csv")
    header = Path("snaps/net_log.previous.csv").read_text().splitlines()[0]
    Path("snaps/net_log.csv").write_text(f"{header}\n")  # of a run that failed in its first iteration
    train.run(trainer())
    assert losses(rows("snaps/net_log.previous.csv")) == losses(rows()) == whole


def _fail():
    raise RootgenError("a damaged record")


def test_a_run_with_nothing_left_to_do_leaves_the_log_as_it_is(folder):
    assert run_cli() == 0
    whole = Path("snaps/net_log.csv").read_text()
    assert "\n12,test," in whole
    assert run_cli("--snapshot", "auto") == 0
    assert Path("snaps/net_log.csv").read_text() == whole


@pytest.mark.parametrize("words", [(), ("--snapshot", "auto")])
def test_a_file_that_is_no_log_is_never_moved(folder, capsys, words):
    train.run(trainer(), max_iter=1)
    before = sorted(folder.rglob("*"))
    for name in ("net.prototxt", "mean.binaryproto", "snaps/net_iter_1.solverstate"):
        content = Path(name).read_bytes()
        capsys.readouterr()
        assert run_cli("--log", name, *words) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == f"rootgen train: {name}: is there already and is no log of a training (name another --log)"
        assert Path(name).read_bytes() == content
    assert sorted(folder.rglob("*")) == before
    Path("empty.csv").touch()
    assert run_cli("--log", "empty.csv", *words) == 0
    assert rows("empty.csv")[-1]["iteration"] == "12"


def test_a_log_that_cannot_be_written_is_refused_before_the_first_iteration(folder):
    running = trainer()
    with pytest.raises(RootgenError, match=r"log\.csv: cannot write: File exists"):
        train.run(running, log_file="net.prototxt/log.csv")
    assert running.iteration == 0


def test_a_log_cut_short_is_mended(folder):
    train.run(trainer())
    log = Path("snaps/net_log.csv")
    whole = losses(rows())
    log.write_text(log.read_text()[:-20])
    running = trainer()
    running.restore("snaps/net_iter_10.solverstate")
    train.run(running)
    assert losses(rows()) == whole


def test_states_of_another_net_or_solver_are_refused(folder):
    train.run(trainer())
    solver_with(folder, 'type: "Adam"')
    with pytest.raises(RootgenError, match=r"7 history blobs of \d+ values, but Adam on this net has 14"):
        trainer().restore("snaps/net_iter_12.solverstate")
    (folder / "net.prototxt").write_text(NET.replace("num_output: 8", "num_output: 6"))
    solver_with(folder, "")
    with pytest.raises(RootgenError, match="a state of another net"):
        trainer().restore("snaps/net_iter_12.solverstate")


def run_cli(*words: str) -> int:
    return cli.main(["train", "solver.prototxt", "--engine", "torch", *words])


def test_the_command_prints_the_model_and_tells_of_the_rest(folder, capsys):
    assert run_cli() == 0
    out, err = capsys.readouterr()
    assert out == "snaps/net_iter_12.caffemodel\n"
    assert "iteration 8: test: accuracy" in err
    assert "done: iteration 12, loss" in err
    assert "of the time waiting for data; log: snaps/net_log.csv" in err
    assert run_cli("--snapshot", "auto") == 0
    assert "nothing to do: iteration 12 of 12" in capsys.readouterr().err
    assert run_cli("--snapshot", "auto", "--max-iter", "14") == 0
    out, err = capsys.readouterr()
    assert out == "snaps/net_iter_14.caffemodel\n"
    assert run_cli("--max-iter", "1", "--weights", "snaps/net_iter_5.caffemodel") == 0
    assert "starting anew; snaps/net_iter_14.solverstate is from an earlier run" in capsys.readouterr().err


def rewrite(folder: Path, old: str, new: str) -> None:
    (folder / "net.prototxt").write_text(NET.replace(old, new))


@pytest.mark.parametrize(
    ("words", "change", "match"),
    [
        (("--snapshot", "gone.solverstate"), None, "gone.solverstate: cannot read"),
        (("--weights", "mean.binaryproto"), None, "mean.binaryproto"),
        ((), lambda folder: (folder / "net.prototxt").unlink(), "net 'net.prototxt' is not there"),
        ((), lambda folder: (folder / "net.prototxt").write_text(NET[:400]), "net.prototxt:"),
        ((), lambda folder: (folder / "snaps").write_text("a file"), "cannot write"),
        ((), lambda folder: rewrite(folder, "num_output: 4", "num_output: 2"), "layer 'loss': label"),
        ((), lambda folder: rewrite(folder, "train_lmdb", "trane_lmdb"), "no database 'trane_lmdb'"),
        (("--device", "gpu:99"), None, "gpu:99"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, words, change, match):
    if change:
        change(folder)
    before = sorted(path.name for path in folder.rglob("*_iter_*"))
    assert run_cli(*words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert match in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert sorted(path.name for path in folder.rglob("*_iter_*")) == before


def start(*words: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "rootgen",
        "train",
        "solver.prototxt",
        "--engine",
        "torch",
        "--threads",
        "1",
        *words,
    ]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the run got nowhere in a minute")


def logged() -> int:
    log = Path("snaps/net_log.csv")
    return log.read_text().count("\n") if log.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_its_kin_snapshot_and_say_how_to_go_on(folder, number):
    (folder / "solver.prototxt").write_text(
        SOLVER.replace("max_iter: 12", "max_iter: 1000000").replace("snapshot: 5", "")
    )
    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and by children then
    process = start()
    signal.signal(number, before)
    wait_for(lambda: logged() > 5, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    (state,) = Path("snaps").glob("*.solverstate")
    assert f"to go on: rootgen train solver.prototxt --snapshot {state} --engine torch --threads 1\n" in err
    assert out.strip() == str(state.with_suffix(".caffemodel"))
    assert "Traceback" not in err
    last = rows()[-1]
    assert state.name == f"net_iter_{int(last['iteration']) + 1}.solverstate"


def test_the_command_to_go_on_can_be_pasted(folder, capsys, monkeypatch):
    (folder / "a b").mkdir()
    (folder / "a b/it's.prototxt").write_text(SOLVER.replace("snaps/net", "a b/net"))
    words = ["--engine", "torch", "--device", "cpu", "--max-iter", "4", "--log", "a b/log.csv"]
    step = train._Run._step
    monkeypatch.setattr(train._Run, "_step", lambda run: (step(run), os.kill(os.getpid(), signal.SIGTERM)))
    assert cli.main(["train", "a b/it's.prototxt", *words]) == 128 + signal.SIGTERM
    line = capsys.readouterr().err.splitlines()[-1]
    pasted = shlex.split(line.removeprefix("to go on: "))
    state = ["--snapshot", "a b/net_iter_1.solverstate"]
    assert pasted[:5] == ["rootgen", "train", "a b/it's.prototxt", *state]
    monkeypatch.setattr(train._Run, "_step", step)
    assert cli.main(pasted[1:]) == 0
    assert [row["iteration"] for row in rows("a b/log.csv") if row["phase"] == "train"] == ["0", "1", "2", "3"]
    assert not Path("a b/net_log.csv").exists()


def test_kill_9_loses_no_more_than_since_the_last_snapshot(folder):
    text = SOLVER.replace("max_iter: 12", "max_iter: 1000000")
    (folder / "solver.prototxt").write_text(text)
    process = start()
    wait_for(lambda: logged() > 25 and list(Path("snaps").glob("*.solverstate")), process)
    process.kill()
    process.communicate()
    before = {row["iteration"]: row["total_loss"] for row in rows() if row["phase"] == "train"}
    resumed = trainer()
    newest = newest_snapshot(resumed)
    resumed.restore(newest)
    assert len(before) - resumed.iteration <= 10  # snapshot: 5, and one may have been half done
    left = Path("snaps").glob("*.caffemodel.*")  # the folder of a snapshot that the kill fell into is swept later
    assert all(path.suffix == ".partial" and path.name.startswith(".") for path in left)
    resumed.solver.max_iter = len(before)
    train.run(resumed)
    after = {row["iteration"]: row["total_loss"] for row in rows() if row["phase"] == "train"}
    assert after == before


def test_train_from_python_is_the_command(folder):
    assert cli.main(["train", "solver.prototxt", "--engine", "torch"]) == 0
    told = losses(rows())
    seen = Recorder()
    outcome = rootgen.train(folder / "solver.prototxt", engine="torch", log="other.csv", watcher=seen)
    assert losses(rows("other.csv")) == told
    assert (outcome.iteration, outcome.stopped, outcome.model) == (12, False, Path("snaps/net_iter_12.caffemodel"))
    assert ("saved", 12) in seen.events
    expected = [float(row["total_loss"]) if row["total_loss"] else None for row in rows("other.csv")]
    assert [row["total_loss"] for row in outcome.rows] == expected
    assert {row["phase"] for row in outcome.rows} == {"train", "test"}
    text = str(outcome)
    assert text.startswith("iteration 12\nrun ")
    for word in (f"{outcome.loss:.4f}", "test: accuracy", "snaps/net_iter_12.caffemodel", "other.csv"):
        assert word in text
    assert "<table>" in outcome._repr_html_()


def test_train_from_python_goes_on_or_starts_from_weights(folder):
    first = rootgen.train("solver.prototxt", engine="torch", max_iter=5)
    assert (first.iteration, first.steps) == (5, 5)
    after = rootgen.train("solver.prototxt", engine="torch", snapshot="auto", max_iter=8)
    assert (after.iteration, after.steps) == (8, 3)
    by_name = rootgen.train("solver.prototxt", engine="torch", snapshot=first.solver_state, max_iter=8)
    assert losses(by_name.rows and rows()) == losses(rows())
    assert by_name.loss == after.loss
    fresh = rootgen.train("solver.prototxt", engine="torch", weights=[first.model], max_iter=1)
    assert fresh.steps == 1
    assert fresh.loss != rootgen.train("solver.prototxt", engine="torch", max_iter=1).loss
    with pytest.raises(RootgenError, match=r"nowhere\.prototxt: cannot read"):
        rootgen.train("nowhere.prototxt", engine="torch")


def test_auto_from_python_takes_the_newest_snapshot_that_is_whole(folder, caplog):
    rootgen.train("solver.prototxt", engine="torch", max_iter=10)
    state = Path("snaps/net_iter_10.solverstate")
    state.write_bytes(state.read_bytes()[:20])
    after = rootgen.train("solver.prototxt", engine="torch", snapshot="auto", max_iter=7)
    assert (after.iteration, after.steps) == (7, 2)
    assert "trying the snapshot before net_iter_10.solverstate" in caplog.text


@pytest.mark.parametrize("cut", [20, 6, 1])
def test_a_log_whose_last_row_was_cut_is_read_without_it(folder, cut):
    first = rootgen.train("solver.prototxt", engine="torch", max_iter=3)
    whole = first.rows
    text = Path("snaps/net_log.csv").read_text()
    Path("snaps/net_log.csv").write_text(text + text.splitlines()[-1][:-cut].rsplit(",", 3)[0])
    assert first.rows == whole


def test_an_interrupt_ends_training_from_python_with_a_snapshot(folder):
    class Interrupting(train.Watcher):
        def stepped(self, result):
            if result.iteration == 2:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    outcome = rootgen.train("solver.prototxt", engine="torch", watcher=Interrupting())
    assert (outcome.stopped, outcome.iteration) == (True, 3)
    assert outcome.model.is_file()
    assert "stopped" in str(outcome)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_a_thread_leaves_signals_alone(folder):
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(rootgen.train, "solver.prototxt", engine="torch", max_iter=2).result()
    assert outcome.iteration == 2


@pytest.mark.parametrize("option", ["--sync-bn", "--scale-lr"])
def test_what_is_for_several_processes_does_nothing_in_one(folder, capsys, option):
    assert run_cli(option) == 2
    assert f"{option} is for several processes (torchrun starts them)" in capsys.readouterr().err
    assert not Path("snaps").exists()


@pytest.mark.parametrize("option", ["--sync-bn", "--scale-lr"])
def test_a_job_of_one_process_takes_what_is_for_several(folder, monkeypatch, option):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run_cli(option, "--max-iter", "1") == 0
