"""Logs of trainings, ours and those of Caffe's own tool, as rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootgen.engine.read_log import read_log
from rootgen.engine.train_log import FIXED
from rootgen.errors import RootgenError

HEADER = ",".join([*FIXED, "loss", "accuracy"])
# What `caffe train` of the patched Caffe 1.0 wrote on 2026-11-26, of a solver with test_interval 4 and display 3.
CAFFE = """\
I20261126 03:58:23.501315  9059 net.cpp:244] This network produces output accuracy
I20261126 03:58:23.501405  9059 solver.cpp:347] Iteration 0, Testing net (#0)
I20261126 03:58:23.541275  9059 solver.cpp:414]     Test net output #0: accuracy = 0
I20261126 03:58:23.541323  9059 solver.cpp:414]     Test net output #1: loss = 87.3365 (* 1 = 87.3365 loss)
I20261126 03:58:23.581280  9059 solver.cpp:239] Iteration 0 (8.45861e-10 iter/s, 0.079s/3 iters), loss = 1.63121
I20261126 03:58:23.581359  9059 solver.cpp:258]     Train net output #0: loss = 1.63121 (* 1 = 1.63121 loss)
I20261126 03:58:23.581377  9059 sgd_solver.cpp:112] Iteration 0, lr = 0.05
I20261126 03:58:23.705276  9059 solver.cpp:239] Iteration 3 (24.3902 iter/s, 0.123s/3 iters), loss = 1.45086
I20261126 03:58:23.705353  9059 solver.cpp:258]     Train net output #0: loss = 1.10228 (* 1 = 1.10228 loss)
I20261126 03:58:23.705363  9059 sgd_solver.cpp:112] Iteration 3, lr = 0.05
I20261126 03:58:23.705382  9059 solver.cpp:347] Iteration 4, Testing net (#0)
I20261126 03:58:23.745293  9059 solver.cpp:414]     Test net output #0: accuracy = 0.5
I20261126 03:58:23.745365  9059 solver.cpp:414]     Test net output #1: loss = 1.10374 (* 1 = 1.10374 loss)
I20261126 03:58:23.786000  9059 solver.cpp:464] Snapshotting to binary proto file snaps/net_iter_5.caffemodel
I20261126 03:58:23.861270  9059 solver.cpp:239] Iteration 6 (19.3548 iter/s, 0.155s/3 iters), loss = 1.29779
I20261126 03:58:23.861346  9059 solver.cpp:258]     Train net output #0: loss = 1.82118 (* 1 = 1.82118 loss)
I20261126 03:58:23.861356  9059 sgd_solver.cpp:112] Iteration 6, lr = 0.025
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.log"
    path.write_text(text)
    return path


def test_caffes_text_becomes_rows(tmp_path: Path) -> None:
    assert read_log(written(tmp_path, CAFFE)) == [
        {"iteration": 0, "phase": "test", "accuracy": 0.0, "loss": 87.3365},
        {"iteration": 0, "phase": "train", "smoothed_loss": 1.63121, "loss": 1.63121, "learning_rate": 0.05},
        {"iteration": 3, "phase": "train", "smoothed_loss": 1.45086, "loss": 1.10228, "learning_rate": 0.05},
        {"iteration": 4, "phase": "test", "accuracy": 0.5, "loss": 1.10374},
        {"iteration": 6, "phase": "train", "smoothed_loss": 1.29779, "loss": 1.82118, "learning_rate": 0.025},
    ]


def test_older_caffes_and_several_test_nets(tmp_path: Path) -> None:
    text = """\
I0612 11:02:03.123456 12345 solver.cpp:294] Iteration 20, Testing net (#0)
I0612 11:02:03.123456 12345 solver.cpp:343]     Test net output #0: accuracy/top-5 = 0.25
I0612 11:02:03.123456 12345 solver.cpp:294] Iteration 20, Testing net (#1)
I0612 11:02:03.123456 12345 solver.cpp:343]     Test net output #0: prob = 0.5
I0612 11:02:03.123456 12345 solver.cpp:343]     Test net output #1: prob = 0.6
I0612 11:02:03.123456 12345 solver.cpp:343]     Test net output #2: loss = 1e-3 (* 1 = 1e-3 loss)
I0612 11:02:03.123456 12345 solver.cpp:214] Iteration 20, loss = nan
I0612 11:02:03.123456 12345 solver.cpp:486] Iteration 20, lr = 1e-05
"""
    assert read_log(written(tmp_path, text)) == [
        {"iteration": 20, "phase": "test", "accuracy/top-5": 0.25},
        {"iteration": 20, "phase": "test 1", "loss": 0.001},  # a blob of several values has no one value
        {"iteration": 20, "phase": "train", "smoothed_loss": None, "learning_rate": 1e-05},
    ]


def test_ours_becomes_rows(tmp_path: Path) -> None:
    text = f"{HEADER}\n0,test,1.5,,,,,,2.5,0.125\n0,train,2,0.05,2.5,2.4,30,0,2.5,\n1,train,3,0.05,inf,nan,30,0,2.5,\n"
    rows = read_log(written(tmp_path, text))
    assert [(row["iteration"], row["phase"], row["smoothed_loss"], row["accuracy"]) for row in rows] == [
        (0, "test", None, 0.125),
        (0, "train", 2.4, None),
        (1, "train", None, None),
    ]


def test_what_a_resumed_run_made_again_counts_once(tmp_path: Path) -> None:
    again = "".join(line for line in CAFFE.splitlines(True) if "Iteration 3" in line).replace("1.45086", "9")
    rows = read_log(written(tmp_path, CAFFE + again))
    assert [(row["iteration"], row["phase"]) for row in rows] == [(0, "test"), (0, "train"), (3, "train")]
    assert rows[-1]["smoothed_loss"] == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no log of a training"),
        ("model,accuracy\nOrig.,0.9\n", r"no log of a training .PREFIX_log.csv of rootgen train, or what Caffe's"),
        (HEADER + "\n", "a log of a training without an iteration"),
        (HEADER + "\n1,tra", "a log of a training without an iteration"),
        (HEADER + "\n-5,train,1,1,1,1,1,1,1,1\n", "without an iteration"),
        (HEADER + "\n1" + "0" * 5000 + ",train,1,1,1,1,1,1,1,1\n", "without an iteration"),
        (HEADER + '\n"' + "a" * 200_000 + '"\n', "damaged: field larger"),
        ("\0" * 100, "no log of a training"),
        ("I0612 11:02:03.1 1 net.cpp:1] Iteration about nothing\n", "no log of a training"),
    ],
)
def test_what_is_no_log_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RootgenError, match=message):
        read_log(written(tmp_path, content))


def test_bytes_of_any_kind_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(CAFFE.encode().replace(b"accuracy", b"acc\xff\xfe\x00"))
    assert len(read_log(path)) == 5
    with pytest.raises(RootgenError, match="Is a directory"):
        read_log(tmp_path)
