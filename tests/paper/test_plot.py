"""Figures of cost against error, and the results they are drawn from."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.figures import save as figures
from rootgen.paper import panels, plot, results
from rootgen.paper.tables import reported

RESULTS = [
    results.RunResult("nin", "Orig.", "fashion-mnist-sample", 1000, 2, 967018, 222_000_000, 0.81, 9.5, "CPU", "torch"),
    replace(
        results.RunResult(
            "nin", "root-4", "fashion-mnist-sample", 1000, 2, 455018, 123_000_000, 0.8, 5.5, "CPU", "torch", 1.9, 1.01
        ),
        loss=0.6,
        train_seconds=12.5,
        versions="rootgen 1, torch 2",
        untrained_score=1.7,
    ),
]


@pytest.mark.parametrize("family", plot.families())
def test_reported_points_are_the_papers_cells(family: str) -> None:
    points = plot.reported(family).points
    printed = reported(family)
    assert list(points)[: len(printed)] == list(printed)
    assert {plot.reported(family).sources[model] for model in list(points)[len(printed) :]} <= {plot.AUTHOR}
    for model, cells in printed.items():
        for column in ("params", "flops"):
            mantissa = points[model][column] / float(cells[column])
            assert np.log10(mantissa) == pytest.approx(round(np.log10(mantissa)))
        assert points[model]["error"] == pytest.approx(100 - 100 * float(cells.get("accuracy") or cells["top5"]))


def test_what_no_table_prints_is_the_authors_and_says_so() -> None:
    """Fig. 5's column and tree families, the spread of Orig. over initialisations, and all of Fig. 2."""
    nin = plot.reported("nin")
    assert nin.points["column-8"] == pytest.approx(
        {"params": 273482, "flops": 100689290, "error": 8.08, "gpu_ms": 0.475046094, "cpu_ms": 23.02796875}
    )
    assert [model for model, source in nin.sources.items() if source == plot.AUTHOR] == [
        f"{rule}-{n}" for rule in ("column", "tree") for n in (2, 4, 8, 16)
    ]
    assert nin.points["Orig."]["deviation"] == pytest.approx(0.13)
    assert nin.title.count("the author's data") == 2
    alexnet = plot.reported("alexnet")
    assert {model: round(point["error"], 4) for model, point in alexnet.points.items()} == {
        "Orig.": 18.14,
        "column-1": 18.9661,
        "column-4": 19.38,
    }
    assert alexnet.points["column-1"]["params"] == 62_378_344  # of BVLC's AlexNet without groups
    assert alexnet.error == "top-5 error (%)"
    assert "Fig. 2: errors the author's data, costs counted here" in alexnet.title


def test_units_of_the_reported_tables_agree_with_the_nets_counted() -> None:
    """Table 2's units are what makes Orig. the 967 thousand parameters and 222 million FLOPs of NiN."""
    assert plot.reported("nin").points["Orig."]["params"] == pytest.approx(967e3)
    assert plot.reported("nin").points["Orig."]["flops"] == pytest.approx(222e6)
    assert plot.reported("resnet50").points["Orig."]["params"] == pytest.approx(25.5e6)


