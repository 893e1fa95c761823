"""What may happen to a training from outside, and what it must not cost: both engines, real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from engine_nets import write_database
from training import NET, SOLVER, make

from rootgen import cli
from rootgen.engine import open_trainer, train
from rootgen.engine.alone import alone
from rootgen.engine.trainer import restore_newest
from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[2]
ENGINES = [pytest.param("torch"), pytest.param("caffe", marks=pytest.mark.caffe)]
both = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a small training in it."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    return tmp_path


def solver_with(text: str) -> None:
    Path("solver.prototxt").write_text(SOLVER + text)


def start(engine: str, *words: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "rootgen",
        "train",
        "solver.prototxt",
        "--engine",
        engine,
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


# Snapshots


@both
@pytest.mark.parametrize(
    "text", ["", "snapshot_format: HDF5", 'type: "Adam" iter_size: 2', "test_initialization: false"]
)
def test_a_resumed_run_ends_in_the_bytes_of_an_unbroken_one(folder, engine, text):
    solver_with(text)  # the net has random crops, mirrors and dropout
    train.run(open_trainer("solver.prototxt", engine=engine))
    suffix = ".h5" if "HDF5" in text else ""
    names = [f"snaps/net_iter_{i}.{kind}{suffix}" for i in (10, 12) for kind in ("caffemodel", "solverstate")]
    wanted = [Path(name).read_bytes() for name in names]
    assert len(set(wanted)) == 4
    for name in names:
        Path(name).unlink()
    resumed = open_trainer("solver.prototxt", engine=engine)
    assert restore_newest(resumed) == Path(f"snaps/net_iter_5.solverstate{suffix}")
    train.run(resumed)
    for name, content in zip(names, wanted, strict=True):
        assert same(Path(name).read_bytes(), content), name


def same(found: bytes, wanted: bytes) -> bool:
    """Whether two files are alike; HDF5 files hold the time at which they were written."""
    return len(found) == len(wanted) if found.startswith(b"\x89HDF") else found == wanted


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def of_another_net(path: Path) -> None:
    net = Path("net.prototxt")
    net.write_text(NET.replace("num_output: 8", "num_output: 6"))
    other = open_trainer("solver.prototxt", engine="torch")
    other.solver.snapshot_prefix = "other/net"
    Path("other").mkdir()
    other.step()
    files = other.snapshot()
    net.write_text(NET)
    path.write_bytes(files[".solverstate" in path.name].read_bytes())


@both
@pytest.mark.parametrize("kind", ["caffemodel", "solverstate"])
@pytest.mark.parametrize("damage", [cut, emptied, zeroed, of_another_net])
def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(folder, caplog, engine, kind, damage):
    train.run(open_trainer("solver.prototxt", engine=engine), max_iter=10)
    damage(Path(f"snaps/net_iter_10.{kind}"))
    resumed = open_trainer("solver.prototxt", engine=engine)
    assert restore_newest(resumed) == Path("snaps/net_iter_5.solverstate")
    assert resumed.iteration == 5
    assert "trying the snapshot before net_iter_10.solverstate" in caplog.text
    assert "net_iter_10." in caplog.messages[-1].split(":")[0]


def test_where_no_snapshot_can_be_used_nothing_is_begun_anew(folder, capsys):
    train.run(open_trainer("solver.prototxt", engine="torch"), max_iter=10)
    for path in Path("snaps").glob("*.solverstate"):
        zeroed(path)
    log = Path("snaps/net_log.csv").read_bytes()
    assert cli.main(["train", "solver.prototxt", "--engine", "torch", "--snapshot", "auto"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "snaps/net: no snapshot here can be gone on from; the newest: snaps/net_iter_10.solverstate: not a" in last
    assert Path("snaps/net_log.csv").read_bytes() == log


def test_what_is_written_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    """The log's rows, then the model, then the state that names it: each synced, renamed, and its folder synced."""
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(file: int) -> None:
        events.append(("sync", Path(f"/proc/self/fd/{file}").readlink().name))
        fsync(file)

    def record_replace(old, new, **options) -> None:
        events.append(("rename", Path(new).name))
        replace(old, new, **options)

    running = open_trainer("solver.prototxt", engine="torch")
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    train.run(running, max_iter=5)
    model, state = "net_iter_5.caffemodel", "net_iter_5.solverstate"
    assert events == [
        *(("sync", "net_log.csv"), ("rename", "net_log.csv"), ("sync", "snaps")),
        ("sync", "net_log.csv"),
        *(("sync", model), ("rename", model), ("sync", "snaps")),
        *(("sync", state), ("rename", state), ("sync", "snaps")),
        ("sync", "net_log.csv"),
    ]


