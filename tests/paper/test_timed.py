"""Tables timed beside the paper's: what is measured, kept, gone on with and shown; never how long anything took."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rootgen.cli import main
from rootgen.engine import machine, place_of, timing
from rootgen.errors import RootgenError
from rootgen.locks import locked
from rootgen.paper import comparison, panels, timed
from rootgen.paper.timed import Measurement, Series, Times

# The least of GoogLeNets: two rows, images of 8 x 8, one at a time.
SMALL = ["reproduce", "googlenet", "--rows", "Orig.,root-16", "--crop", "8", "--batch-size", "1", "--engine", "torch"]
CPU = Series("cpu", "torch", "cpu (a 7, 2 threads)", 32, 224, 3, "torch 2")
GPU = Series("gpu", "torch", "gpu (a 8, TF32 convolutions)", 32, 224, 3, "torch 2")


@pytest.fixture(autouse=True)
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "PASSES", 1)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def small(out: Path, rounds: int = 1) -> Times:
    return Times(
        "googlenet", out, ("Orig.", "root-16"), engine="torch", device="cpu", batch_size=1, crop=8, rounds=rounds
    )


@pytest.mark.torch
def test_the_command_leaves_times_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "--device", "cpu", "--out", str(tmp_path), "--rounds", "2"]
    assert main(words) == 0
    title, header, _, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("GoogLeNet at 8x8: forward, milliseconds per image; CPU: torch on cpu (")
    assert "batches of 1; medians of 2 rounds" in title
    assert title.endswith("the paper's: Table 6")
    assert header.split()[:3] == ["model", "params", "of"]
    assert [line.split()[0] for line in lines[:2]] == ["Orig.", "root-16"]
    assert {path.name for path in (tmp_path / "times").iterdir()} == {
        "googlenet.pdf",
        "googlenet.png",
        "googlenet.svg",
        "orig.prototxt",
        "root-16.prototxt",
        "table.csv",
        "times.csv",
    }
    kept = rows(tmp_path / "times/times.csv")
    assert [(row["round"], row["model"]) for row in kept] == [(n, row) for n in "12" for row in ("Orig.", "root-16")]
    assert {(row["batch"], row["crop"], row["kind"]) for row in kept} == {("1", "8", "cpu")}
    first, second = rows(tmp_path / "times/table.csv")
    assert (first["cpu_share"], second["params_paper"], second["cpu_ms_paper"]) == ("1.0", "1.63", "207")
    assert float(second["cpu_share_paper"]) == pytest.approx(207 / 315)
    assert float(second["cpu_share_low"]) <= float(second["cpu_share"]) <= float(second["cpu_share_high"])
    assert float(second["cpu_ms"]) > 0
    svg = (tmp_path / "times/googlenet.svg").read_text()
    assert "reported: GoogLeNet on ILSVRC (Table 6)" in svg
    assert "errors as reported" in svg
    assert "CPU time: measured (hollow; bars: the range of the rounds) over reported (full)" in svg
    assert main([*words, "--format", "json"]) == 0
    assert rows(tmp_path / "times/times.csv") == kept  # all was measured
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == ["Orig.", "root-16"]


@pytest.mark.torch
def test_rows_of_several_sources_have_the_same_columns(tmp_path: Path) -> None:
    """NiN's root rows have accuracies in Table 2, its columns in the author's data, and root-32 in neither."""
    models = ("Orig.", "root-32", "column-8")
    times = Times("nin", tmp_path, models, engine="torch", device="cpu", batch_size=1, rounds=1)
    cells, _ = comparison.save(times, times.run())
    assert len({tuple(row) for row in cells}) == 1
    found = rows(tmp_path / "times/table.csv")
    assert [row["crop"] for row in found] == ["32"] * 3
    assert [(row["accuracy_paper"], row["top1_paper"]) for row in found] == [(".9211", ""), ("", ""), ("", "0.9192")]


@pytest.mark.torch
def test_what_is_measured_stays_and_is_not_measured_again(tmp_path: Path) -> None:
    times = small(tmp_path, rounds=2)

    def interrupt(what: str, done: int, total: int) -> None:
        assert (what, total) == ("time on the CPU", 4)
        if done == 3:
            raise KeyboardInterrupt

    times.report = interrupt
    with pytest.raises(KeyboardInterrupt):
        times.run()
    kept = timed.read(tmp_path / "times/times.csv")
    assert [(one.round, one.model) for one in kept] == [(1, "Orig."), (1, "root-16"), (2, "Orig.")]
    again = small(tmp_path, rounds=2)
    again.run()
    assert again.measurements[:3] == kept
    assert [(one.round, one.model) for one in again.measurements[3:]] == [(2, "root-16")]
    other = small(tmp_path)
    other.batch_size = 2  # not to be compared with those of 1
    (series,) = other.run()
    assert [one.series.batch for one in other.measurements] == [1, 1, 1, 1, 2, 2]
    assert {row: list(its) for row, its in other.of(series).items()} == {"Orig.": [1], "root-16": [1]}


@pytest.mark.torch
@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"a": 1}', "half"])
def test_damaged_times_are_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | str) -> None:
    small(tmp_path).run()
    file = tmp_path / "times/times.csv"
    damaged = file.read_bytes()[:-70] if isinstance(content, str) else content
    file.write_bytes(damaged)
    assert len(small(tmp_path).run()) == 1
    assert len(timed.read(file)) == 2
    assert (tmp_path / "times/times.damaged.csv").read_bytes() == damaged
    assert any(message.startswith(f"{file}") and "no times, or damaged" in message for message in caplog.messages)


@pytest.mark.torch
def test_a_row_that_cannot_run_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Want of memory cannot be had at will: the engine's word for it stands in."""
    measure = timing.measure
    asked: list[str] = []

    def measured(net: Path, **options: object) -> timing.Timing:
        asked.append(net.stem)
        if net.stem == failing:
            raise RootgenError("out of memory: 24 GiB")
        return measure(net, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(timing, "measure", measured)
    failing = "orig"
    times = small(tmp_path, rounds=2)
    found = times.run()
    assert asked == ["orig", "root-16", "root-16"]  # what fails once is not tried again
    assert times.skipped == {"Orig. on the CPU": "out of memory: 24 GiB"}
    assert "Orig. on the CPU is skipped: out of memory: 24 GiB" in caplog.messages
    (record,), table = comparison.save(times, found)
    assert (record["model"], record["cpu_share"], record["params_share"]) == ("root-16", None, None)
    assert "of Orig." not in table.header
    times = small(tmp_path / "none")
    times.rows = ("Orig.",)
    with pytest.raises(RootgenError, match="out of memory"):
        times.run()


def made_up(tmp_path: Path, arch: str, **milliseconds: dict[str, list[float]]) -> Times:
    """Times of rows by round, of CPU and GPU."""
    series = {"cpu": CPU, "gpu": GPU}
    measurements = [
        Measurement(arch, row, turn, ms, series[kind])
        for kind, its in milliseconds.items()
        for row, found in its.items()
        for turn, ms in enumerate(found, 1)
    ]
    return Times(arch, tmp_path, tuple(next(iter(milliseconds.values()))), measurements=measurements)


def test_shares_are_of_the_same_round(tmp_path: Path) -> None:
    times = made_up(tmp_path, "googlenet", cpu={"Orig.": [10, 20, 40], "root-16": [5, 12, 28]})
    rows = comparison.compare(times, [CPU])
    assert rows[1].times["cpu"] == comparison.Spread(12, 5, 28)
    assert rows[1].shares["cpu"] == comparison.Spread(0.6, 0.5, 0.7)
    assert rows[1].reported_share("params") == pytest.approx(1.63 / 1.88)
    assert (rows[1].counts.weights, rows[1].counts.macs) == (16308968, 756875328)
    table = comparison.table(times, [CPU], comparison.records(times, [CPU], rows))
    cells = list(zip(table.header, table.rows[1], strict=True))
    assert cells[1:4] == [("params", "16.31M"), ("of Orig.", "0.867"), ("paper's", "0.867")]
    assert cells[7:12] == [
        ("CPU ms", "12"),
        ("of Orig.", "0.600"),
        ("from", "0.500"),
        ("to", "0.700"),
        ("paper's", "0.657"),
    ]
    assert cells[12:] == [("paper's top-1", ".683"), ("paper's top-5", ".886")]


def test_a_gpu_has_columns_and_panels_of_its_own(tmp_path: Path) -> None:
    its = {"Orig.": [10.0, 11.0], "root-64": [5.0, 5.5]}
    times = made_up(tmp_path, "resnet50", cpu=its, gpu={"Orig.": [1.0, 1.0], "root-64": [0.9, 0.8]})
    rows = comparison.compare(times, [CPU, GPU])
    (_, record) = comparison.records(times, [CPU, GPU], rows)
    assert (record["gpu_share"], record["gpu_ms_paper"], record["cpu_share"]) == (pytest.approx(0.85), "10.2", 0.5)
    assert (record["gpu_device"], record["cpu_device"]) == (GPU.device, CPU.device)
    drawn: list[panels.PanelRow] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "draw", lambda shown, *_: drawn.extend(shown))
        comparison.draw(times, [CPU, GPU], rows, ())
    reported, measured, cpu, gpu = drawn
    assert reported.title.startswith("reported: ResNet-50")
    assert measured.points["root-64"] == {"cpu_ms": 5.25, "gpu_ms": pytest.approx(0.85), "error": pytest.approx(8.5)}
    assert cpu.points["root-64"]["error"] == 0.5
    assert gpu.points["root-64"]["low"] == 0.8
    assert gpu.beneath is not None
    assert gpu.beneath.points["root-64"]["error"] == pytest.approx(10.2 / 11.6)