def test_every_family_is_drawn_with_its_points_beside(tmp_path: Path) -> None:
    assert main(["plot", "--out", str(tmp_path), "--format", "png"]) == 0
    for family in plot.families():
        assert (tmp_path / f"{family}.png").read_bytes().startswith(b"\x89PNG")
        with (tmp_path / f"{family}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["model"] for row in rows] == list(plot.reported(family).points)
        assert {row["source"] for row in rows} == {"reported"}


def test_measured_points_stand_in_panels_of_their_own(tmp_path: Path) -> None:
    results.save(tmp_path / "results.csv", RESULTS)
    words = ["plot", "nin", "--measured", str(tmp_path / "results.csv"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".png", ".pdf", ".svg"}
    svg = (tmp_path / "out" / "nin.svg").read_text()
    assert "reported: NiN on CIFAR-10" in svg
    assert "measured: fashion-mnist-sample, 2 epochs, torch on CPU" in svg
    with (tmp_path / "out" / "nin.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["model"], row["error"]) for row in rows[-2:]] == [
        ("measured", "Orig.", "19"),
        ("measured", "root-4", "20"),
    ]
    assert float(rows[-1]["standard_error"]) == pytest.approx(100 * (0.8 * 0.2 / 1000) ** 0.5, rel=1e-4)


def test_the_pareto_front_is_what_none_beats() -> None:
    points = {
        "a": {"params": 1.0, "error": 5.0},
        "b": {"params": 2.0, "error": 6.0},  # a is cheaper and better
        "c": {"params": 3.0, "error": 4.0},
        "d": {"params": 3.0, "error": 4.5},  # as cheap as c, and worse
        "e": {"params": 4.0, "error": 4.0},  # as good as c, and dearer
        "f": {"params": 5.0, "error": 1.0},
    }
    assert panels.front(points, "params") == ["a", "c", "f"]
    assert panels.front(plot.reported("nin").points, "params") == ["tree-16", "tree-8", "column-8", "root-8"]


def test_a_front_is_drawn_as_steps_where_it_says_something(tmp_path: Path) -> None:
    """Not of two models, nor where two sets of points share a panel."""
    plot.draw([plot.reported("nin")], tmp_path, "nin", ["svg"])
    assert "Pareto front" in (tmp_path / "nin.svg").read_text()
    row = plot.reported("nin")
    corners = [(213578, 8.32), (252746, 8.32), (252746, 8.29), (273482, 8.29)]
    assert panels._steps(row, "params")[:4] == [pytest.approx(corner) for corner in corners]
    plot.draw([plot.measured("nin", RESULTS)], tmp_path, "two", ["svg"])
    assert "Pareto front" not in (tmp_path / "two.svg").read_text()
    both = plot.beside(row, plot.measured("nin", replicated()))
    assert both is not None
    assert not panels._steps(both, "params")


def replicated() -> list[results.RunResult]:
    """Three seeds of two rows, Orig.'s spread the larger."""
    moved = {"Orig.": (0.01, -0.01, 0.0), "root-4": (0.001, -0.001, 0.0)}
    return [
        replace(result, seed=seed, accuracy=result.accuracy + moved[result.model][seed - 1])
        for seed in (1, 2, 3)
        for result in RESULTS
    ]


def test_seeds_are_drawn_as_mean_and_standard_deviation() -> None:
    row = plot.measured("nin", replicated())
    assert row.points["root-4"]["error"] == pytest.approx(20)
    assert row.points["root-4"]["deviation"] == pytest.approx(0.1)
    assert row.points["Orig."]["deviation"] == pytest.approx(1)
    assert row.points["Orig."]["n"] == 3
    assert row.title.endswith("bars: ± one standard deviation over 3 seeds")
    mixed = plot.measured("nin", replicated()[:-1])
    assert mixed.title.endswith("over 2–3 seeds")
    assert plot.measured("nin", replicated()[:-3]).title.endswith("over 2 seeds (of a single run one standard error)")


def test_a_difference_is_held_against_the_spread() -> None:
    rows = {row.model: row for row in results.replicates(replicated())}
    assert rows["root-4"].accuracy == pytest.approx(0.8)
    assert results.difference(rows["root-4"], rows["Orig."]) == (pytest.approx(-0.01), True)
    narrow = [replace(one, accuracy=one.accuracy - (0.001 if one.model == "root-4" else 0)) for one in replicated()]
    base, other = results.replicates(narrow)
    assert results.difference(other, base) == (pytest.approx(-0.011), False)
    single = results.replicates(RESULTS)
    assert results.difference(single[1], single[0]) == (pytest.approx(-0.01), None)


def test_measured_over_reported_is_against_their_own_original() -> None:
    both = plot.beside(plot.reported("nin"), plot.measured("nin", RESULTS))
    assert both is not None
    assert both.beneath is not None
    assert both.hollow
    assert both.points["root-4"]["time_ms"] == pytest.approx(5.5 / 9.5)
    assert both.points["root-4"]["error"] == pytest.approx(1)
    assert both.beneath.points["root-4"]["time_ms"] == pytest.approx(27.6 / 39.0)  # Table 2's CPU, as it ran on one
    assert both.beneath.points["root-4"]["error"] == pytest.approx(0.09)
    assert plot.beside(plot.reported("nin"), plot.measured("nin", RESULTS[1:])) is None


def test_several_runs_are_all_shown(tmp_path: Path) -> None:
    other = [replace(result, dataset="cifar10", epochs=3.0) for result in RESULTS]
    words = ["plot", "nin", "--out", str(tmp_path), "--format", "svg"]
    for name, found in (("a.csv", RESULTS), ("b.csv", other)):
        results.save(tmp_path / name, found)
        words += ["--measured", str(tmp_path / name)]
    assert main(words) == 0
    svg = (tmp_path / "nin.svg").read_text()
    assert "measured: fashion-mnist-sample, 2 epochs" in svg
    assert "measured: cifar10, 3 epochs" in svg
    with (tmp_path / "nin.csv").open() as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources[-4:] == ["measured 1", "measured 1", "measured 2", "measured 2"]


@pytest.mark.parametrize(
    ("family", "changed", "message"),
    [
        ("resnet50", {}, "'Orig.' is of the architecture 'nin', not of 'resnet50' .rootgen plot nin --measured"),
        ("nin", {"dataset": "ilsvrc12"}, "measured on 'ilsvrc12', which is not for nin .known: fashion"),
        ("nin", {"model": "column-9"}, "nin has no row 'column-9' .did you mean"),
        ("nin", {"model": "root-5"}, "nin has no row 'root-5' .did you mean"),
    ],
)
def test_results_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, changed: dict[str, str], message: str
) -> None:
    path = tmp_path / "results.csv"
    results.save(path, [replace(RESULTS[0], **changed)])
    assert main(["plot", family, "--measured", str(path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert str(path) in error


def test_a_file_of_two_runs_is_refused() -> None:
    with pytest.raises(RootgenError, match=r"holds several runs: 'Orig.' on 1000 images .*, 'root-4' on 9 images of"):
        plot.measured("nin", [RESULTS[0], replace(RESULTS[1], images=9)])
    again = replace(RESULTS[0], seed=2)
    with pytest.raises(RootgenError, match=r"holds 'Orig\.' twice with seed 2"):
        plot.measured("nin", [RESULTS[0], again, again])
    with pytest.raises(RootgenError, match=r"holds 'Orig\.' twice"):
        plot.measured("nin", [RESULTS[0], RESULTS[0]])


def test_names_that_no_font_has_are_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """pytest makes an error of what matplotlib itself would say, once for each character and place."""
    strange = [replace(result, device="\x1b[31m 中") for result in RESULTS]
    plot.draw([plot.reported("nin"), plot.measured("nin", strange)], tmp_path, "nin", ["svg"])
    assert [message for message in caplog.messages if "font" in message] == [
        "the font lacks 1 of the characters in the names of a figure; boxes stand for them"
    ]
    assert "\\x1b[31m" in (tmp_path / "nin.svg").read_text()


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot.draw([plot.reported("nin")], tmp_path / name, "nin")
    assert {path.suffix for path in (tmp_path / "a").iterdir()} == {".csv", ".png", ".pdf", ".svg"}
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_committed_figures_are_those_of_the_reported_tables(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "plots"
    if not committed.is_dir():
        pytest.skip("no plots folder beside the tests")
    for family in plot.families():
        plot.draw([plot.reported(family)], tmp_path, family, formats=())
        assert (committed / f"{family}.csv").read_text() == (tmp_path / f"{family}.csv").read_text()
        for kind in plot.FORMATS:
            assert (committed / f"{family}.{kind}").is_file()


def test_committed_measurements_are_drawn_as_they_are(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    found, drawn = root / "benchmarks" / "evidence" / "h100" / "results.csv", root / "plots" / "measured" / "nin.csv"
    if not found.is_file() and not drawn.exists():
        pytest.skip("nothing measured is committed")
    plot.draw([plot.reported("nin"), plot.measured("nin", results.load(found), found)], tmp_path, "nin", formats=())
    assert drawn.read_text() == (tmp_path / "nin.csv").read_text()


def test_results_round_trip(tmp_path: Path) -> None:
    results.save(tmp_path / "results.csv", RESULTS)
    loaded = results.load(tmp_path / "results.csv")
    assert loaded[1] == RESULTS[1]
    assert np.isnan(loaded[0].block_score)


END = "1,1,1,3,1,9,torch 2,c,1\n"  # scores, seed and so on of a row
MANY = "9" * 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column model"),
        ("model,params\n", "has no column dataset"),
        (
            ",".join(results.COLUMNS[1:]) + "\nOrig.,x,0,1,1,1,1,1,CPU,torch," + END,
            "accuracy 1 on 0 images",
        ),
        (",".join(results.COLUMNS) + "\n", "holds no results"),
        (
            ",".join(results.COLUMNS) + "\nnin,Orig.,x,1,1,many,1,1,1,CPU,torch," + END,
            "results.csv:2: params is 'many'",
        ),
        (",".join(results.COLUMNS) + "\nnin,Orig.,x\n", "results.csv:2: images is 'None', not a number"),
        (
            ",".join(results.COLUMNS) + "\nnin,Orig.,x,9,1,1,1,2,1,CPU,torch," + END,
            "accuracy 2 on 9 images: a share",
        ),
        (
            ",".join(results.COLUMNS) + "\nnin,Orig.,x,0,1,1,1,1,1,CPU,torch," + END,
            "accuracy 1 on 0 images: a share",
        ),
        *(
            (
                ",".join(results.COLUMNS) + f"\nnin,Orig.,x,9,{cells},CPU,torch," + END,
                rf"results\.csv:2: {name} is .*, but has to be above 0",
            )
            for name, cells in (
                ("epochs", "0,1,1,1,1"),
                ("epochs", "nan,1,1,1,1"),
                ("params", "1,-1,1,1,1"),
                ("macs", "1,1,0,1,1"),
                ("time_ms", "1,1,1,1,inf"),
                ("time_ms", "1,1,1,1,-2"),
            )
        ),
        *(
            (
                ",".join(results.COLUMNS) + f"\nnin,Orig.,x,{cells},CPU,torch," + END,
                rf"results\.csv:2: {name} is '9{{200,}}.* not a number up to 1e\+18",
            )
            for name, cells in (
                ("images", f"{MANY},1,1,1,1,1"),
                ("params", f"9,1,{MANY},1,1,1"),
                ("macs", f"9,1,1,{MANY},1,1"),
            )
        ),
        (",".join(results.COLUMNS) + "\nnin,Orig." + "x" * 200_000 + "\n", r"results\.csv: damaged: field larger"),
    ],
)
def test_bad_results(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(RootgenError, match=message):
        results.load(tmp_path / "results.csv")


def test_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, message in (
        (["resnet5"], 2, "did you mean 'resnet50'?"),
        (["--measured", "x.csv"], 2, "--measured needs a FAMILY"),
        (["nin", "--measured", str(tmp_path / "none.csv")], 1, "cannot read"),
    ):
        assert main(["plot", *words, "--out", str(tmp_path / "out")]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_figure_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RootgenError, match="cannot write"):
        figures.save(figures.new(1, 1), tmp_path / "file", "nin")


def test_one_figure_goes_into_the_file_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "nin", "--out", str(tmp_path / "own.svg")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.csv", "own.svg"]
    assert "<svg" in (tmp_path / "own.svg").read_text()
    (tmp_path / "v2.png").mkdir()  # a folder, whatever it is called
    assert main(["plot", "nin", "--out", str(tmp_path / "v2.png"), "--format", "svg"]) == 0
    assert (tmp_path / "v2.png" / "nin.svg").is_file()
    capsys.readouterr()
    for words, code, message in (
        (["nin", "--out", str(tmp_path / "x.gif")], 1, "cannot draw '.gif' (use .svg, .png or .pdf)"),
        (["nin", "resnet50", "--out", str(tmp_path / "x.png")], 2, "is one file, for one FAMILY"),
        (["--out", str(tmp_path / "x.png")], 2, "is one file, for one FAMILY"),
        (["nin", "--out", str(tmp_path / "x.png"), "--format", "svg", "pdf"], 2, "is a png"),
    ):
        assert main(["plot", *words]) == code
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
