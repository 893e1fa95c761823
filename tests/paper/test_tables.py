"""The paper's tables: rows that follow the rule, cells that are what is counted, and the errata page."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.generator import architectures as tables
from rootgen.grouping import Plan
from rootgen.paper import claims, errata
from rootgen.paper import counts as paper
from rootgen.paper import tables as printed

ARCHS = tables.architectures()
ROWS = [(arch, row) for arch in ARCHS for row in ARCHS[arch].groups.rows]
REPORTED = [(arch, row) for arch in ARCHS for row in printed.reported(arch)]


@pytest.mark.parametrize(("arch", "row"), [(arch, row) for arch, row in ROWS if row != tables.ORIGINAL_ROW])
def test_row_of_the_paper_follows_the_rule(arch, row):
    table = ARCHS[arch].groups
    assert table.by_rule(Plan.named(row)) == table.rows[row]


@pytest.mark.parametrize("arch", ARCHS)
def test_root_1_is_a_network_without_groups(arch):
    assert set(ARCHS[arch].groups.by_rule(Plan("root", 1))) == {1}


@pytest.mark.parametrize(("arch", "model"), REPORTED)
def test_cells_as_printed(arch, model):
    row = next(row for row in paper.rows(ARCHS[arch]) if row.model == model)
    assert row.flops_match, (row.counts.flops, row.flops_paper)
    assert row.params_match, (row.counts.params, row.params_paper)


@pytest.mark.parametrize(("arch", "model"), [key for key, row in printed.author_figures().items() if row["flops"]])
def test_whole_numbers_of_the_author(arch, model):
    row = printed.author_figures()[arch, model]
    counts = paper.counted(arch, model)
    assert (str(counts.flops), str(counts.params)) == (row["flops"], row["params"])


@pytest.mark.parametrize(("arch", "row"), REPORTED)
def test_printed_cells_are_the_authors_digits_rounded(arch, row):
    digits = printed.author_figures()[arch, row]
    for column, cell in printed.reported(arch)[row].items():
        name = "top1" if column == "accuracy" else column
        if column in ("model", "flops", "params"):
            continue
        unit = Decimal(1).scaleb(int(Decimal(cell).as_tuple().exponent))
        assert abs(Decimal(digits[name]) - Decimal(cell)) <= unit / 2, (column, cell, digits[name])


def test_resnet200_counted_properly():
    counts = paper.counted("resnet200", "Orig.")
    assert (counts.macs, counts.weights) == (15_007_481_856, 64_497_832)


@pytest.mark.parametrize(
    ("cell", "count", "same"),
    [
        ("2.22", 222_487_946, True),
        ("2.23", 222_487_946, False),
        ("2.2", 224_999_999, True),
        ("2.2", 226_000_000, False),
    ],
)
def test_rounding_to_a_printed_cell(cell, count, same):
    assert paper.rounds_to(count, 8, cell) is same


@pytest.mark.parametrize(
    ("place", "row", "quantity", "verdict"),
    [
        ("abstract", "root-64", "params", "confirmed"),
        ("section 4.3.2", "root-64", "flops", "wrong"),
        ("abstract", "root-8", "cpu_ms", "rounding"),
        ("section 2", "Orig.", "params", "wrong"),
        ("section 4.4", "root-2", "gpu_ms", "wrong"),
        ("section 4.4", "root-2", "top1", "rounding"),
        ("section 4.4", "root-4", "top5", "confirmed"),
        ("section 4.3.1", "Orig.", "convolutions", "wrong"),
        ("section 5", "root-16", "batched_speedup", "open"),
    ],
)
def test_verdict_on_a_claim(place, row, quantity, verdict):
    found = [
        entry.verdict
        for entry in claims.judged()
        if (entry.claim.place, entry.claim.row, entry.claim.quantity) == (place, row, quantity)
    ]
    assert found[:1] == [verdict]


def test_every_claim_is_judged():
    """All but one: section 5's speed-up by batched calls, of which no table and no digit of the author's tells."""
    verdicts = [entry.verdict for entry in claims.judged()]
    assert len(verdicts) == len(printed.claims())
    assert verdicts.count("open") == 1


def test_errata_page_is_current():
    page = Path(__file__).parents[2] / "docs" / "errata.md"
    assert page.read_text("utf-8") == errata.page(), "run: rootgen tables --errata -o docs/errata.md"


def test_tables_check(capsys):
    assert main(["tables", "--check"]) == 0
    said = capsys.readouterr()
    assert "48 cells, 48 met" in said.err
    assert "Table 5: ResNet-200, a miscount" in said.out


def test_tables_check_fails_on_a_cell_that_is_not_met(capsys, monkeypatch):
    cells = {model: dict(row) for model, row in printed.reported("nin").items()}
    cells["root-8"]["params"] = "3.16"
    monkeypatch.setattr(paper, "reported", lambda arch: cells)
    assert main(["tables", "nin", "--check"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == ["10 cells, 9 met", "not met: Table 2 root-8 params"]


def test_tables_as_json(capsys):
    assert main(["tables", "nin", "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    contract = {"table", "model", "flops", "params", "flops_paper", "params_paper", "match"}
    assert {key: first[key] for key in contract} == {
        "table": "Table 2",
        "model": "Orig.",
        "flops": 222_487_946,
        "params": 966_986,
        "flops_paper": "2.22",
        "params_paper": "9.67",
        "match": True,
    }


def test_what_only_the_figures_show_says_where_it_is_from(capsys):
    assert main(["tables"]) == 0
    shown = capsys.readouterr().out
    part = shown.partition("Figs. 5 and 2")[2].partition("\n\n")[0]
    assert printed.AUTHOR in part.splitlines()[0]
    lines = [line.split() for line in part.splitlines()[3:]]
    assert [line[1] for line in lines if line[0] == "NiN"] == [
        "Orig.",
        *(f"{rule}-{n}" for rule in ("column", "tree") for n in (2, 4, 8, 16)),
    ]
    assert lines[0][2:4] == ["0.921125", "0.0013"]
    assert [line[:3] + line[4:5] for line in lines[-3:]] == [
        ["AlexNet", "Orig.", "0.5816", "0.8186"],
        ["AlexNet", "column-1", "0.58196", "0.810339"],
        ["AlexNet", "column-4", "0.5654", "0.8062"],
    ]


def test_the_authors_digits_are_all_there(capsys):
    assert main(["tables", "--author", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(printed.author_figures()) == 35
    assert {row["source"] for row in rows} == {printed.AUTHOR}
    assert main(["tables", "--author", "alexnt"]) == 2
    assert "the author's data has no 'alexnt' (did you mean 'alexnet'?)" in capsys.readouterr().err
    assert main(["tables", "--author", "--check"]) == 2


def test_tables_of_an_architecture_without_results(capsys):
    assert main(["tables", "alexnet"]) == 2
    assert "the paper has no table of results for 'alexnet'" in capsys.readouterr().err


def test_unknown_architecture():
    with pytest.raises(RootgenError, match=r"no architecture 'resnet51' \(did you mean 'resnet50'\?\)"):
        tables.architecture("resnet51")


@pytest.mark.parametrize("words", [["--check"], ["--format", "json"], ["--format", "table"], ["nin"]])
def test_options_that_do_nothing_with_errata_are_wrong_usage(words, capsys):
    assert main(["tables", "--errata", *words]) == 2
    said = capsys.readouterr()
    assert "--errata" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