@pytest.mark.parametrize(("arch", "note"), [("resnet200", comparison.MISCOUNT), ("resnet101", "the same round")])
def test_what_the_paper_does_not_tell_is_left_out(tmp_path: Path, arch: str, note: str) -> None:
    times = made_up(tmp_path, arch, cpu={"Orig.": [10], "root-64": [5]})
    rows = comparison.compare(times, [CPU])
    table = comparison.table(times, [CPU], comparison.records(times, [CPU], rows))
    assert str(table.title).endswith(note)
    assert list(table.header).count("paper's") == (2 if arch == "resnet200" else 0)  # times are nowhere told
    assert 0.51 < rows[1].counts.macs / rows[0].counts.macs < 0.53
    if arch == "resnet200":
        assert rows[1].reported_share("flops") == pytest.approx(4.13 / 5.65)


def test_batches_are_the_papers_as_far_as_memory_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = {arch: timed.paper_batch(arch) for arch in ("alexnet", "nin", "resnet50", "resnet101", "resnet200")}
    assert told == {"alexnet": 32, "nin": 32, "resnet50": 10, "resnet101": 10, "resnet200": 10}
    assert timed.paper_batch("googlenet") == 32
    times = Times("resnet200", tmp_path, ("Orig.", "root-64"), engine="torch", device="cpu")
    times._emit()
    monkeypatch.setattr(machine, "memory", lambda: 24 * 2**30)
    assert times._batch("cpu") == 10  # which took 2.7 GiB of blobs
    assert not caplog.messages
    monkeypatch.setattr(machine, "memory", lambda: 6 * 2**30)
    assert times._batch("cpu") == 4
    assert caplog.messages == ["resnet200: batches of 4, as 10 do not fit into half of the memory"]
    monkeypatch.setattr(machine, "memory", lambda: 2**20)
    assert times._batch("cpu") == 1
    assert machine.memory() == 2**20


