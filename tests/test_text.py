"""Tables in every form, and words for quantities."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest

from rootgen.text import Table, quantity, table

ROWS = [["conv_1|a", "1,024", "x"], ["<b>&", "-", "3 of 4"]]
TABLE = Table(["layer", "params", "what"], ROWS, "A <title>")


def test_plain_aligns_numbers_right_and_ends_no_line_with_spaces() -> None:
    assert TABLE.plain() == (
        "A <title>\nlayer     params  what\n--------  ------  ------\nconv_1|a   1,024  x\n<b>&           -  3 of 4\n"
    )
    assert table(TABLE.header, iter(ROWS), title=TABLE.title) == TABLE.plain() == f"{TABLE}\n"


def test_markdown_escapes_what_would_end_a_cell_or_begin_markup() -> None:
    assert TABLE.markdown() == (
        "**A \\<title\\>**\n\n| layer | params | what |\n|---|---:|---|\n"
        "| conv\\_1\\|a | 1,024 | x |\n| \\<b\\>& | - | 3 of 4 |\n"
    )


def test_csv_reads_back() -> None:
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [TABLE.header, *ROWS]


def test_html_is_well_formed_and_holds_every_cell() -> None:
    root = ElementTree.fromstring(TABLE._repr_html_())
    assert [[cell.text for cell in row] for row in root.iter("tr")] == [TABLE.header, *ROWS]
    assert root.findtext("caption") == "A <title>"
    assert ["right" in cell.get("style", "") for cell in next(root.iter("tr"))] == [False, True, False]


def test_a_table_without_rows_is_its_header() -> None:
    empty = Table(["layer", "params"], [])
    assert empty.plain() == "layer  params\n-----  ------\n"
    assert empty.markdown() == "| layer | params |\n|---|---:|\n"
    assert empty.csv() == "layer,params\n"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (1184, "1,184"),
        (455_498, "455 k"),
        (999_600, "1 M"),
        (103_342_080, "103 M"),
        (2_114_000_000, "2.11 G"),
        (10**18, "1000 P"),
    ],
)
def test_quantities_have_three_digits_and_a_unit(count: int, words: str) -> None:
    assert quantity(count) == words