# Data


@both
def test_a_database_cut_short_in_mid_training_costs_nothing(folder, engine):
    Path("solver.prototxt").write_text(SOLVER.replace("max_iter: 12", "max_iter: 1000000").replace("snapshot: 5", ""))
    process = start(engine)
    wait_for(lambda: logged() > 20, process)
    os.truncate("train_lmdb/data.mdb", 8192)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    *_, rescued, last = err.splitlines()
    assert "train_lmdb/data.mdb: cut short: it ends before byte" in last
    (state,) = Path("snaps").glob("*.solverstate")
    assert f"is in {state}" in rescued


@both
@pytest.mark.parametrize(
    ("label", "match"),
    [(4, "label 4 at place 1 of the batch"), (-1, "label -1 at place 1"), (2**31 - 1, r"label 214748364\d at place 1")],
)
def test_labels_beyond_the_classes_train_nothing(folder, engine, label, match):
    images = [np.full((3, 10, 10), 40 * i, np.uint8) for i in range(4)]
    Path("net.prototxt").write_text(NET.replace("train_lmdb", "wrong_lmdb").replace("batch_size: 7", "batch_size: 4"))
    write_database(folder / "wrong_lmdb", images, [0, label, 2, 3])
    running = open_trainer("solver.prototxt", engine=engine)
    with pytest.raises(RootgenError, match=rf"'loss': {match}.*'ip' scores 4 classes"):
        train.run(running)
    assert running.iteration == 0
    assert not list(Path("snaps").glob("*iter*"))


LABELLED = """
layer {{ name: "x" type: "Input" top: "x" top: "label" input_param {{ shape {{ dim: 2 dim: 3 dim: 1 dim: 1 }}
  shape {{ dim: 2 dim: 1 dim: 1 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "x" top: "prob" }}
layer {{ name: "y" bottom: "prob" bottom: "label" top: "y" {} }}
"""


@both
@pytest.mark.parametrize(
    ("body", "labels", "refused"),
    [
        ('type: "SoftmaxWithLoss"', [0, 3], True),
        ('type: "SoftmaxWithLoss"', [0, 2.9], False),  # 2, as in C++
        ('type: "SoftmaxWithLoss"', [0, np.nan], True),
        ('type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }', [0, 255], False),
        ('type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }', [254, 255], True),
        ('type: "Accuracy"', [3, 0], True),
        ('type: "Accuracy" accuracy_param { ignore_label: -1 }', [-1, 0], False),
        ('type: "HingeLoss"', [3, 0], True),
        ('type: "MultinomialLogisticLoss"', [0, -1], True),
    ],
)
def test_every_layer_that_reads_labels_looks_at_them(folder, engine, body, labels, refused):
    from rootgen.engine import open_network

    Path("net.prototxt").write_text(LABELLED.format(body))
    network = open_network("net.prototxt", engine=engine, device="cpu")
    given = {"x": np.ones((2, 3, 1, 1), np.float32), "label": np.array(labels, np.float32).reshape(2, 1, 1)}
    if refused:
        with pytest.raises(
            RootgenError, match=r"'y': label -?\d+ at place [01] of the batch, but bottom 'prob' scores 3"
        ):
            network.forward(["y"], given)
    else:
        assert np.isfinite(network.forward(["y"], given)["y"])