@pytest.mark.torch
def test_minutes_end_it_and_what_was_measured_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place_of("torch", "cpu")  # PyTorch is imported: a half of it would stay in this process
    words = [*SMALL, "--device", "cpu", "--out", str(tmp_path), "--rounds", "100000", "--minutes", "0.1"]
    assert main(words) == 130
    error = capsys.readouterr().err
    assert "--minutes 0.1 are over" in error
    assert f"{tmp_path / 'times'}: stopped; the same command goes on from here" in error
    assert not (tmp_path / "times/table.csv").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--rows", "root-3"], 2, "googlenet has no row 'root-3' (did you mean"),
        (["--seeds", "1..3"], 2, "--seeds is for a training (--data says on what)"),
        (["--epochs", "3"], 2, "--epochs is for a training (--data says on what)"),
        (["--images", "9"], 2, "--images is for a training (--data says on what)"),
        (["--full"], 2, "googlenet is trained on ILSVRC: say where it is (--data DIR)"),
        (["--source", "x"], 2, "googlenet is trained on ILSVRC: say where it is (--data DIR)"),
        (["--device", "tpu"], 1, "no device 'tpu'"),
        (["--crop", "1"], 1, "googlenet original: layer 'loss1/ave_pool'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.torch
def test_wrong_words_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["reproduce", "googlenet", "--engine", "torch", "--out", str(tmp_path / "new"), *words]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "times").mkdir()
    (tmp_path / "times/notes.txt").touch()
    with pytest.raises(RootgenError, match=r"times: holds something else than times \(give another --out\)"):
        small(tmp_path).run()
    timed.save(tmp_path / "other/times/times.csv", [Measurement("resnet50", "Orig.", 1, 2.5, CPU)])
    with pytest.raises(RootgenError, match="other: is of resnet50, not of googlenet"):
        small(tmp_path / "other").run()
    (tmp_path / "nin").mkdir()
    (tmp_path / "nin/settings.json").write_text('{"arch": "nin"}')
    with pytest.raises(RootgenError, match="nin: is of nin, not of googlenet"):
        small(tmp_path / "nin").run()


@pytest.mark.torch
def test_what_a_kill_leaves_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "times").mkdir()
    for name in (".lock", "orig.prototxt", ".times.csv.x.partial", "times.damaged.csv"):
        (tmp_path / "times" / name).write_text("process 1 on here\n")
    assert len(small(tmp_path).run()) == 1


def test_one_process_times_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "times/.lock", "times"),
        pytest.raises(RootgenError, match=r"times: process \d+ on .* is at work on it"),
    ):
        small(tmp_path).run()


def test_times_round_trip(tmp_path: Path) -> None:
    found = [Measurement("googlenet", "Orig.", 1, 2.5, CPU), Measurement("googlenet", "root-16", 1, 0.125, GPU)]
    timed.save(tmp_path / "times.csv", found)
    assert timed.read(tmp_path / "times.csv") == found
