"""The page of an experiment: of whole folders, of unfinished and damaged ones, of a stranger's."""

from __future__ import annotations

import argparse
import base64
import json
import re
import shlex
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rootgen.cli import main
from rootgen.cli.commands import reproduce
from rootgen.engine.train_log import FIXED
from rootgen.errors import RootgenError
from rootgen.generator.architectures import row_folder
from rootgen.paper import page, report, results
from rootgen.paper.evidence import gather
from rootgen.paper.findings import Findings
from rootgen.paper.run import Settings
from rootgen.text import Table

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>%s</title></svg>'
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
EVIL = "</td><script>alert('1')</script>\x1b[31m | `x` ![](http://a/b)"
ROWS = {"Orig.": 0.92, "root-4": 0.918, "root-8": 0.921, "column-8": 0.915, "tree-8": 0.9}
SEEDS = (1, 2, 3)


def runs() -> list[results.RunResult]:
    """Three seeds of five rows; tree-8 is far from Orig., the others are not."""
    return [
        results.RunResult(
            *("nin", row, "fashion-mnist", 10_000, 3.0, 900_000 - 100_000 * i, 2 * 10**8 - 10**7 * i),
            *(accuracy + moved, 9.0 - i, "cpu (a CPU)", "torch", 1.5 if i else results.NAN, 1.0 if i else results.NAN),
            *(seed, 20, 0.25, 60.0, "rootgen 0.1.0, torch 2", "0123abc"),
        )
        for i, (row, accuracy) in enumerate(ROWS.items())
        for seed, moved in zip(SEEDS, (0.002, -0.002, 0.0), strict=True)
    ]


def write_log(path: Path) -> None:
    lines = [",".join([*FIXED, "loss", "accuracy"])]
    for i in range(20):
        lines += [f"{i},test,{i},,,,,,0.4,0.{80 + i}"] if i % 10 == 0 else []
        lines.append(f"{i},train,{i},0.1,{3 - i / 10},{3 - i / 10},90,0,2,")
    path.write_text("\n".join(lines) + "\n")