@both
@pytest.mark.parametrize(
    ("body", "match"),
    [
        ('type: "Dropout" dropout_param { dropout_ratio: 1 }', "dropout_ratio is 1, but"),
        ('type: "Log" log_param { base: 1 }', "base 1 .must be positive"),
        ('type: "Exp" exp_param { base: 0 }', "base 0 .must be positive"),
        (
            'type: "Deconvolution" convolution_param { num_output: 2 kernel_h: 2 kernel_w: 3 '
            'weight_filler { type: "bilinear" } }',
            "filler 'bilinear': the blob must have 4 axes and a square filter",
        ),
        ('type: "HingeLoss" bottom: "three"', "takes one label per image, not 6 for 2"),
        ('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', "STOCHASTIC pooling"),
    ],
)
def test_values_that_no_layer_can_run_with(folder, engine, body, match):
    from rootgen.engine import open_network

    Path("net.prototxt").write_text(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} }} }}
        layer {{ name: "three" type: "Input" top: "three" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
        layer {{ name: "y" bottom: "x" top: "y" {body} }}""")
    with pytest.raises(RootgenError, match=rf"'y': {match}"):
        open_network("net.prototxt", engine=engine, device="cpu")


@both
def test_indices_and_fillers_from_inside_the_net(folder, engine):
    from rootgen.engine import open_network

    Path("net.prototxt").write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "y" type: "Embed" bottom: "x" top: "y" embed_param { input_dim: 5 num_output: 2 } }""")
    network = open_network("net.prototxt", engine=engine, device="cpu")
    with pytest.raises(RootgenError, match="'y': index 5 at place 1 of the batch: outside 0 to 4"):
        network.forward(["y"], {"x": np.array([4, 5], np.float32)})
    Path("net.prototxt").write_text("""layer { name: "d" type: "DummyData" top: "a" top: "b" top: "c"
        dummy_data_param { shape { dim: 1 } data_filler { value: 1 } data_filler { value: 2 } } }""")
    with pytest.raises(RootgenError, match="'d': has 2 data_filler for 3 top"):
        open_network("net.prototxt", engine=engine, device="cpu")


@both
def test_records_that_are_no_image_leave_a_snapshot(folder, engine, caplog):
    images = [np.full((3, 10, 10), 9, np.uint8)] * 29 + [np.full((3, 11, 10), 9, np.uint8)]
    write_database(folder / "wrong_lmdb", images, [0] * 30)
    Path("net.prototxt").write_text(
        NET.replace("train_lmdb", "wrong_lmdb")
        .replace('mean_file: "mean.binaryproto"', "mean_value: 9")
        .replace("crop_size: 8 mirror: true", "mirror: true")
        .replace("crop_size: 8 ", "")
    )
    with pytest.raises(RootgenError, match="record '00000029': image of 3x11x10, another size than those before"):
        train.run(open_trainer("solver.prototxt", engine=engine))
    assert "rescued: iteration 4 is in snaps/net_iter_4.solverstate" in caplog.text


# Two at once


@both
def test_two_trainers_do_not_share_a_prefix(folder, engine):
    Path("solver.prototxt").write_text(SOLVER.replace("max_iter: 12", "max_iter: 1000000"))
    first = start(engine)
    wait_for(lambda: logged() > 5, first)
    second = start("torch", "--max-iter", "3")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"snaps/net: process {first.pid} on {os.uname().nodename} (since 20" in err.splitlines()[-1]
    other = start("torch", "--max-iter", "3", "--log", "other.csv")
    _, err = other.communicate(timeout=60)
    assert other.returncode == 1, "the log is another, the snapshots are not"
    first.kill()
    first.communicate()
    assert Path("snaps/.net.lock").is_file()  # a killed process's lock does not count
    train.run(open_trainer("solver.prototxt", engine="torch"), max_iter=3)
    assert not Path("snaps/.net.lock").exists()


def test_of_two_that_start_together_one_trains(folder):
    processes = [start("torch", "--max-iter", "30") for _ in range(4)]
    codes = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert all(code == 0 or "is at work on it" in err for err, code in codes), codes
    rows = Path("snaps/net_log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows if ",train," in row] == [str(i) for i in range(30)]


def test_trainers_with_one_log_between_them(folder):
    first = open_trainer("solver.prototxt", engine="torch").solver
    Path("solver.prototxt").write_text(SOLVER.replace("snaps/net", "elsewhere/net"))
    with (
        pytest.raises(RootgenError, match=r"log\.csv: process \d+ on .* is at work on it"),
        alone(first, "log.csv"),
    ):
        train.run(open_trainer("solver.prototxt", engine="torch"), log_file="log.csv")


# The command line


def test_a_seed_of_the_command_line_goes_over_the_solvers(folder, capsys, monkeypatch):
    def run(*words: str) -> bytes:
        assert cli.main(["train", "solver.prototxt", "--engine", "torch", "--max-iter", "2", *words]) == 0
        return Path("snaps/net_iter_2.caffemodel").read_bytes()

    by_solver = run()  # random_seed: 3
    assert run("--seed", "3") == by_solver
    assert run("--seed", "4") != by_solver
    Path("solver.prototxt").write_text(SOLVER.replace("random_seed: 3", ""))
    assert run("--seed", "3") == by_solver
    capsys.readouterr()
    step = train._Run._step
    monkeypatch.setattr(train._Run, "_step", lambda run: (step(run), os.kill(os.getpid(), signal.SIGTERM)))
    cli.main(["train", "solver.prototxt", "--engine", "torch"])
    drawn, *_, last = capsys.readouterr().err.splitlines()
    seed = drawn.split("random_seed: ")[1].split()[0]
    assert last.endswith(f" --seed {seed}")


def test_lines_stand_whole_above_the_bars_of_a_terminal(folder):
    """What a test gave stands in whole lines, no bar left in them; a long test has a bar of its own."""
    solver = SOLVER.replace("test_iter: 2", "test_iter: 500").replace("max_iter: 12", "max_iter: 1")
    Path("solver.prototxt").write_text(solver.replace("test_interval: 4", "test_interval: 1"))
    shown = on_a_terminal([sys.executable, "-m", "rootgen", "train", "solver.prototxt", "--engine", "torch"])
    whole = [line.split("\x1b[2K")[-1].strip() for line in shown.replace("\r", "\n").splitlines()]
    for iteration in (0, 1):
        assert any(re.match(rf"iteration {iteration}: test: accuracy 0\.\d+, loss \d+\.\d+$", line) for line in whole)
    assert re.search(r"test .*\d/500", shown)


def test_what_the_library_logs_stands_above_the_bars_too(tmp_path):
    program = """if True:
        import logging, time
        from rootgen import cli
        from rootgen.cli.progress_bars import bars
        cli._log_to_stderr()
        with bars() as report:
            for i in range(4):
                report("work", i, 4)
                time.sleep(0.15)
                logging.getLogger("rootgen").info("Orig.: accuracy 0.%d %s", i, "word " * 40)
        logging.getLogger("rootgen").info("after")"""
    shown = on_a_terminal([sys.executable, "-c", program])
    assert re.search(r"work .*2/4", shown)
    ends = [line.rsplit("\x1b[2K", 1)[-1] for line in shown.split("\r\n")]
    for i in range(4):  # one line, the bar taken away before it, and never drawn over it
        assert f"rootgen: Orig.: accuracy 0.{i} {'word ' * 40}".rstrip() in [end.rstrip() for end in ends]
    assert "rootgen: after" in ends


def on_a_terminal(command: list[str]) -> str:
    """What a command that ends well shows on a terminal."""
    main, terminal = os.openpty()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(main)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()
