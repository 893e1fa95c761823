"""benchmarks/evidence/on_gpu.py: processes that are stopped, archives of what they made, and going on from those."""

from __future__ import annotations

import importlib
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from rootgen.cli import main
from rootgen.paper import results

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "evidence"
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    if not SCRIPTS.is_dir():
        pytest.skip("no benchmarks folder beside the tests")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def put(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_weights_of_unfinished_runs_come_first_and_what_has_no_room_is_told(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packing = script("packing")
    monkeypatch.setattr(packing, "MOST_BYTES", packing.END + 10_000)
    monkeypatch.setattr(packing, "MOST_MODELS", 2)
    folder = tmp_path / "experiment"
    put(folder / "settings.json", "{}")
    for run in ("orig/seed-1", "orig/seed-2", "root-4/seed-1"):  # a done one, one without correlation, one to go on
        for iteration in (50, 100):
            put(folder / run / f"nin_iter_{iteration}.caffemodel", bytes(4000))
            put(folder / run / f"nin_iter_{iteration}.solverstate", bytes(4000))
    for run in ("orig/seed-1", "orig/seed-2"):
        put(folder / run / "trained.json", json.dumps({"model": "nin_iter_100.caffemodel"}))
    put(folder / "orig/seed-1/correlation/scores.csv", "x\n")
    put(folder / "root-8/seed-1/nin_iter_50.caffemodel", bytes(6000))
    put(folder / "root-8/seed-1/nin_iter_50.solverstate", bytes(6000))  # together too large
    put(folder / "tree-4/seed-1/train_val.prototxt", "")  # hardly begun
    packing.pack(folder, tmp_path / "out")
    assert names(tmp_path / "out/models-1.tar") == [
        "root-4/seed-1/nin_iter_100.solverstate",
        "root-4/seed-1/nin_iter_100.caffemodel",
    ]
    assert names(tmp_path / "out/models-2.tar") == [
        "orig/seed-2/nin_iter_100.caffemodel",
        "orig/seed-1/nin_iter_100.caffemodel",
    ]
    assert all(path.stat().st_size <= packing.MOST_BYTES for path in (tmp_path / "out").iterdir())
    assert {"settings.json", "orig/seed-2/trained.json", "orig/seed-1/correlation/scores.csv"} <= set(
        names(tmp_path / "out/runs.tar.xz")
    )
    assert [message for message in caplog.messages if "left out" in message] == [
        "left out: root-8/seed-1/nin_iter_50.solverstate",
        "left out: root-8/seed-1/nin_iter_50.caffemodel",
    ]


def test_figures_go_before_results_where_all_is_too_large(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = script("packing")
    monkeypatch.setattr(packing, "MOST_BYTES", 2000)
    put(tmp_path / "in/results.csv", "a\n")
    put(tmp_path / "in/plots/nin.png", "a\n")
    put(tmp_path / "in/plots/nin.pdf", os.urandom(3000))
    packing.pack(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out/runs.tar.xz") == ["results.csv", "plots/nin.png"]


@pytest.mark.parametrize("works", [True, False])
def test_mps_is_for_as_long_as_it_works_and_is_wanted(
    works: bool, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = script("mps")
    monkeypatch.setattr(mps, "PROBE", "" if works else "raise SystemExit(1)")
    with mps.daemon() as variables:
        assert variables == {}  # no such program here
    asked = tmp_path / "asked"
    control = put(
        tmp_path / "bin" / mps.CONTROL, f'#!/bin/sh\ntest "$1" = -d || read words\necho "$1$words" >> {asked}\n'
    )
    control.chmod(control.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{control.parent}:/usr/bin:/bin")
    with mps.daemon() as variables:
        assert bool(variables) == works
        assert all(Path(place).is_dir() for place in variables.values())
        assert asked.read_text().splitlines() == (["-d"] if works else ["-d", "quit -t 1"])
    assert asked.read_text().splitlines()[-1] == "quit -t 1"
    assert not any(Path(place).exists() for place in variables.values())


@pytest.mark.torch
def test_an_experiment_that_the_minutes_ended_goes_on_from_its_archives(script: Script, tmp_path: Path) -> None:
    on_gpu = script("on_gpu")
    options = ["--data", "fashion-mnist-sample", "--rows", "root-16", "--epochs", "0.02", "--batch-size", "4"]
    options += ["--images", "4", "--device", "cpu"]
    words = ["--out", str(tmp_path / "out"), "--folder", str(tmp_path / "there"), "--seeds", "1..2", *options]
    assert on_gpu.main([*words, "--processes", "2", "--minutes", "0.02"]) == 0
    assert not (tmp_path / "there/results.csv").exists()
    assert on_gpu.main([*words, "--processes", "2", "--minutes", "5"]) == 0
    (tmp_path / "there/root-16/seed-2/trained.json").unlink()  # as if it had not been finished
    script("packing").pack(tmp_path / "there", tmp_path / "out")
    here = tmp_path / "here"
    for archive in (tmp_path / "out").iterdir():
        with tarfile.open(archive) as tar:
            tar.extractall(here, filter="data")
    words = ["reproduce", "nin", "--out", str(here), "--seeds", "1..2", "--engine", "torch", *options]
    assert main([*words, "--rounds", "1"]) == 0
    then, now = (results.load(tmp_path / place / "results.csv") for place in ("there", "here"))
    assert [(line.model, line.seed, line.accuracy, line.iterations) for line in now] == [
        (line.model, line.seed, line.accuracy, line.iterations) for line in then
    ]