def parsed(words: list[str]) -> Settings:
    """The settings that a command line of `rootgen reproduce` asks for."""
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    return reproduce.settings(parser.parse_args(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an experiment leaves, but for what the page does not read."""
    out = tmp_path / "evidence"
    for row in ROWS:
        for seed in SEEDS:
            run = out / row_folder(row) / f"seed-{seed}"
            run.mkdir(parents=True)
            write_log(run / "nin_log.csv")
            (run / "trained.json").write_text("{}")
    settings = parsed(["nin", "--data", "fashion-mnist", "--source", "/else/where/images", "--epochs", "3"])
    (out / "settings.json").write_text(json.dumps(asdict(settings)))
    results.save(out / "results.csv", runs())
    (out / "times.json").write_text(json.dumps(dict.fromkeys(ROWS, 1.5)))
    (out / "plots").mkdir()
    (out / "plots" / "nin.svg").write_bytes(SVG % b"costs")
    (out / "plots" / "nin.png").write_bytes(PNG)
    (out / "plots" / "nin_correlation.png").write_bytes(PNG)
    return out


class Reader(HTMLParser):
    """Headings, cells of tables, pictures and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.images += [value or "" for name, value in attrs if (tag, name) == ("img", "src")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag in ("h2", "td", "li", "p", "pre", "figcaption"):
            self.words.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1] if self.tags else ""
        if tag in self.words and data.strip():
            self.words[tag][-1] += data


def read(folder: Path) -> Reader:
    path = report.write(folder)
    assert path == folder / "report.html"
    return Reader(path.read_text())


def test_a_finished_experiment_is_one_file_that_needs_no_other(folder: Path) -> None:
    found = read(folder)
    assert found.words["h2"] == [
        *("The question", "Accuracy", "Cost", "Figures", "Training", "Filter correlation", "How it was made"),
    ]
    assert found.tags.count("table") == 6
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert len(found.images) == 5  # costs; loss, test loss and accuracy; correlation
    assert all(re.match(r"data:image/(png|svg\+xml);base64,[\w+/=]+$", image) for image in found.images)
    assert base64.b64decode(found.images[0].partition(",")[2]) == SVG % b"costs"
    assert found.words["figcaption"] == [
        *("plots/nin.svg", "training loss", "test loss", "test accuracy", "plots/nin_correlation.png"),
    ]
    text = (folder / "report.html").read_text()
    assert 'name="viewport"' in text and "@media print" in text and "@media (max-width" in text
    assert "/else/where" not in text
    assert text.count("http:") == text.count("https:") == 0


def test_the_paper_stands_beside_what_was_measured() -> None:
    compared = Findings(None, results.replicates(runs()))
    assert [row[1] for row in compared.accuracies().rows] == ["-"] * 5  # of no architecture that the paper has


def cells(table: Table) -> dict[str, list[str]]:
    return {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}


def test_differences_come_with_their_spread_and_p(folder: Path) -> None:
    found = gather(folder)
    compared = Findings(found.arch, results.replicates(found.results))
    table = cells(compared.accuracies())
    assert table["Orig."] == [".9211", "-", "0.9200", "0.0020", "3", "-", "-", "-"]
    assert table["root-8"] == [".9215", "+0.0004", "0.9210", "0.0020", "3", "+0.0010", "yes", "0.57"]
    assert table["column-8"][:2] == ["0.9192*", "-0.0019"]
    assert table["column-8"][5:7] == ["-0.0050", "no"]
    assert float(table["tree-8"][7]) < 0.001
    said = compared.answers()
    assert said[0] == (
        "Accuracy: 2 of 4 variants are within the spread of seeds of Orig. (root-4, root-8); Welch's t-test at 5% "
        "tells 2 apart from it (column-8, tree-8)."
    )
    assert (
        said[1]
        == "Cost: tree-8 has 56% of the parameters, 80% of the multiply-adds and 56% of the forward time of Orig."
    )
    assert said[2].startswith(
        "Order: Spearman's rank correlation of the measured accuracies with the paper's is +1.00, p = 0.017"
    )
    assert said[3].endswith(
        "correlate 1.50 times as much inside the group blocks as outside; 1.00 times in Orig. by the same groups."
    )
    notes = compared.notes()
    assert any("not corrected for 4 comparisons" in note and "0.013" in note for note in notes)
    assert any("0.0013" in note for note in notes)
    assert notes[-1].startswith("*: the author's thesis data")
    costs = cells(compared.costs())
    assert costs["root-4"] == ["800,000", "88.9%", "190.0M", "95.0%", "8", "88.9%", "70.8%", "77.0%"]
    assert costs["tree-8"][-2:] == ["66.0%*", "80.2%*"]


def test_a_single_seed_tells_no_spread_and_says_so(folder: Path) -> None:
    results.save(folder / "results.csv", [run for run in runs() if run.seed == 1])
    compared = Findings(gather(folder).arch, results.replicates(gather(folder).results))
    assert {row[-1] for row in compared.accuracies().rows} == {row[-2] for row in compared.accuracies().rows} == {"-"}
    assert "One run of each tells no spread" in compared.answers()[0]


def test_many_rows_are_drawn_by_topology(folder: Path) -> None:
    for row in ("root-2", "root-16", "column-2", "tree-2"):
        run = folder / row / "seed-1"
        run.mkdir(parents=True)
        write_log(run / "nin_log.csv")
    found = read(folder)
    assert [words for words in found.words["figcaption"] if "training" in words] == [
        f"training loss, {kind}" for kind in ("root", "column", "tree")
    ]


def test_markdown_has_its_pictures_beside_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "elsewhere" / "page.md"
    assert main(["report", str(folder), "--format", "markdown", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text()
    assert "| root-8 | .9215 | +0.0004 | 0.9210 | 0.0020 | 3 | +0.0010 | yes | 0.57 |" in text
    assert "    rootgen reproduce nin --out evidence --data fashion-mnist" in text
    pictures = re.findall(r"!\[[^\]]*\]\(<([^>]+)>\)", text)
    assert len(pictures) == 5
    assert {str(path.relative_to(out.parent)) for path in (out.parent / "page_files").iterdir()} == set(pictures)
    assert (out.parent / "page_files" / "plots-nin.svg").read_bytes() == SVG % b"costs"


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_the_command_leads_to_the_same_experiment(folder: Path, precision: str) -> None:
    """What the page says to run is parsed as the command line is: settings, rows and seeds are those of the folder."""
    settings = json.loads((folder / "settings.json").read_text()) | {"precision": precision}
    (folder / "settings.json").write_text(json.dumps(settings))
    (line,) = [line for line in report._commands(gather(folder))[1].lines if "reproduce" in line]  # type: ignore[union-attr]
    assert ("--precision" in line) == (precision != "fp32")
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    words = shlex.split(line)
    assert words[:2] == ["rootgen", "reproduce"]
    args = parser.parse_args(words[2:])
    there = json.loads((folder / "settings.json").read_text())
    assert args.source == "DIR"
    assert asdict(reproduce.settings(args)) | {"source": there["source"]} == there
    assert (args.out, args.rows, args.seeds) == ("evidence", ",".join(ROWS), SEEDS)


@pytest.mark.parametrize(
    "words",
    [
        ["nin"],
        ["nin", "--full"],
        ["nin", "--full", "--data", "fashion-mnist"],
        ["nin", "--epochs", "0.5", "--batch-size", "32"],
        ["nin", "--epochs", "12345.678", "--crop", "8"],
        ["nin", "--data", "cifar10"],
    ],
)
def test_what_was_asked_for_is_what_the_page_says_to_ask_for(folder: Path, words: list[str]) -> None:
    found = gather(folder)
    found.settings = asdict(parsed(words))
    asked = report._asked(found)
    assert asdict(parsed(["nin", *asked])) == found.settings
    assert asked[-4:] == ["--rows", ",".join(ROWS), "--seeds", "1..3"]


def test_images_that_came_as_lmdbs_are_asked_for_by_their_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train_lmdb", "test_lmdb"):
        (tmp_path / "DIR/ours" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = gather(folder)
    found.settings = asdict(parsed(["resnet50", "--data", "DIR/ours"]))
    assert asdict(parsed(["resnet50", *report._asked(found)])) == found.settings
    assert report._commands(found)[-1] == "DIR holds the folder ours, of the images as LMDBs."


def test_an_unfinished_experiment_says_what_is_missing(folder: Path) -> None:
    results.save(folder / "results.csv", [run for run in runs() if (run.model, run.seed) < ("root-8", 2)])
    (folder / "root-8/seed-2/trained.json").unlink()
    (folder / "root-8/seed-2/solver.prototxt").write_text("net: 'n' max_iter: 78")
    (folder / "root-8/seed-3/trained.json").unlink()
    (folder / "root-8/seed-3/nin_log.csv").unlink()
    (folder / "tree-8/seed-3/correlation").mkdir()
    (folder / "tree-8/seed-3/correlation/scores.csv").touch()
    (folder / "column-8/seed-2/nin_log.csv").unlink()
    (folder / "column-8/seed-2/trained.json").unlink()
    (folder / "column-8/seed-2").rmdir()
    for path in ((folder / "times.json"), *(folder / "plots").iterdir()):
        path.unlink()
    found = read(folder)
    assert "What is missing" in found.words["h2"]
    assert "The experiment is not finished, or not whole: see what is missing." in found.words["p"]
    assert set(gather(folder).missing) == {
        "root-8 seed 2 is not finished: iteration 20 of 78.",
        "root-8 seed 3 is begun, but not trained.",
        *(f"tree-8 seed {seed} is trained, but not correlated." for seed in (1, 2)),
        "tree-8 seed 3 is finished, but not put into results.csv.",
        "column-8 has no run of seed 2.",
        "times.json is not there: the nets were not timed.",
        "plots/ has no figure yet: they are drawn when the runs are finished.",
    }


def test_of_a_folder_that_was_just_begun_there_is_a_page(folder: Path) -> None:
    for path in ("results.csv", "times.json", "plots"):
        (folder / path).rename(folder.parent / path)
    found = read(folder)
    assert found.words["h2"] == ["The question", "Training", "What is missing", "How it was made"]
    assert "results.csv is not there yet." in gather(folder).missing


TIMES = """\
architecture,model,params,params_share,flops_share_paper,cpu_ms,cpu_share,cpu_share_paper,cpu_device,crop,top1_paper
resnet50,Orig.,25502912,1.0,1.0,400.123,1.0,1.0,cpu (a CPU),224,.730
resnet50,root-64,15365928,0.6025,0.5466,300.456,0.7509,0.6860,cpu (a CPU),224,
"""


def test_what_was_timed_alone_has_its_table_and_figure(tmp_path: Path) -> None:
    """ResNet-50 and its kin, which are not trained."""
    (tmp_path / "times").mkdir()
    (tmp_path / "times" / "table.csv").write_text(TIMES)
    (tmp_path / "times" / "resnet50.png").write_bytes(PNG)
    found = read(tmp_path)
    assert found.words["h2"] == ["The question", "Cost", "Figures", "How it was made"]
    assert gather(tmp_path).missing == []
    timed = gather(tmp_path).timed
    assert timed is not None
    heads = ["row", "parameters", "share", "paper's", "CPU ms", "share", "paper's", "paper's top-1"]
    assert (timed.header, timed.rows[1]) == (
        heads,
        ["root-64", "15,365,928", "60.2%", "54.7%", "300.5", "75.1%", "68.6%", "-"],
    )
    assert timed.title == "forward, per image; shares of Orig.; cpu device: cpu (a CPU); crop: 224"
    assert any("rootgen reproduce resnet50 --out" in words for words in found.words["pre"])
    (tmp_path / "times" / "table.csv").write_text(TIMES[:-30])
    with pytest.raises(RootgenError, match="holds no experiment"):
        gather(tmp_path)


@pytest.mark.parametrize(
    "name", ["settings.json", "results.csv", "times.json", "root-8/seed-1/nin_log.csv", "plots/nin.svg"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"\0\0\0", b"a,b\n1,2\n", b"\xff\xfe"])
def test_what_is_damaged_is_told_and_left_out(
    folder: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / name).write_bytes(content)
    found = gather(folder)
    assert sum(message.startswith(f"{folder / name}: ") for message in caplog.messages) == 1
    assert sum(words.startswith(f"{name} is left out: ") for words in found.missing) == 1
    assert found.results or name == "results.csv"


def test_hostile_names_are_words(folder: Path) -> None:
    (folder / "settings.json").write_text(json.dumps({"arch": EVIL, EVIL: [EVIL], "source": EVIL}))
    hostile = [replace(run, model=EVIL, dataset=EVIL, device=EVIL, versions=EVIL, architecture=EVIL) for run in runs()]
    results.save(folder / "results.csv", hostile)
    (folder / "times.json").write_text(json.dumps({EVIL: 1.0}))
    (folder / "times").mkdir()
    (folder / "times/table.csv").write_text(f'model,cpu_device\n"{EVIL}","{EVIL}"\n')
    strange = folder / "<b>$x$" / "seed-1"
    strange.mkdir(parents=True)
    header = ",".join([*FIXED, '"<i>loss\x07"'])
    (strange / "a_log.csv").write_text(f"{header}\n0,test <u>,1,,,,,,5\n1,test <u>,1,,,,,,6\n")
    (folder / "plots" / "<s>&.svg").write_bytes(SVG % b"<script>alert(1)</script>")
    found = read(folder)
    assert not {"script", "b", "i", "u", "s"} & set(found.tags)
    text = (folder / "report.html").read_text()
    assert "<script" not in text.lower() and "\x1b" not in text and "\x07" not in text
    report.write(folder, format="markdown")
    plain = (folder / "report.md").read_text()
    assert "<script" not in plain.replace(r"\<", "") and "\x1b" not in plain
    assert "![](http" not in plain
    assert all(
        ".." not in name and "/" not in name for name in (path.name for path in (folder / "report_files").iterdir())
    )


def test_a_picture_that_is_too_large_or_none_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plots" / "notes.png").write_text("no picture")
    monkeypatch.setattr("rootgen.paper.evidence.MOST_IMAGE", len(PNG))
    found = gather(folder)
    assert [image.name for image in (*found.figures, *found.correlation)] == ["plots-nin_correlation"]
    assert sorted(found.missing) == [
        "plots/nin.svg is left out: 0 MiB are too large for such a file (at most 0 MiB).",
        "plots/notes.png is left out: is no picture.",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.mkdir(), "holds no experiment"),
        (lambda path: path.write_text(""), "is no folder"),
    ],
)
def test_what_is_no_experiment_is_one_line(
    tmp_path: Path, make: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    assert main(["report", str(tmp_path / "x")]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"rootgen report: {tmp_path / 'x'}: {message}")
    assert not (tmp_path / "x" / "report.html").exists()


def test_a_page_goes_to_stdout_and_nowhere_that_cannot_be_written_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder), "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>\n")
    assert main(["report", str(folder), "-o", "-", "--format", "markdown"]) == 2
    assert "no room for the pictures" in capsys.readouterr().err
    for place in ("/proc/x.html", str(folder / "plots")):
        assert main(["report", str(folder), "-o", place]) == 1
        assert f"rootgen report: {place}: cannot write: " in capsys.readouterr().err
    assert main(["report", str(folder), "-o", "/proc/x.md", "--format", "markdown"]) == 1
    assert not (folder / "report.html").exists()


def test_names_of_pictures_are_told_apart() -> None:
    pictures = [page.Image("a/b", "png", PNG + bytes([n]), "") for n in range(3)]
    names = page.file_names(page.Page("", "", [page.Section("", [page.Gallery(pictures)])]))
    assert len(set(names.values())) == 3
    with pytest.raises(RootgenError):
        page.inside(Path("x"), "../y")
