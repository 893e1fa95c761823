"""benchmarks/evidence/transfer.py: its table and curves, what it refuses, and a small run that is killed midway."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from rootgen.cli import main

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "evidence"
pytestmark = pytest.mark.torch


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not SCRIPTS.is_dir():
        pytest.skip("no benchmarks folder beside the tests")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import transfer

    return transfer


def row(plan: str, layers: int, way: str, seed: int, epochs: float, accuracy: float) -> dict[str, object]:  # noqa: PLR0917
    from transfer_runs import COLUMNS

    told = {"plan": plan, "layers": layers, "way": way, "seed": seed, "epochs": epochs, "accuracy": accuracy}
    return {**dict.fromkeys(COLUMNS, ""), **told, "macs": 1000 + layers, "kept": 0.25 if way == "fitted" else ""}


def test_the_table_and_the_curves_are_of_the_csv(transfer: ModuleType, tmp_path: Path) -> None:
    import transfer_report

    rows = [row("Orig.", 0, "trained", 1, 0.0, 0.9), row("root-8", 1, "fitted", 1, 0.0, 0.7)]
    rows += [row("root-8", 2, "fitted", seed, 0.0, 0.5 + seed / 10) for seed in (1, 2)]
    rows += [row("root-8", 2, "scratch", 1, epochs, 0.1 + epochs / 10) for epochs in (0.0, 3.0)]
    path = tmp_path / "transfer.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    transfer_report.write(path)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in path.with_suffix(".md").read_text().splitlines()
    ]
    shown = {(cells[0], cells[2], cells[3]): cells[4:] for cells in lines if len(cells) == 8}
    assert shown["Orig.", "trained", "1,000"] == ["", "", "0.9000 (1)", ""]
    assert shown["root-8", "fitted", "1,002"] == ["25.0%", "", "0.6500 ± 0.0707 (2)", ""]
    assert shown["root-8", "fitted", "1,001"] == ["25.0%", "", "0.7000 (1)", ""]
    assert shown["root-8", "scratch", "1,002"][2:] == ["0.1000 (1)", "0.4000 (1)"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_refusals(transfer: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert transfer.main([str(tmp_path / "out"), "--evidence", str(tmp_path / "none")]) == 1
    assert "settings.json" in caplog.text
    caplog.clear()
    assert transfer.main([str(tmp_path / "out"), "--evidence", str(tmp_path / "none"), "--processes", "2"]) == 1
    assert caplog.text.count("settings.json") == 1
    with pytest.raises(SystemExit) as stopped:
        transfer.main([str(tmp_path), "--evidence", "x", "--ways", "luck"])
    assert stopped.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_small_run_goes_on_after_a_kill(
    transfer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, out = tmp_path / "evidence", tmp_path / "out"
    words = ["--out", str(evidence), "--rows", "Orig.", "--epochs", "0.02", "--batch-size", "50", "--engine", "torch"]
    assert main(["reproduce", "nin", *words]) == 0
    words = [str(out), "--evidence", str(evidence), "--engine", "torch", "--plans", "root-8", "--seeds", "1"]
    words += ["--ways", "fitted,scratch", "--epochs", "0,0.02"]
    process = subprocess.Popen([sys.executable, str(SCRIPTS / "transfer.py"), *words])
    while len(list(out.glob("*/result.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert transfer.main(words) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    rows = list(csv.DictReader((out / "transfer.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 8
    assert {(r["plan"], r["layers"], r["way"]) for r in rows} == {
        ("Orig.", "0", "trained"), ("root-8", "1", "fitted"), ("root-8", "2", "fitted"), ("root-8", "2", "scratch")
    }  # fmt: skip
    assert {(r["epochs"], r["iterations"]) for r in rows} == {("0.0", "0"), ("0.02", "2")}
    assert {r["groups"] for r in rows if r["layers"] == "1"} == {"conv3a=4"}
    rates = {r["way"]: float(r["base_lr"]) for r in rows}
    assert rates["fitted"] == pytest.approx(0.2 * rates["scratch"])
    assert transfer.main([*words, "--fine", "0.5"]) == 1
    import transfer_runs

    with monkeypatch.context() as patched:  # the fit is that of the runs that are done
        patched.setattr(transfer_runs, "with_weights", lambda *_, **__: pytest.fail("cut and fitted again"))
        assert transfer.main([*words[:-1], "0.03", "--ways", "fitted"]) == 0
    starts = [out / f"root-8-2-fitted-seed-1-epochs-{epochs}" / "start.caffemodel" for epochs in ("0", "0.03")]
    assert starts[0].read_bytes() == starts[1].read_bytes()
    rows = list(csv.DictReader((out / "transfer.csv").read_text(encoding="utf-8").splitlines()))
    assert len({(r["kept"], r["fitted"]) for r in rows if r["layers"] == "2" and r["way"] == "fitted"}) == 1
    more = [*words[:-1], "0.04", "--processes", "2", "--mps"]
    assert transfer.main(more) == 0
    rows = list(csv.DictReader((out / "transfer.csv").read_text(encoding="utf-8").splitlines()))
    assert len([r for r in rows if r["epochs"] == "0.04"]) == 4
