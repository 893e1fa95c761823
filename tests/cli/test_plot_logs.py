"""rootgen plot of logs: what is a log, where the picture goes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootgen.cli import main
from rootgen.engine.train_log import FIXED

CAFFE = """\
I20261126 03:58:23.501405  9059 solver.cpp:347] Iteration 0, Testing net (#0)
I20261126 03:58:23.541275  9059 solver.cpp:414]     Test net output #0: accuracy = 0.25
I20261126 03:58:23.581280  9059 solver.cpp:239] Iteration 0 (8.4 iter/s, 0.079s/3 iters), loss = 1.63121
I20261126 03:58:23.581377  9059 sgd_solver.cpp:112] Iteration 0, lr = 0.05
I20261126 03:58:23.705276  9059 solver.cpp:239] Iteration 3 (24.3902 iter/s, 0.123s/3 iters), loss = 1.45086
"""


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a log of either kind."""
    monkeypatch.chdir(tmp_path)
    header = ",".join([*FIXED, "accuracy"])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net_log.csv").write_text(f"{header}\n0,train,1,.1,2.5,2.5,9,0,\n1,test,2,,,,,,0.5\n")
    (tmp_path / "caffe.log").write_text(CAFFE)
    (tmp_path / "nin").write_text(CAFFE)  # a file of a family's name
    return tmp_path


def test_logs_of_both_kinds_share_a_picture(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "a/net_log.csv", "b/net_log.csv", "caffe.log", "-o", "out.svg"]) == 0
    assert capsys.readouterr().out == "out.svg\n"
    svg = (logs / "out.svg").read_text()
    for words in ("training loss", "learning rate", "test accuracy", "a/net_log.csv", "b/net_log.csv", "caffe.log"):
        assert f">{words}<" in svg.replace("> ", ">"), words
    assert not (logs / "plots").exists()


def test_without_a_file_s_name_every_format_goes_into_a_folder(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "caffe.log"]) == 0
    assert capsys.readouterr().out.split() == [f"plots/curves.{kind}" for kind in ("png", "pdf", "svg")]
    assert main(["plot", "./nin", "-o", "there", "--format", "png"]) == 0
    assert [path.name for path in (logs / "there").iterdir()] == ["curves.png"]
    assert main(["plot", "nin", "--format", "svg", "-o", "paper"]) == 0
    assert "reported: NiN" in (logs / "paper" / "nin.svg").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["caffe.log", "nin"], 2, "caffe.log and 'nin' have no picture in common"),
        (["caffe.log", "--measured", "x.csv"], 2, "caffe.log and --measured have no picture in common"),
        (["nin", "resnet50", "--measured", "x.csv"], 2, "--measured needs a FAMILY"),
        (["caffe.log", "-o", "x.svg", "--format", "png"], 2, "-o x.svg is a svg"),
        (["resnet-50"], 2, "no figure 'resnet-50' (did you mean 'resnet50'?)"),
        (["other.log"], 1, "other.log: cannot read: No such file"),
        (["a"], 1, "a: cannot read: Is a directory"),
        (["caffe.log", "-o", "/proc/x.svg"], 1, "/proc/x.svg: cannot write"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    logs: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["plot", *words]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"rootgen plot: {message}")
    assert error.count("\n") == 1
